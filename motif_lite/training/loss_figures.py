"""What TRL's `compute_loss` appends to its metrics: entropy, clip ratios, the distance to the reference model."""

from math import isnan, nan

Pieces = list[tuple[dict[str, float], float]]
"""What each piece of a loss appended, with its number of tokens."""


class LossFigures:
    """The figures of one loss that may be computed in pieces, as if it were computed at once.

    Args:
        metrics: TRL's lists by name, to which a call of `compute_loss` appends; TRL logs their plain means.
    """

    def __init__(self, metrics: dict[str, list[float]]) -> None:
        self._metrics = metrics
        self._before = {name: len(values) for name, values in metrics.items()}
        self.pieces: Pieces = []

    def end_piece(self, num_tokens: float) -> None:
        """Keep what a piece appended, which is the mean over so many tokens, or the least or largest of them."""
        appended = {name: values[-1] for name, values in self._metrics.items() if len(values) > self._count(name)}
        self.pieces.append((appended, num_tokens))
        self.drop()

    def end(self, pieces: Pieces | None = None) -> None:
        """Append one value for all pieces.

        Args:
            pieces: In place of its own, where other processes have some, too.
        """
        self.drop()
        pieces = self.pieces if pieces is None else pieces
        for name in dict.fromkeys(name for appended, _ in pieces for name in appended):
            values = [(appended[name], num) for appended, num in pieces if name in appended]
            self._metrics[name].append(_joined(name, [(value, num) for value, num in values if not isnan(value)]))

    def drop(self) -> None:
        """Take out what was appended: the loss is to be computed once more."""
        for name, values in self._metrics.items():
            del values[self._count(name) :]

    def _count(self, name: str) -> int:
        return self._before.get(name, 0)


def _joined(name: str, values: list[tuple[float, float]]) -> float:
    """Of values with their numbers of tokens; not a number where there is none."""
    if name.endswith("min"):
        return min((value for value, _ in values), default=nan)
    if name.endswith("max"):
        return max((value for value, _ in values), default=nan)
    total = sum(num for _, num in values)
    return sum(value * num for value, num in values) / total if total else nan
