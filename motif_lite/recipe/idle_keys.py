"""Keys that are set and do nothing with the recipe's others, or do harm that is not seen: told in a note.

They are not refused, as by `rules`: a study sets them for all of its variants, some of which read them.
"""

from collections.abc import Iterator

from motif_lite import own_code
from motif_lite.nouns import Sampling
from motif_lite.recipe.schema import Recipe, RolloutSection
from motif_lite.recipe.strategy_keys import keys_of
from motif_lite.recipe.tables import HasRules
from motif_lite.recipe.training import TrainingSection


def remarks(recipe: Recipe, credit: HasRules) -> Iterator[str]:
    """A line for each reason, with the keys.

    Args:
        credit: The recipe's, which may read fewer keys than others.
    """
    yield from _of_the_update(recipe.training)
    yield from _of_the_rounds(recipe)
    yield from _of_the_drafts(recipe)
    yield from credit.idle_keys(recipe)
    yield from _of_the_openings(recipe.rollout.openings)


def _of_the_update(training: TrainingSection) -> Iterator[str]:
    if training.num_iterations == 1:
        keys = ["epsilon", "epsilon_high", *(["importance_sampling_level"] if training.loss_type != "luspo" else [])]
        if found := [f"training.{key}" for key in keys if is_set(training, key)]:
            yield f"{_listed(found)} nothing with training.num_iterations = 1: every policy ratio is 1"
    elif training.loss_type in ("cispo", "sapo", "vespo") and is_set(training, "epsilon"):
        yield (
            f"training.epsilon does nothing with training.loss_type = {training.loss_type!r}, which bounds no ratio "
            f"from below: other losses read it"
        )
    if training.lr_schedule == "constant" and training.warmup_fraction and is_set(training, "warmup_fraction"):
        yield (
            "training.warmup_fraction does nothing with training.lr_schedule = 'constant': constant_with_warmup reads "
            "it"
        )


def _of_the_rounds(recipe: Recipe) -> Iterator[str]:
    rollout = recipe.rollout
    strategy, named = f"rollout.strategy = {rollout.strategy!r}", {rollout.strategy, *recipe.evaluation.strategies}
    read = set[str]().union(*map(keys_of, named))

    def is_idle(key: str) -> bool:
        return key not in read and is_set(rollout, key)

    found = [f"rollout.{key}" for key in ("head_tokens", "tail_tokens") if is_idle(key)]
    if found:
        yield f"{_listed(found)} nothing with {strategy}: only delethink reads them"
    found = [f"rollout.{key}" for key in ("final_instruction", "early_finish") if is_idle(key)]
    if found:
        yield f"{_listed(found)} nothing with {strategy}: only multi_round reads {_them(found)}"
    of_multi_round = [key for key in ("allocation", "early_finish") if is_set(rollout, key)]
    if of_multi_round and own_code.is_own(rollout.strategy):
        found = [f"rollout.{key}" for key in of_multi_round]
        yield f"{_listed(found)} only what a MultiRound that {strategy} makes is given: other classes do not read it"
    if rollout.num_futures == 1:
        return
    if rollout.strategy == "single_round":
        if is_set(rollout, "num_futures"):
            yield f"rollout.num_futures does nothing with {strategy}: an opening is the whole reply"
    elif rollout.futures.temperature == 0:
        yield (
            f"rollout.num_futures = {rollout.num_futures} does no more than 1 with rollout.futures.temperature = 0: "
            f"all futures of an opening are the same"
        )


def _of_the_drafts(recipe: Recipe) -> Iterator[str]:
    evaluation, trained = recipe.evaluation, recipe.rollout.strategy == "parallel"
    found = []
    if evaluation.greedy and "parallel" in evaluation.strategies and (evaluation.before or evaluation.after):
        found.append("evaluation.greedy")
    if trained and evaluation.validation and not evaluation.num_samples:
        found.append("evaluation.validation without evaluation.num_samples")
    if trained and evaluation.memorisation is not None:
        found.append("evaluation.memorisation")
    if found:
        yield (
            f"{', '.join(found)}: greedily all drafts of parallel are the same text, so what is measured so is not "
            f"parallel's worth; look at its samples (evaluation.num_samples)"
        )


def _of_the_openings(openings: Sampling) -> Iterator[str]:
    if found := [f"rollout.openings.{key}" for key in ("top_p", "top_k", "min_p") if is_set(openings, key)]:
        yield (
            f"{', '.join(found)}: openings are drawn from fewer tokens than the loss is computed over, which is a bias "
            f"(docs/method.md); leave out what is to have none"
        )


def is_set(section: RolloutSection | TrainingSection | Sampling, key: str) -> bool:
    """Whether a key is set to something else than its default: a run's own record has all keys."""
    value = getattr(section, key)
    return value is not None and value != type(section).model_fields[key].default


def _them(keys: list[str]) -> str:
    return "it" if len(keys) == 1 else "them"


def _listed(keys: list[str]) -> str:
    return f"{', '.join(keys)} {'does' if len(keys) == 1 else 'do'}"
