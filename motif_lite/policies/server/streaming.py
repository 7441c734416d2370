"""A reply that a server sends in pieces."""

from collections.abc import Callable, Sequence
from typing import Literal

from motif_lite.policies.server import formats
from motif_lite.policies.server.formats import Malformed, Piece

_LONGEST = 1 << 24
"""Characters."""


class StreamedReply:
    """What has come of a reply.

    Args:
        stop: Texts that end it; they belong to it.
        tell: Given the text as it comes, less what may turn out to come after the end.
    """

    def __init__(self, stop: Sequence[str], tell: Callable[[str], None]) -> None:
        self._stop, self._tell = stop, tell
        self._held_back = max((len(text) - 1 for text in stop), default=0)
        self._told, self._is_over = 0, False
        self.text = ""
        self.num_tokens: int | None = None
        self.finish: Literal["stop", "length"] = "stop"

    def add(self, piece: Piece) -> bool:
        """Take the next piece; whether more is wanted.

        Raises:
            Malformed: The server reports an error in the middle, or the reply is longer than any may be.
        """
        if piece.error is not None:
            raise Malformed(f"an error in the middle of a reply: {formats.shown(str(piece.error).encode())}")
        self.num_tokens = formats.num_tokens(piece.usage) or self.num_tokens
        for choice in piece.choices[:1]:
            self._write(formats.readable(choice.delta.content or ""))
            if choice.finish_reason is not None:
                self.finish = formats.finish(choice.finish_reason)
        return not self._is_over

    def end(self) -> None:
        """Nothing more comes."""
        self._pass_on(len(self.text))

    def _write(self, new: str) -> None:
        seen = max(0, len(self.text) - self._held_back)
        self.text += new
        if len(self.text) > _LONGEST:
            raise Malformed(f"a reply of more than {_LONGEST:,} characters")
        ends = [place + len(stop) for stop in self._stop if (place := self.text.find(stop, seen)) >= 0]
        self._is_over = bool(ends)
        if ends:
            self.text, self.finish = self.text[: min(ends)], "stop"
        self._pass_on(len(self.text) - (0 if ends else self._held_back))

    def _pass_on(self, upto: int) -> None:
        if upto > self._told:
            self._tell(self.text[self._told : upto])
            self._told = upto
