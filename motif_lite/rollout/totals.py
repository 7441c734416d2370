"""The weighted sum of rewards, which advantages are computed from, and which openings are trained on them."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from motif_lite.credits.assignment import differ
from motif_lite.recipe.schema import Recipe


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
    """Of each group of openings, whether one that is trained differs from its mean by rewards that have a weight.

    Args:
        rewards: By name, one per opening.
        finishes: How each of them ended.
    """
    apart = recipe.training.multi_objective_aggregation == "normalize_then_sum"
    counting = [values for name, values in rewards.items() if recipe.rewards[name]]
    compared = counting if apart else [total_rewards(recipe, rewards)]
    size, out = recipe.rollout.num_openings, left_out(recipe, finishes)
    groups = [slice(start, start + size) for start in range(0, len(compared[0]), size)]
    return [any(_teach(values[group], out[group]) for values in compared) for group in groups]


def _teach(rewards: Sequence[float], out: Sequence[bool]) -> bool:
    mean = fmean(rewards)
    return any(differ((reward, mean)) for reward, is_out in zip(rewards, out, strict=True) if not is_out)


def total_reward(recipe: Recipe, rewards: Mapping[str, float]) -> float:
    """The weighted sum of one opening's rewards, or of one round's."""
    return sum(recipe.rewards[name] * value for name, value in rewards.items())
