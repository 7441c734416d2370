"""Openings and their k futures are all trained, each against its own siblings.

An opening is worth the mean over its futures and compared with the other openings of its problem, a future with the
others of its opening. Along a trajectory the two advantages add up to the chain's: what is decided in the first round
is credited there, the rest later.
"""

from collections.abc import Iterator
from statistics import fmean

from motif_lite.credits.assignment import Totals
from motif_lite.credits.base import RoundsCredit
from motif_lite.recipe.schema import Recipe


class TreeCredit(RoundsCredit):
    """Openings against openings, futures against those of the same opening."""

    name = "tree"

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
        values = [fmean(future[0] for future in futures) for futures in totals]
        for opening, futures in enumerate(totals):
            yield opening, None, 0, values[opening] - fmean(values)
            for index in range(1, len(futures[0])):
                value = fmean(future[index] for future in futures)
                for number, future in enumerate(futures):
                    yield opening, number, index, future[index] - value
