"""The weighted sum of rewards, which advantages are computed from."""

from collections.abc import Mapping

from motif_lite.recipe.schema import Recipe


def total_rewards(recipe: Recipe, rewards: Mapping[str, list[float]]) -> list[float]:
    """The weighted sum that advantages are computed from, per opening."""
    return [
        total_reward(recipe, dict(zip(rewards, values, strict=True))) for values in zip(*rewards.values(), strict=True)
    ]


def total_reward(recipe: Recipe, rewards: Mapping[str, float]) -> float:
    """The weighted sum of one opening's rewards, or of one round's."""
    return sum(recipe.rewards[name] * value for name, value in rewards.items())
