"""A trajectory as it is written, split into what is thought and what is answered."""

from dataclasses import dataclass
from typing import Literal

from motif_lite.rollout import reply_format

_OPENS, _CLOSES = "<answer>", "</answer>"


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of a message."""

    kind: Literal["reasoning", "content"]
    text: str


class Splitter:
    """Rounds in, pieces out: all rounds are reasoning, but the answer section of the last one."""

    def __init__(self) -> None:
        self._is_last = self._has_begun = False
        self._held = ""
        self._sent = ""
        self._state: Literal["before", "in", "behind"] = "before"

    def round(self, number: int, num_rounds: int) -> list[Delta]:
        """A round begins."""
        self._is_last, self._held, self._state = number == num_rounds, "", "before"
        heading = f"Round {number} of {num_rounds}\n\n" if num_rounds > 1 else ""
        parted, self._has_begun = self._has_begun, True
        return _delta("reasoning", ("\n\n" if parted else "") + heading)

    def text(self, piece: str | None) -> list[Delta]:
        """The round goes on; None: it has ended."""
        if not self._is_last:
            return _delta("reasoning", piece or "")
        self._held += piece or ""
        found: list[Delta] = []
        if self._state == "before":
            before, opens, rest = self._held.partition(_OPENS)
            keep = 0 if opens or piece is None else _held_back(before, _OPENS)
            found += _delta("reasoning", before[: len(before) - keep])
            self._held = rest if opens else before[len(before) - keep :]
            self._state = "in" if opens else "before"
        if self._state == "in":
            inside, closes, _ = self._held.partition(_CLOSES)
            inside = inside if self._sent else inside.lstrip()
            keep = 0 if closes else _held_back(inside, _CLOSES)
            inside, self._held = inside[: len(inside) - keep], inside[len(inside) - keep :]
            trailing = len(inside) - len(inside.rstrip())  # may turn out to be the end
            self._held = inside[len(inside) - trailing :] + self._held
            found += self._content(inside[: len(inside) - trailing])
            self._state = "behind" if closes else "in"
        return found

    def end(self, final: str) -> list[Delta]:
        """The trajectory is complete.

        Args:
            final: Its final text: what it passes on is the answer, wherever it stands.
        """
        answer = reply_format.progress(final)
        if answer.startswith(self._sent):
            return self._content(answer[len(self._sent) :])
        return self._content("\n\n" + answer)

    def _content(self, text: str) -> list[Delta]:
        self._sent += text
        return _delta("content", text)


def _delta(kind: Literal["reasoning", "content"], text: str) -> list[Delta]:
    return [Delta(kind, text)] if text else []


def _held_back(text: str, mark: str) -> int:
    """How many characters at the end of a text may be the beginning of a mark."""
    return next((size for size in range(len(mark) - 1, 0, -1) if text.endswith(mark[:size])), 0)
