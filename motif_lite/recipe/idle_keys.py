"""Keys that are set and do nothing with the recipe's others: told in a note.

They are not refused, as by `rules`: a study sets them for all of its variants, some of which read them.
"""

from collections.abc import Iterator

from motif_lite import own_code
from motif_lite.recipe.schema import Recipe, RolloutSection
from motif_lite.recipe.training import TrainingSection


def remarks(recipe: Recipe) -> Iterator[str]:
    """A line for each reason, with the keys."""
    training, rollout = recipe.training, recipe.rollout
    if training.num_iterations == 1:
        keys = ["epsilon", "epsilon_high", *(["importance_sampling_level"] if training.loss_type != "luspo" else [])]
        if found := [f"training.{key}" for key in keys if _is_set(training, key)]:
            yield f"{_listed(found)} nothing with training.num_iterations = 1: every policy ratio is 1"
    named = {rollout.strategy, *recipe.evaluation.strategies}
    is_read = "delethink" in named or any(map(own_code.is_own, named))
    found = [f"rollout.{key}" for key in ("head_tokens", "tail_tokens") if _is_set(rollout, key)]
    if found and not is_read:
        yield f"{_listed(found)} nothing with rollout.strategy = {rollout.strategy!r}: only delethink reads them"
    is_read = "multi_round" in named or any(map(own_code.is_own, named))
    if _is_set(rollout, "final_instruction") and not is_read:
        yield (
            f"rollout.final_instruction does nothing with rollout.strategy = {rollout.strategy!r}: only multi_round "
            f"reads it"
        )


def _is_set(section: RolloutSection | TrainingSection, key: str) -> bool:
    """To something else than its default: a run's own record has all keys."""
    value = getattr(section, key)
    return value is not None and value != type(section).model_fields[key].default


def _listed(keys: list[str]) -> str:
    return f"{', '.join(keys)} {'does' if len(keys) == 1 else 'do'}"
