"""Accuracy along training: linear between its marks, averaged over seeds, and where it first gets somewhere."""

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


def first_reach(curve: Curve, accuracy: float) -> float | None:
    """The least cost at which the curve is that accurate; None if it never is."""
    reached = next((index for index, mark in enumerate(curve) if mark[1] >= accuracy), None)
    if not reached:
        return None if reached is None else curve[0][0]
    (left, low), (right, high) = curve[reached - 1 : reached + 1]
    return float(numpy.interp(accuracy, [low, high], [left, right]))
