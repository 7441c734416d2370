"""Which keys of a recipe may change when a run is resumed."""

from typing import Any

from motif_lite.errors import RunError
from motif_lite.recipe.keys import changed, differing_keys
from motif_lite.recipe.schema import ALL_LINEAR, LORA_TARGETS, Recipe
from motif_lite.recipe.tables import Tables
from motif_lite.runs import selection
from motif_lite.runs.directory import RunDirectory

CHANGEABLE = (
    "logging", "training.max_steps", "training.until_tokens", "training.until_seconds", "training.save_every",
    "training.keep_checkpoints", "evaluation.", "model.memory_gib", "model.gpu_memory_utilization",
    "model.url", "model.requests", "model.request_seconds",
    "rollout.server", "rollout.server_folder", "rollout.max_width", "rollout.weights", "training.micro_batch_size",
    "training.gradient_checkpointing", "training.logit_chunks", "training.autocast",
)  # fmt: skip
"""Keys that may differ when a run is resumed: how long it goes on, what is measured, where the model is served, and
what memory allows."""

_FIXED = "evaluation.validation"
"""But not what is measured along the way: training leaves its problems out."""

_FIXED_WITH_MARKS = ("evaluation.temperature", "evaluation.top_p", "evaluation.confidence")
"""Nor how it is measured: the marks of a run are compared with each other."""

_FIXED_TO_SELECT = ("evaluation.temperature", "evaluation.top_p")
"""Nor how samples are drawn while `data.select` still has to measure with them which problems are trained."""

_ROUNDING = "sums are computed in a different order, so results are equal up to rounding"

_OTHER_LENGTH = "from here on the learning rate follows the schedule of the new length"

INEXACT = {
    "training.max_steps": _OTHER_LENGTH,
    "training.until_tokens": _OTHER_LENGTH,
    "training.until_seconds": _OTHER_LENGTH,
    "rollout.server": "another server need not draw the same replies",
    "rollout.max_width": _ROUNDING,
    "rollout.weights": "replies are rounded differently, so they are not the same",
    "training.micro_batch_size": _ROUNDING,
    "training.gradient_checkpointing": _ROUNDING,
    "training.logit_chunks": _ROUNDING,
    "training.autocast": "products are rounded differently, so results are not the same",
}
"""Those of them with which a resumed run is not the same, and why."""


_DECIDED = (
    ("rollout", "max_width"), ("rollout", "weights"), ("training", "micro_batch_size"), ("training", "autocast"),
    ("model", "template_date"),
)  # fmt: skip
"""Keys that a run decides for itself where they say ``auto``."""


def decisions(recipe: Recipe) -> dict[str, Any]:
    """What was decided where a recipe said ``auto``, by dotted key."""
    return {f"{section}.{key}": getattr(getattr(recipe, section), key) for section, key in _DECIDED}


def with_decisions_of(run: RunDirectory, recipe: Recipe, tables: Tables) -> Recipe:
    """The recipe with what was decided at the run's start where it says ``auto``: a resumed run is the same run."""
    earlier = run.resolved(tables)
    decided = {
        f"{section}.{key}": getattr(getattr(earlier, section), key)
        for section, key in _DECIDED
        if getattr(getattr(recipe, section), key) == "auto"
    }
    if recipe.lora.targets == ALL_LINEAR and earlier.lora.targets == list(LORA_TARGETS):
        decided["lora.targets"] = earlier.lora.targets  # the default of earlier versions
    return changed(recipe, decided)


def check_resumable(run: RunDirectory, recipe: Recipe, tables: Tables) -> None:
    """Refuse to continue a run with a recipe that would make it another run.

    Raises:
        RunError: Keys differ that may not; all are named.
    """
    earlier = run.resolved(tables)
    fixed: tuple[str, ...] = (_FIXED, *_FIXED_WITH_MARKS) if earlier.evaluation.validation else (_FIXED,)
    if earlier.data.select and selection.kept(run.root) is None:
        fixed += _FIXED_TO_SELECT
    different = [
        key for key in differing_keys(earlier, recipe) if key.startswith(fixed) or not key.startswith(CHANGEABLE)
    ]
    if earlier.evaluation.validation and bool(earlier.evaluation.num_samples) != bool(recipe.evaluation.num_samples):
        different.append("evaluation.num_samples (it decides whether marks are sampled)")
    if different:
        raise RunError(
            f"{run.root}: was started with different settings for {', '.join(different)}; change them back, "
            f"or start a new run in another --out"
        )


def was_begun_with_weights_of_trajectories(run: RunDirectory) -> bool:
    """Whether its first step is of a version whose chain and tree gave every trajectory the same weight.

    Those versions did not count ``groups_on_form_alone`` either.
    """
    return any(line.groups_on_form_alone is None for line in run.metrics()[:1])
