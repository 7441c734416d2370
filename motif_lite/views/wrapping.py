"""Text that comes in pieces, broken into lines between words."""

from rich.cells import cell_len


class Wrapping:
    """Breaks lines so that none is wider than the terminal; a word is held back until it is complete.

    A word that is wider than a line is broken at its edge. Where pieces end makes no difference.

    Args:
        width: Columns; None breaks no lines and holds nothing back.
    """

    def __init__(self, width: int | None) -> None:
        self._width = width
        self._column, self._word = 0, ""

    def add(self, piece: str) -> str:
        """What can be written once this piece has come."""
        if self._width is None:
            return piece
        written = []
        for sign in piece:
            if sign in "\n ":
                written += [self.rest(), self._space(sign)]
                continue
            if cell_len(self._word + sign) > self._width:
                written.append(self.rest())
            self._word += sign
        return "".join(written)

    def rest(self) -> str:
        """What was held back."""
        assert self._width is not None or not self._word
        word, self._word = self._word, ""
        size = cell_len(word)
        breaks = self._width is not None and self._column > 0 and self._column + size > self._width
        self._column = size if breaks else self._column + size
        return "\n" * breaks + word

    def _space(self, sign: str) -> str:
        assert self._width is not None
        is_full = self._column >= self._width
        self._column = 0 if sign == "\n" or is_full else self._column + 1
        return "\n" if sign == "\n" or is_full else sign
