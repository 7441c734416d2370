"""The weighted sum of rewards, which advantages are computed from."""

from collections.abc import Mapping

from motif_lite.credits.assignment import differ
from motif_lite.recipe.schema import Recipe


def total_rewards(recipe: Recipe, rewards: Mapping[str, list[float]]) -> list[float]:
    """The weighted sum that advantages are computed from, per opening."""
    return [
        total_reward(recipe, dict(zip(rewards, values, strict=True))) for values in zip(*rewards.values(), strict=True)
    ]


def have_signal(recipe: Recipe, rewards: Mapping[str, list[float]]) -> list[bool]:
    """Of each group of openings, whether anything in it is rewarded more than the rest, by rewards with a weight.

    Args:
        rewards: By name, one per opening.
    """
    apart = recipe.training.multi_objective_aggregation == "normalize_then_sum"
    counting = [values for name, values in rewards.items() if recipe.rewards[name]]
    compared = counting if apart else [total_rewards(recipe, rewards)]
    size = recipe.rollout.num_openings
    starts = range(0, len(compared[0]), size)
    return [any(differ(values[start : start + size]) for values in compared) for start in starts]


def total_reward(recipe: Recipe, rewards: Mapping[str, float]) -> float:
    """The weighted sum of one opening's rewards, or of one round's."""
    return sum(recipe.rewards[name] * value for name, value in rewards.items())
