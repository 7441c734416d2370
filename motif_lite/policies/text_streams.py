"""The text of replies while they are written: tokens go in, pieces of text come out."""

from collections.abc import Callable
from typing import Any

from tokenizers.decoders import DecodeStream

from motif_lite.nouns import OnText
from motif_lite.policies.turn_ends import TurnEnds

OnToken = Callable[[int, int], None]
"""Called with the index of a reply and the token that it has just got."""


class TextStreams:
    """Passes on the text of several replies as their tokens come.

    Args:
        tokenizer: A slow one, of transformers alone, cannot decode token by token: the text comes when a reply ends.
        turn_ends: What ends a reply, and is no part of its text.
        on_text: Gets the pieces.
    """

    def __init__(self, tokenizer: Any, turn_ends: TurnEnds, on_text: OnText) -> None:
        self._tokenizer = getattr(tokenizer, "backend_tokenizer", None)
        self._turn_ends, self._on_text = turn_ends, on_text
        self._held_back = max((len(text) - 1 for text in turn_ends.texts), default=0)
        self._decoders: dict[int, DecodeStream] = {}
        self._texts: dict[int, str] = {}
        self._told: dict[int, int] = {}
        """How many characters of each reply were passed on."""

    def begin(self) -> OnToken:
        """What takes the tokens; replies that are written once more, after running out of memory, say nothing twice."""
        self._decoders, self._texts = {}, {}
        return self._add

    def end(self, index: int, text: str) -> None:
        """A reply is complete.

        Args:
            text: All of it.
        """
        if rest := text[self._told.get(index, 0) :]:
            self._on_text(index, rest)
        self._on_text(index, None)

    def _add(self, index: int, token: int) -> None:
        if self._tokenizer is None or token in self._turn_ends.ids or not self._turn_ends.readable([token]):
            return
        decoder = self._decoders.setdefault(index, DecodeStream(skip_special_tokens=not self._turn_ends.kept))
        text = self._texts.get(index, "") + (decoder.step(self._tokenizer, token) or "")
        self._texts[index] = text
        told, upto = self._told.get(index, 0), len(text) - self._held_back
        if upto > told:
            self._on_text(index, text[told:upto])
            self._told[index] = upto
