"""The ``solve`` command: answers to questions in rounds, from a run, a recipe, or a recipe with somebody's adapter."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from motif_lite.errors import DataError, RecipeError, RunError
from motif_lite.grading.answers import last_boxed
from motif_lite.jobs import adapter_choice, checking, session
from motif_lite.nouns import Problem, Trajectory
from motif_lite.observer import Observer
from motif_lite.paths import cache_folder
from motif_lite.recipe.schema import Recipe
from motif_lite.rollout.reply_format import progress
from motif_lite.runs import own_code_record
from motif_lite.runs.directory import RunDirectory
from motif_lite.solving.solver import MOST_ROUNDS, MOST_SAMPLES, Effort, Solution, Solver, require_rounds
from motif_lite.tasks import sources


@dataclass(frozen=True, slots=True)
class SolveJob:
    """What a ``solve`` command line asks for, validated, with nothing heavy done yet.

    Attributes:
        name: For people: the run, or the recipe.
        adapter: A folder or hub name; None is the base model.
        effort: For each question, until the user says otherwise.
        is_served_run: A server is to have the run's model.
    """

    name: str
    recipe: Recipe
    adapter: str | None
    effort: Effort
    is_served_run: bool = False

    def load(self, observer: Observer) -> Solver:
        """Load the policy.

        Raises:
            MotifError: An error that the user can fix.
            Interrupted: The user stopped it.
        """
        with session.conducted(observer, cache_folder(), self.how_to_go_on):
            if self.is_served_run:
                observer.note(f"note: {self.name}: its adapter is not loaded; the server's model is taken for it")
            return Solver(*adapter_choice.loaded(self.recipe, self.adapter, observer))

    def held_out(self, observer: Observer) -> Problem:
        """A problem of the first benchmark, which was not trained on.

        Raises:
            MotifError: There is no benchmark, or it cannot be read.
        """
        if not self.recipe.evaluation.benchmarks:
            raise RunError("the recipe has no [evaluation.benchmarks] to take a held-out problem from")
        name, source = next(iter(self.recipe.evaluation.benchmarks.items()))
        observer.phase("reading", f"problems of {name}")
        recipe = self.recipe
        return sources.load(source, role="test", seed=recipe.seed, code=recipe.code, on_progress=observer.advance)[0]

    @staticmethod
    def how_to_go_on() -> str:
        """How to continue, shown after an interruption."""
        return "repeat the command to start over"


def job(
    run: Path | None,
    recipe: Path | None,
    changes: Sequence[str],
    adapter: str | None,
    effort: Effort,
    *,
    command: str = "solve",
) -> SolveJob:
    """Turn a command line into a job.

    Args:
        command: Its name, for messages.

    Raises:
        MotifError: The run, the recipe, the adapter or the effort is not fit for it.
    """
    made = _job(run, recipe, changes, adapter, effort, command)
    require_rounds(effort, made.recipe)
    return made


def _job(
    run: Path | None, recipe: Path | None, changes: Sequence[str], adapter: str | None, effort: Effort, command: str
) -> SolveJob:
    if (run is None) == (recipe is None):
        raise RecipeError(f"{command} takes either --run DIR, e.g. runs/tiny_cpu, or --recipe FILE [--adapter DIR]")
    asks_for_best = adapter == adapter_choice.BEST and run is not None
    if adapter is not None and not asks_for_best:
        adapter_choice.require(adapter)
    if run is None:
        assert recipe is not None
        checked = checking.check(recipe, changes)
        if adapter is not None:
            checking.require_in_process(checked, "--adapter")
        return SolveJob(recipe.stem, checked, adapter, effort)
    directory = RunDirectory.open(run)
    found = directory.resolved(checking.TABLES, changes)
    own_code_record.require_same(run, found)
    if found.model.backend == "server" and adapter is None and not asks_for_best:
        return SolveJob(run.name, found, None, effort, is_served_run=True)
    if adapter is not None or asks_for_best:
        checking.require_in_process(found, "--adapter")
    if asks_for_best:
        adapter = str(adapter_choice.best_of_run(directory))
    return SolveJob(run.name, found, adapter or str(adapter_choice.of_run(directory)), effort)


def with_rounds(effort: Effort, number: int) -> Effort:
    """More or fewer rounds.

    Raises:
        DataError: No strategy has so many.
    """
    if not 2 <= number <= MOST_ROUNDS:
        raise DataError(f"{number} rounds: give a number from 2 to {MOST_ROUNDS}")
    return replace(effort, num_rounds=number)


def with_samples(effort: Effort, number: int) -> Effort:
    """More or fewer samples.

    Raises:
        DataError: They are none, or too many.
    """
    if not 1 <= number <= MOST_SAMPLES:
        raise DataError(f"{number} samples: give a number from 1 to {MOST_SAMPLES}")
    return replace(effort, num_samples=number)


def as_json(found: Solution, line: int | None = None) -> str:
    """A solution as a line of JSON.

    Args:
        line: Of the question in its file.
    """
    return json.dumps({
        "line": line,
        "question": found.question,
        "answer": found.answer,
        "share": found.share,
        "votes": [{"answer": vote.answer, "count": vote.count, "samples": vote.samples} for vote in found.votes],
        "samples": [_sample_as_json(trajectory) for trajectory in found.trajectories],
        "cut": found.num_cut,
        "tokens": found.num_tokens,
        "seconds": round(found.seconds, 3),
    })  # fmt: skip


def _sample_as_json(trajectory: Trajectory) -> dict[str, object]:
    boxed = last_boxed(trajectory.final.text)
    return {
        "answer": boxed and boxed.text,
        "rounds": [
            {
                "reply": turn.reply.text,
                "progress": progress(turn.reply.text),
                "tokens": turn.reply.num_tokens,
                "finish": turn.reply.finish,
            }
            for turn in trajectory.turns
        ],
    }
