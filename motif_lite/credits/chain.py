"""Every round of m chains is trained with its chain's advantage, as InftyThink+ has it (arXiv 2602.06960)."""

from collections.abc import Iterator
from statistics import fmean

from motif_lite.credits.assignment import Totals
from motif_lite.credits.base import RoundsCredit
from motif_lite.recipe.idle_keys import is_set
from motif_lite.recipe.schema import Recipe


class ChainCredit(RoundsCredit):
    """Each opening has one future; a round is compared with the same round of the group's other chains."""

    name = "chain"
    summary = "every round of whole chains is trained"

    def futures_per_opening(self, recipe: Recipe) -> int:
        """One, whatever the recipe says."""
        return 1

    def idle_keys(self, recipe: Recipe) -> Iterator[str]:
        """More futures than one."""
        if recipe.rollout.num_futures > 1 and is_set(recipe.rollout, "num_futures"):
            yield f"rollout.num_futures does nothing with training.credit = {self.name!r}: an opening has one future"

    def advantages(self, totals: Totals) -> Iterator[tuple[int, int | None, int, float]]:
        """Every round of a chain against the same round of the group's other chains."""
        for index in range(len(totals[0][0])):
            rewards = [futures[0][index] for futures in totals]
            for opening, reward in enumerate(rewards):
                yield opening, 0 if index else None, index, reward - fmean(rewards)
