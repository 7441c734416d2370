"""Openings and their k futures are all trained, each against its own siblings.

An opening is worth the mean over its futures. It is compared with the *other* openings of its problem, a future with
the *other* futures of its opening. A mean that contained the sample itself would shrink advantages by (m - 1) / m for
openings, but by (k - 1) / k for futures: with k = 2 later rounds would learn at half the rate.
"""

from collections.abc import Iterator, Sequence
from statistics import fmean

from motif_lite.credits.assignment import Totals
from motif_lite.credits.base import RoundsCredit
from motif_lite.recipe.schema import Recipe


class TreeCredit(RoundsCredit):
    """Openings against openings, futures against those of the same opening."""

    name = "tree"
    summary = "first rounds and their continuations are trained"

    def broken_rules(self, recipe: Recipe) -> Iterator[str]:
        """It takes two futures to compare them."""
        yield from super().broken_rules(recipe)
        if recipe.rollout.num_futures == 1:
            yield (
                'training.credit = "tree" compares futures with each other, and rollout.num_futures = 1; raise '
                'num_futures, or set training.credit = "chain"'
            )

    def advantages(self, totals: Totals) -> Iterator[tuple[int, int | None, int, float]]:
        """Openings against openings, futures against those of the same opening."""
        among_openings = _less_others([fmean(future[0] for future in futures) for futures in totals])
        for opening, futures in enumerate(totals):
            yield opening, None, 0, among_openings[opening]
            for index in range(1, len(futures[0])):
                for number, advantage in enumerate(_less_others([future[index] for future in futures])):
                    yield opening, number, index, advantage


def _less_others(values: Sequence[float]) -> list[float]:
    """Each value less the mean of the others; 0 where there are none, as for an opening that has ended."""
    num_others = max(1, len(values) - 1)
    mean = fmean(values)
    return [(value - mean) * len(values) / num_others for value in values]
