"""Accuracy along training: linear between its marks, averaged over seeds, and from which mark on it stays high."""

from collections.abc import Sequence
from statistics import fmean

import numpy

Curve = Sequence[tuple[float, float]]
"""At least one mark (cost so far, accuracy), by rising cost in tokens or seconds."""


def at(curve: Curve, cost: float) -> float:
    """Accuracy at a cost, linear between marks; before the first mark it is the first's, after the last the last's.

    A run that ended early stays what it is: more could have been spent on it, and was not.
    """
    costs, accuracies = zip(*curve, strict=True)
    return float(numpy.interp(cost, costs, accuracies))


def mean(curves: Sequence[Curve]) -> list[tuple[float, float]]:
    """The mean over seeds, exact at every mark of each of them."""
    costs = sorted({cost for curve in curves for cost, _ in curve})
    return [(cost, fmean(at(curve, cost) for curve in curves)) for cost in costs]


def stays_from(curve: Curve, accuracy: float) -> int | None:
    """The first mark from which on all marks are that accurate, by its place; None if the last is not."""
    below = [place for place, (_, reached) in enumerate(curve) if reached < accuracy]
    first = below[-1] + 1 if below else 0
    return first if first < len(curve) else None
