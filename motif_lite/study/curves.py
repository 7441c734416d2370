"""Accuracy along training: linear between its marks, averaged over seeds, and from which mark on it stays high."""

from collections.abc import Sequence
from statistics import fmean

import numpy

Curve = Sequence[tuple[float, float]]
"""At least one mark (cost so far, accuracy), by rising cost in tokens or seconds."""


def at(curve: Curve, cost: float) -> float:
    """Accuracy at a cost, linear between marks; after the last one it is the last's.

    A run that ended early stays what it is: more could have been spent on it, and was not. What it was before its first
    mark is not known: a warm start, for one, comes before that.

    Args:
        cost: Not before the curve's `start`.
    """
    costs, accuracies = zip(*curve, strict=True)
    return float(numpy.interp(cost, costs, accuracies))


def start(*curves: Curve) -> float:
    """The cost from which on all of them have an accuracy."""
    return max(curve[0][0] for curve in curves)


def mean(curves: Sequence[Curve]) -> list[tuple[float, float]]:
    """The mean over seeds, exact at every mark of each of them, from where all have begun."""
    costs = sorted({cost for curve in curves for cost, _ in curve if cost >= start(*curves)})
    return [(cost, fmean(at(curve, cost) for curve in curves)) for cost in costs]


def stays_from(curve: Curve, accuracy: float) -> int | None:
    """The first mark from which on all marks are that accurate, by its place; None if the last is not."""
    below = [place for place, (_, reached) in enumerate(curve) if reached < accuracy]
    first = below[-1] + 1 if below else 0
    return first if first < len(curve) else None
