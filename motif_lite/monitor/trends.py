"""A metric averaged over windows of training steps, and whether two windows differ.

Each step is one sample, whatever the number of replies in it, because replies to one problem are correlated. The
variance of a step is that within the window or, where that is greater, that of all steps so far, taken from successive
differences (von Neumann's estimate, which a slow trend does not inflate): a few steps in a row are close together by
chance too often.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import sqrt


@dataclass(frozen=True, slots=True)
class Span:
    """A window of steps.

    Attributes:
        first: Its first step.
        last: Its last step.
        mean: Of the figure.
        variance: Of the figure in one step.
        num_values: Steps in it that have the figure.
    """

    first: int
    last: int
    mean: float
    variance: float
    num_values: int

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        return sqrt(self.variance / self.num_values)


@dataclass(frozen=True, slots=True)
class Change:
    """Two windows of one figure."""

    before: Span
    now: Span

    @property
    def size(self) -> float:
        """By how much the later one is higher."""
        return self.now.mean - self.before.mean

    def is_sure(self, sigmas: float) -> bool:
        """Whether the two differ by more than so many standard errors of their difference."""
        return abs(self.size) > sigmas * sqrt(self.before.error**2 + self.now.error**2)


class Series:
    """One figure of every step that has it, with running sums: a look at a long run costs what it costs at a short one.

    Args:
        steps: In ascending order.
        values: One per step; None where the step does not have it.
    """

    def __init__(self, steps: Sequence[int], values: Sequence[float | None]) -> None:
        known = [(step, value) for step, value in zip(steps, values, strict=True) if value is not None]
        self._steps, figures = [step for step, _ in known], [value for _, value in known]
        self._sums = [0.0, *accumulate(figures)]
        self._squares = [0.0, *accumulate(value * value for value in figures)]
        self._jumps = [0.0, 0.0, *accumulate((after - before) ** 2 for before, after in pairwise(figures))]

    def newest(self, step: int, width: int) -> Span | None:
        """The last ``width`` values up to a step; None if there are fewer."""
        count = self._count(step)
        return self._span(count - width, width, count) if count >= width else None

    def oldest(self, after: int, until: int, width: int) -> Span | None:
        """The first ``width`` values after a step and up to another; None if there are fewer."""
        start, count = self._count(after), self._count(until)
        return self._span(start, width, count) if start + width <= count else None

    def worst_change(self, step: int, width: int, sign: int) -> Change | None:
        """The newest window with the earlier, disjoint one from which it differs most.

        Args:
            step: The newest one to look at.
            width: Of a window, in steps; at least two, as for every window.
            sign: 1 for a rise, -1 for a fall.
        """
        count = self._count(step)
        if count < 2 * width:
            return None
        starts = range(0, count - 2 * width + 1, max(1, width // 4))
        best = min(starts, key=lambda start: sign * (self._sums[start + width] - self._sums[start]))
        return Change(self._span(best, width, count), self._span(count - width, width, count))

    def highest(self, step: int, width: int) -> Span:
        """Of all windows up to a step, of which there must be one, the one with the highest mean."""
        count = self._count(step)
        starts = range(count - width, -1, -1)  # the newest of equals
        return self._span(max(starts, key=lambda start: self._sums[start + width] - self._sums[start]), width, count)

    def mean(self, span: Span) -> float | None:
        """The mean over the steps of another figure's window; None if none of them has this one."""
        start, end = bisect_left(self._steps, span.first), self._count(span.last)
        return (self._sums[end] - self._sums[start]) / (end - start) if end > start else None

    def _count(self, step: int) -> int:
        """Steps up to this one that have the figure."""
        return bisect_right(self._steps, step)

    def _span(self, start: int, width: int, count: int) -> Span:
        """A window, when so many values are known."""
        end = start + width
        mean = (self._sums[end] - self._sums[start]) / width
        within = (self._squares[end] - self._squares[start] - width * mean * mean) / (width - 1)
        overall = self._jumps[count] / 2 / (count - 1)
        return Span(self._steps[start], self._steps[end - 1], mean, max(within, overall), width)
