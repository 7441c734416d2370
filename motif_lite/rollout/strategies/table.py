"""The strategies that a recipe may name."""

from collections.abc import Callable

from motif_lite.recipe.schema import Recipe, RolloutSection
from motif_lite.rollout.own_strategy import OwnStrategy
from motif_lite.rollout.strategies.base import Strategy
from motif_lite.rollout.strategies.delethink import delethink
from motif_lite.rollout.strategies.multi_round import multi_round
from motif_lite.rollout.strategies.parallel import parallel
from motif_lite.rollout.strategies.refine import refine
from motif_lite.rollout.strategies.single_round import single_round

STRATEGIES: dict[str, Callable[[RolloutSection], Strategy]] = {
    "single_round": single_round,
    "multi_round": multi_round,
    "delethink": delethink,
    "refine": refine,
    "parallel": parallel,
}


def strategy_of(recipe: Recipe, name: str) -> Strategy:
    """A strategy with a recipe's settings: one of `STRATEGIES`, or the user's own.

    Raises:
        CodeError: The user's cannot be imported or made, or lacks what a `Strategy` has.
    """
    return STRATEGIES[name](recipe.rollout) if name in STRATEGIES else OwnStrategy(recipe, name)
