"""Accuracy along training: linear between its marks, averaged over seeds, and where it first gets somewhere."""

from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean

Curve = Sequence[tuple[float, float]]
"""At least one mark (cost so far, accuracy), by rising cost in tokens or seconds."""


def at(curve: Curve, cost: float) -> float:
    """Accuracy at a cost, linear between marks; before the first mark it is the first's, after the last the last's.

    A run that ended early stays what it is: more could have been spent on it, and was not.
    """
    for (left, low), (right, high) in pairwise(curve):
        if left <= cost < right:
            return low + (high - low) * (cost - left) / (right - left)
    return curve[0][1] if cost < curve[0][0] else curve[-1][1]


def mean(curves: Sequence[Curve]) -> list[tuple[float, float]]:
    """The mean over seeds, exact at every mark of each of them."""
    costs = sorted({cost for curve in curves for cost, _ in curve})
    return [(cost, fmean(at(curve, cost) for curve in curves)) for cost in costs]


def first_reach(curve: Curve, accuracy: float) -> float | None:
    """The least cost at which the curve is that accurate; None if it never is."""
    if curve[0][1] >= accuracy:
        return curve[0][0]
    for (left, low), (right, high) in pairwise(curve):
        if high >= accuracy:
            return left + (right - left) * (accuracy - low) / (high - low)
    return None
