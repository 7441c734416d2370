"""The ``score`` command: from a file of hand-written openings to their scores.

Futures come from the recipe's own strategy, prompts and sampling, those of all openings in one wide call per round; the
rewards are the recipe's. An opening that a person thinks better should earn more. Where it does not, the reward, the
prompts or the policy are at fault, and it costs a minute to know instead of a night.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from motif_lite.errors import RecipeError, RunError
from motif_lite.evaluation.openings_file import read
from motif_lite.evaluation.scores import HandWritten, Scored, Scores, score
from motif_lite.jobs import adapter_choice, checking, session
from motif_lite.observer import Observer
from motif_lite.paths import cache_folder
from motif_lite.planning import adapter_folder
from motif_lite.recipe.keys import changed, differing_keys
from motif_lite.recipe.schema import Recipe
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.files import write_whole
from motif_lite.runs.folders import holds_run

LEAST_FUTURES = 32
"""Per opening, unless asked otherwise: an interval is then at most 33 points wide. Training makes do with less, for it
compares openings again and again."""

_MADE_FOR = ("model.name", "rollout.num_rounds")
"""Keys without which an adapter means something else, besides its own settings, which the recipe takes on; where the
model is made here, the seed is another."""


@dataclass(frozen=True, slots=True)
class ScoreJob:
    """What a ``score`` command line asks for, validated, with nothing heavy done yet.

    Attributes:
        name: For people: the file of openings.
        adapter: Folder or hub name of the adapter to score under; None is the base model.
        num_futures: Per opening.
    """

    name: str
    recipe: Recipe
    written: tuple[HandWritten, ...]
    adapter: str | None
    num_futures: int

    def perform(self, observer: Observer) -> Scores:
        """Load the policy and score the openings.

        Raises:
            MotifError: An error that the user can fix.
            Interrupted: The user stopped it.
        """
        with session.conducted(observer, cache_folder(), self.how_to_go_on):
            recipe, policy = adapter_choice.loaded(self.recipe, self.adapter, observer)
            if self.adapter is not None and (folder := adapter_folder.as_folder(self.adapter)) is not None:
                _note_other_settings(folder, recipe, observer)
            return score(recipe, policy, self.written, self.num_futures, observer)

    @staticmethod
    def how_to_go_on() -> str:
        """How to continue, shown after an interruption."""
        return "nothing has been written; repeat the command to start over"


def job(
    recipe: Path | None, changes: Sequence[str], openings: Path, *, num_futures: int | None, adapter: str | None
) -> ScoreJob:
    """Turn a command line into a job.

    Raises:
        MotifError: The recipe, the openings or the adapter are not fit for it.
    """
    checked = checking.check(recipe, changes)
    if checked.rollout.strategy == "single_round":
        raise RecipeError(
            f"{recipe}: an opening of rollout.strategy = 'single_round' is the whole reply and has no futures to score "
            f"it by; take a recipe of several rounds"
        )
    if checked.rollout.strategy == "delethink":
        raise RecipeError(
            f"{recipe}: with rollout.strategy = 'delethink' an opening goes on only where it was cut off, and a text "
            f"in a file was not; take a recipe with multi_round or refine"
        )
    if adapter is not None:
        checking.require_in_process(checked, "--adapter")
        adapter_choice.require(adapter)
    # The openings of a file are no groups of num_openings: nothing is shared out among them.
    checked = changed(checked, {"rollout.allocation": "fixed"})
    wanted = num_futures or max(checked.rollout.num_futures, LEAST_FUTURES)
    return ScoreJob(openings.name, checked, tuple(read(openings, checked)), adapter, wanted)


def as_json(scores: Scores, job: ScoreJob) -> dict[str, Any]:
    """Scores for machines: problems in the file's order, the openings of each ranked."""
    return {
        "model": job.recipe.model.name,
        "adapter": job.adapter,
        "seed": job.recipe.seed,
        "futures_per_opening": scores.num_futures,
        "confidence": job.recipe.evaluation.confidence,
        "generated_tokens": scores.num_tokens,
        "seconds": scores.seconds,
        "problems": [
            {
                "problem": problem.id,
                "question": problem.question,
                "gold": problem.gold,
                "openings": [_opening_as_json(scored) for scored in ranked],
            }
            for problem, ranked in scores.ranked().items()
        ],
    }


def require_writable(path: Path, *inputs: Path | None) -> None:
    """Refuse a place for the JSON before anything is computed.

    Args:
        inputs: Files of the same command, which must not be replaced.

    Raises:
        RunError: It is a folder, lies in none, or is an input.
    """
    try:
        is_fit = path.absolute().parent.is_dir() and not path.is_dir()
        is_input = path.resolve() in [given.resolve() for given in inputs if given is not None]
    except (OSError, RuntimeError):  # a name that is too long, links in a circle
        is_fit, is_input = False, False
    if is_input:
        raise RunError(f"{path}: is an input of this command; choose another file for --json")
    if not is_fit:
        raise RunError(f"{path}: cannot be written; choose a file in an existing folder for --json")


def write(path: Path, scores: Scores, job: ScoreJob) -> None:
    """Write the scores as JSON, whole or not at all.

    Raises:
        RunError: The file cannot be written.
    """
    try:
        write_whole(path, [json.dumps(as_json(scores, job), indent=2), "\n"])
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror}); choose another file for --json") from None


def _note_other_settings(adapter: Path, recipe: Recipe, observer: Observer) -> None:
    """An adapter that was trained on another model may fit, and then it means nothing."""
    if not holds_run(adapter.parent):
        return
    earlier = RunDirectory(adapter.parent).resolved(checking.TABLES)
    matters = (*_MADE_FOR, "seed") if recipe.model.name == "tiny" else _MADE_FOR
    different = [key for key in differing_keys(earlier, recipe) if key in matters]
    if different:
        observer.note(f"note: {adapter} was trained with different settings for {', '.join(different)}")


def _opening_as_json(scored: Scored) -> dict[str, Any]:
    return {
        "label": scored.written.label,
        "text": scored.written.text,
        "accuracy": scored.accuracy,
        "interval": list(scored.interval),
        "rewards": scored.rewards,
        "total": scored.total,
        "answers": [
            {"answer": answer.text, "count": answer.count, "right": answer.is_right} for answer in scored.answers
        ],
    }
