"""What makes a resumed run differ from one that was not interrupted, told before it goes on or proves finished."""

from pathlib import Path

from motif_lite.credits.table import credit_of
from motif_lite.errors import MotifError
from motif_lite.jobs import problems
from motif_lite.jobs.checking import TABLES
from motif_lite.observer import Observer
from motif_lite.recipe import keys
from motif_lite.recipe.schema import Recipe
from motif_lite.runs import inputs
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.resuming import INEXACT, was_begun_with_weights_of_trajectories


def note_changed_problems(recipe: Recipe, root: Path, observer: Observer) -> None:
    """Say where the problems of a finished run are no longer those that it was trained on, or cannot be read."""
    try:
        found = problems.read(recipe, observer, trains=True)
        inputs.require_same_problems(root, found.train, found.held_out)
    except MotifError as error:
        observer.note(f"note: {error}")


def note_what_is_not_exact(recipe: Recipe, existing: Path | None, observer: Observer) -> None:
    """Name the settings by which a resumed run differs from one that was not interrupted.

    Args:
        existing: The folder of a run that goes on.
    """
    training = recipe.training
    if training.until_seconds is not None:
        observer.note("note: training.until_seconds: this run ends by the clock, so it cannot be repeated exactly")
    if recipe.model.fast_inference and not credit_of(recipe).samples_openings(recipe):
        observer.note(
            "note: model.fast_inference: vLLM does not save its random state, so openings after --resume differ from "
            "those of an uninterrupted run"
        )
    if existing is not None:
        run = RunDirectory(existing)
        earlier = run.resolved(TABLES)
        different = set(keys.differing_keys(earlier, recipe))
        if earlier.rollout.weights == "auto" != recipe.rollout.weights:
            different.discard("rollout.weights")
            observer.note(
                "note: this run was started by an earlier version, which did not record in which precision it wrote "
                f'replies; from here on rollout.weights = "{recipe.rollout.weights}", which may differ by rounding'
            )
        for key in sorted(different & INEXACT.keys()):
            observer.note(f"note: {key} has changed: {INEXACT[key]}")
        if credit_of(recipe).trains_later_rounds and was_begun_with_weights_of_trajectories(run):
            observer.note(
                f"note: this run was started by an earlier version, in which credit {training.credit} gave every "
                f"trajectory the same weight; from here on training.loss_type = {training.loss_type!r} decides"
            )
