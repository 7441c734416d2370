"""The weighted sum of rewards, which advantages are computed from, and which openings are trained on them."""

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

from motif_lite.credits.assignment import differ
from motif_lite.recipe.schema import Recipe

_ROUNDING = 1e-6
"""Sums of normalised rewards that are smaller than this cancel out."""


def total_rewards(recipe: Recipe, rewards: Mapping[str, list[float]]) -> list[float]:
    """The weighted sum that advantages are computed from, per opening."""
    return [
        total_reward(recipe, dict(zip(rewards, values, strict=True))) for values in zip(*rewards.values(), strict=True)
    ]


def left_out(recipe: Recipe, finishes: Sequence[str]) -> list[bool]:
    """Of each opening, whether it is left out of the update: where the recipe wants it so, those that were cut off.

    Args:
        finishes: How each of them ended.
    """
    return [recipe.training.mask_truncated_completions and finish == "length" for finish in finishes]


def have_signal(recipe: Recipe, rewards: Mapping[str, list[float]], finishes: Sequence[str]) -> list[bool]:
    """Of each group of openings, whether one that is trained has an advantage, by rewards that have a weight.

    Args:
        rewards: By name, one per opening.
        finishes: How each of them ended.
    """
    size, out = recipe.rollout.num_openings, left_out(recipe, finishes)
    totals = total_rewards(recipe, rewards)
    teach = []
    for start in range(0, len(totals), size):
        group = slice(start, start + size)
        if recipe.training.multi_objective_aggregation == "normalize_then_sum":
            parts = [_normalised(values[group], recipe.rewards[name]) for name, values in rewards.items()]
            different = [abs(sum(each)) > _ROUNDING for each in zip(*parts, strict=True)]
        else:
            mean = fmean(totals[group])
            different = [differ((total, mean)) for total in totals[group]]
        teach.append(any(each and not is_out for each, is_out in zip(different, out[group], strict=True)))
    return teach


def _normalised(rewards: Sequence[float], weight: float) -> list[float]:
    """What one reward gives to the advantages of a group, before they are summed."""
    if not differ(rewards):
        return [0.0] * len(rewards)
    mean, deviation = fmean(rewards), stdev(rewards)
    return [weight * (reward - mean) / deviation for reward in rewards]


def total_reward(recipe: Recipe, rewards: Mapping[str, float]) -> float:
    """The weighted sum of one opening's rewards, or of one round's."""
    return sum(recipe.rewards[name] * value for name, value in rewards.items())
