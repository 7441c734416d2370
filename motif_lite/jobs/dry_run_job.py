"""The preflight, ``--dry-run``: what a run would do, shown on its first problem, and nothing of it kept.

It goes the way of a run as far as training: recipe, problems, plan and policy with all their checks. Then the trainer
performs one step on one problem, in a folder that is removed, and the seconds of that step say what a run will take.
"""

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from motif_lite.context import RunContext
from motif_lite.errors import TrainingError
from motif_lite.grading.answers import boxes
from motif_lite.jobs import checking, problems
from motif_lite.jobs.problems import Problems
from motif_lite.jobs.session import conducted, load_policy, required_backend
from motif_lite.monitor import first_group
from motif_lite.monitor.forecast import Ahead
from motif_lite.nouns import Opening, TokenProgress
from motif_lite.observer import Observer
from motif_lite.paths import cache_folder
from motif_lite.planning import planner, speeds
from motif_lite.planning.planner import Plan
from motif_lite.planning.projection import project
from motif_lite.policies.protocol import trainable
from motif_lite.recipe.schema import Recipe
from motif_lite.rollout.rewards import try_out
from motif_lite.rollout.strategies import strategy_of
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.folders import require_free
from motif_lite.runs.records import Mark, Measurement, StepMetrics
from motif_lite.tasks import sources

if TYPE_CHECKING:
    from motif_lite.training.trial import Trial
    from motif_lite.views.dry_run import Screen


@dataclass(frozen=True, slots=True)
class DryRunJob:
    """What a ``--dry-run`` command line asks for, validated, with nothing heavy done yet.

    Attributes:
        name: For people, e.g. ``tiny_cpu``.
    """

    name: str
    recipe: Recipe

    def perform(self, observer: Observer, screen: "Screen") -> None:
        """Show everything, as it becomes known.

        Raises:
            MotifError: A run would be refused, or would fail in its first step.
            Interrupted: The user stopped it.
        """
        listener = _Listener(observer)
        with (
            conducted(listener, cache_folder(), self.how_to_go_on, say=observer.note),
            tempfile.TemporaryDirectory(prefix="motif_lite-") as scratch,
            ExitStack() as held,
        ):
            backend = required_backend(self.recipe)
            given = problems.read(self.recipe, listener, trains=True)
            try_out(self.recipe, given.train[0])
            recipe, plan, policy = load_policy(backend, self.recipe, listener, trains=True)
            held.callback(trainable(policy).close)
            plan = _with_speed(plan, listener)
            context = RunContext(recipe, policy, RunDirectory(Path(scratch)), listener)
            given = problems.fitting(context, given)
            _show_model(context, given, screen)
            _show_step(context, given, plan, listener, screen)

    @staticmethod
    def how_to_go_on() -> str:
        """What is shown after an interruption."""
        return "nothing has been written; repeat the command to start over"


def job(path: Path | None, changes: Sequence[str], out: Path | None) -> DryRunJob:
    """Turn a command line into a job.

    Raises:
        MotifError: The recipe or the run directory would be refused.
    """
    recipe = checking.check(path, changes)
    assert path is not None
    checking.require_in_process(recipe, "--dry-run")
    if out is not None:
        require_free(out)
    return DryRunJob(path.stem, recipe)


def _with_speed(plan: Plan | None, observer: Observer) -> Plan | None:
    """The plan by this machine's own speed; a GPU's is assumed."""
    if plan is None or plan.machine.device != "cpu":
        return plan
    observer.phase("planning", "the processor's speed")
    return planner.make(plan.recipe, plan.shape, plan.machine, speed=speeds.measured())


def _show_model(context: RunContext, given: Problems, screen: "Screen") -> None:
    """The model as it was loaded, and the prompt of the first round."""
    recipe, policy, problem = context.recipe, trainable(context.policy), given.train[0]
    messages = strategy_of(recipe, recipe.rollout.strategy).first_messages(problem)
    system = "\n".join(message["content"] for message in messages if message["role"] == "system")
    screen.model(recipe, policy.device_type, policy.facts(), system, policy.count_tokens(system))
    screen.first_prompt(recipe, problem, policy.tokens(policy.render(messages)))


def _show_step(
    context: RunContext, given: Problems, plan: Plan | None, listener: "_Listener", screen: "Screen"
) -> None:
    """One group of openings, its gradient step, and what follows from them for a run."""
    from motif_lite.training import trial

    recipe, group = context.recipe, trial.of_one_group(context.recipe)
    its_plan = planner.make(group, plan.shape, plan.machine, speed=plan.speed) if plan else None
    if its_plan:
        context.observer.planned(its_plan.seconds)
    tried = _tried(context, group, given, its_plan)
    openings = tried.rollouts.openings
    path = max((future for opening in openings for future in opening.futures), key=lambda future: len(future.turns))
    screen.later_prompts(
        [trainable(context.policy).tokens(turn.prompt) for turn in path.turns], context.policy.context_tokens
    )
    screen.group(group, tried)
    screen.step(group, tried, its_plan)
    num_tokens = sum(tried.cost.tokens.values())
    number = checking.NumProblems(
        {name: len(problems) for name, problems in given.benchmarks.items()}, len(given.held_out), len(given.train)
    )
    evaluated = list(checking.evaluated(recipe, number))
    screen.run(recipe, project(recipe, group, tried.cost.seconds, num_tokens, evaluated, plan))
    has_box = any(boxes(future.final.text) for opening in openings for future in opening.futures)
    found = first_group.remarks(recipe, tried.metrics, tried.cost, has_box=has_box, plan=its_plan)
    screen.remarks([*listener.notes, *found], tried.metrics)


def _tried(context: RunContext, group: Recipe, given: Problems, plan: Plan | None) -> "Trial":
    """The trainer's step on the first problem."""
    from motif_lite.training import trial
    from motif_lite.training.context import TrainingContext

    training = TrainingContext(
        group, trainable(context.policy), context.run, context.observer,
        strategy=strategy_of(group, group.rollout.strategy), problems=given.train[:1],
        planned=plan.estimate if plan else None,
        read_progress=sources.progress_reader(group.data.train),
    )  # fmt: skip
    try:
        return trial.one_step(training)
    except TrainingError as error:
        raise TrainingError(f"{error} (this was a dry run: nothing was saved)") from error


class _Listener:
    """Implements `observer.Observer`: progress is passed on, remarks are kept for the end, the rest is shown there."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self.notes: list[str] = []

    def phase(self, name: str, detail: str = "") -> None:
        """A phase has begun."""
        self._observer.phase(name, detail)

    def advance(self, done: int, total: int) -> None:
        """So much of the phase is done."""
        self._observer.advance(done, total)

    def planned(self, seconds: Mapping[str, float]) -> None:
        """A step takes at most so long by phase."""
        self._observer.planned(seconds)

    def ahead(self, work: Ahead) -> None:
        """Nothing: it is one step."""

    def generating(self, progress: TokenProgress) -> None:
        """So far have the replies of the phase come."""
        self._observer.generating(progress)

    def note(self, text: str) -> None:
        """A remark."""
        if text not in self.notes:
            self.notes.append(text)

    def step(self, metrics: StepMetrics) -> None:
        """The step that is tried."""

    def opening(self, opening: Opening, score: float) -> None:
        """One of its openings."""

    def result(self, measurement: Measurement) -> None:
        """Nothing is measured."""

    def mark(self, mark: Mark) -> None:
        """Nor along the way."""
