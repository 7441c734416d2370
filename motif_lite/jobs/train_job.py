"""A whole run from recipe to report, read top to bottom: the composition root.

    recipe -> problems -> memory plan -> policy -> evaluation before -> warm start and selection, where the recipe asks
    for them -> training -> evaluation after -> report

Heavy imports stand inside the functions that need them: `check` answers in well under a second, and Unsloth has to
be imported before TRL and transformers, so the policy is always loaded first.
"""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from motif_lite.context import RunContext
from motif_lite.errors import RunError
from motif_lite.jobs import adapter_choice, following, reporting
from motif_lite.jobs.checking import TABLES, check, check_names, require_in_process
from motif_lite.jobs.exactness import note_changed_problems, note_what_is_not_exact
from motif_lite.jobs.problems import Benchmarks, Problems, fitting, fitting_benchmarks, read
from motif_lite.jobs.session import conducted, load_policy, log_file, required_backend, sums_of_model
from motif_lite.jobs.stopping import Stop
from motif_lite.loggers import table as loggers
from motif_lite.monitor.forecast import Ahead
from motif_lite.observer import Observer
from motif_lite.planning.planner import Plan
from motif_lite.policies.led import Wanted, led, want
from motif_lite.policies.protocol import TrainablePolicy, trainable
from motif_lite.ranks import ALONE, Ranks
from motif_lite.recipe import loading
from motif_lite.recipe.schema import Recipe
from motif_lite.rollout.rewards import try_out
from motif_lite.rollout.strategies import strategy_of
from motif_lite.runs import budget, inputs, own_code_record, software
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.folders import free_folder, holds_run, newest_run, require_free
from motif_lite.runs.kept_replies import KeptReplies
from motif_lite.runs.resuming import check_resumable, with_decisions_of
from motif_lite.tasks import sources

if TYPE_CHECKING:
    from motif_lite.policies.server.policy import ServerPolicy

RUNS = Path("runs")
"""Where runs go unless --out says otherwise."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunJob:
    """What a command line asks for, validated, with nothing heavy done yet.

    Attributes:
        name: For people, e.g. ``tiny_cpu``.
        recipe_text: The recipe file as given, for a new run.
        existing: ``root`` holds a run to go on with.
        evaluate_only: Measure only.
        adapter: Of somebody's own, to measure: a folder or hub name.
        pause_at: The share of the budget with which training pauses, to be resumed.
        ranks: The processes that share the run, not joined yet.
    """

    name: str
    recipe: Recipe
    root: Path
    recipe_text: str = ""
    existing: bool = False
    evaluate_only: bool = False
    adapter: str | None = None
    pause_at: float = 1.0
    ranks: Ranks = ALONE

    def follow(self) -> None:
        """In a helper: do what the main process wants.

        Raises:
            Followed: The run has ended early.
        """
        following.follow(self.recipe, self.root, self.adapter, self.ranks)

    def perform(self, observer: Observer) -> None:
        """See the run through, in the main process where there are several.

        Raises:
            MotifError: An error that the user can fix.
            Interrupted: The user stopped it.
        """
        with conducted(observer, self.root, self.how_to_go_on) as stop, ExitStack() as held:
            ranks = self.ranks.joined()
            met = following.meet(ranks, self.root)
            is_finished = False
            if self.existing:
                held.enter_context(RunDirectory(self.root).locked())
                is_finished = not self.evaluate_only and _is_finished(self.recipe, self.root, observer)
            if ranks.from_main(bool, is_finished):
                return
            if not self.evaluate_only:
                note_what_is_not_exact(self.recipe, self.root if self.existing else None, observer)
                loggers.require(self.recipe.logging)
            backend = ranks.together(lambda: required_backend(self.recipe, ranks))
            # A bad row is found before a model is downloaded.
            problems = read(self.recipe, observer, trains=not self.evaluate_only)
            if self.existing and not self.evaluate_only:
                inputs.require_same_problems(self.root, problems.train, problems.held_out)
            if not self.evaluate_only:
                try_out(self.recipe, problems.train[0])
            asked, given = adapter_choice.taken_on(self.recipe, self.adapter, observer)
            recipe, plan, policy = load_policy(backend, asked, observer, trains=not self.evaluate_only, ranks=ranks)
            if asked.rollout.server is not None:
                held.callback(trainable(policy).close)
            if not self.existing:
                held.enter_context(RunDirectory(self.root).locked())
            run = self._run_directory(recipe, problems, sums_of_model(recipe, policy, observer))
            adapter_choice.put_into(run, given)
            software.note(run.root)
            with log_file(run):
                _log.info("processes of this run: %s", " ".join(str(each.number) for each in met))
                context = RunContext(recipe, led(policy, ranks), run, observer, ranks=ranks)
                if self.evaluate_only:
                    _measure(context, problems.benchmarks)
                    is_complete = True
                else:
                    is_complete = _train_and_evaluate(context, trainable(policy), problems, plan, stop, self.pause_at)
                want(ranks, Wanted("end"))
                if is_complete:
                    reporting.report(recipe, run, observer)
                else:
                    share = budget.share_done(recipe.training, run.spent())
                    observer.note(f"paused with {100 * share:.0f} % of the budget spent; {self.how_to_go_on()}")

    def how_to_go_on(self) -> str:
        """How to continue, shown after an interruption."""
        if not holds_run(self.root):
            return "nothing has been written yet; repeat the command to start over"
        word = "--evaluate-only" if self.evaluate_only else "--resume"
        shared = f" --processes {self.ranks.count}" if self.ranks.count > 1 else ""
        return f"to continue: python run.py {word} --out {self.root}{shared}"

    def _run_directory(self, recipe: Recipe, problems: Problems, model: dict[str, str]) -> RunDirectory:
        held_out = inputs.of_problems(problems.held_out) if problems.held_out else None
        train = inputs.of_problems(problems.train) if problems.train else None
        found = inputs.Inputs(train=train, validation=held_out, model=model)
        if not self.existing:
            inputs.keep(self.root, found)
            return RunDirectory.create(self.root, recipe, self.recipe_text, trains=not self.evaluate_only)
        own_code_record.keep(self.root, recipe)
        inputs.require_same_model(self.root, recipe.model.name, model)
        if not self.evaluate_only and not inputs.knows_problems(self.root):
            inputs.keep(self.root, found)
        return RunDirectory.open(self.root)


def job(
    path: Path | None,
    changes: Sequence[str],
    out: Path | None,
    *,
    resume: bool = False,
    evaluate_only: bool = False,
    adapter: str | None = None,
    pause_at: float | None = None,
) -> RunJob:
    """Turn a command line into a job.

    Args:
        pause_at: The share of the budget with which training pauses; None where it does not.

    Raises:
        MotifError: The recipe or the run directory is not fit for it.
    """
    adapter_choice.require_fit(adapter, path, out, evaluate_only=evaluate_only)
    if resume and evaluate_only:
        raise RunError("--resume and --evaluate-only cannot be combined; a resumed run is evaluated at its end")
    if pause_at is not None and evaluate_only:
        raise RunError("--pause-at is for training, and --evaluate-only trains nothing; leave one of them out")
    if pause_at is not None and not 0 < pause_at < 1:
        raise RunError(f"--pause-at {pause_at:g} is no share of the budget: give one between 0 and 1, e.g. 0.25")
    if resume:
        root = out or (newest_run(RUNS / path.stem) if path else None)
        if root is None:
            raise RunError("no run to resume; give --out with its directory")
        return replace(_existing_job(path, changes, root, evaluate_only=False), pause_at=pause_at or 1.0)
    if evaluate_only and out is not None and holds_run(out):
        return _existing_job(path, changes, out, evaluate_only=True)
    if evaluate_only and path is None:
        where = f"{out}: holds no run" if out else "nothing to evaluate"
        raise RunError(f"{where}; give --out with a run directory, or --recipe for a base model")
    recipe = check(path, changes)
    assert path is not None
    if not evaluate_only:
        require_in_process(recipe, "training")
    if adapter is not None:
        require_in_process(recipe, "--adapter")
    root = out or free_folder(RUNS / path.stem)
    require_free(root)
    return RunJob(
        path.stem, recipe, root, path.read_text(encoding="utf-8-sig"), evaluate_only=evaluate_only, adapter=adapter,
        pause_at=pause_at or 1.0,
    )  # fmt: skip


def _existing_job(path: Path | None, changes: Sequence[str], root: Path, *, evaluate_only: bool) -> RunJob:
    """Go on with a run, with its own recipe or with one that differs only where it may."""
    run = RunDirectory.open(root)
    recipe = run.resolved(TABLES, changes) if path is None else loading.load(path, changes, TABLES)
    recipe = with_decisions_of(run, recipe, TABLES)
    check_resumable(run, recipe, TABLES)
    own_code_record.require_same(root, recipe)
    check_names(recipe)
    if not evaluate_only:
        require_in_process(recipe, "training")
        adapter_choice.require_own(run)
    return RunJob(root.name, recipe, root, existing=True, evaluate_only=evaluate_only)


def _is_finished(recipe: Recipe, root: Path, observer: Observer) -> bool:
    """Whether nothing of a run is left to do; says so."""
    from motif_lite.evaluation import benchmarks

    run = RunDirectory(root)
    finished = run.is_trained(recipe.training) and benchmarks.is_complete(recipe, run) and run.report.exists()
    if finished:
        limits = {key: getattr(recipe.training, key) for key in ("max_steps", "until_tokens", "until_seconds")}
        larger = ", ".join(f"training.{key} (now {value:,})" for key, value in limits.items() if value is not None)
        observer.note(
            f"this run is finished: {run.spent().steps} steps are trained and everything is evaluated; to "
            f"train longer, --set a larger {larger}"
        )
        note_changed_problems(recipe, root, observer)
    return finished


def _train_and_evaluate(
    context: RunContext, policy: TrainablePolicy, problems: Problems, plan: Plan | None, stop: Stop, pause_at: float
) -> bool:
    """All stages of a run that are not done yet.

    Args:
        policy: Of this process alone; that of the context is the one of all.
        pause_at: The share of the budget with which training pauses.

    Returns:
        Whether all of them are done; False if training paused.
    """
    from motif_lite.evaluation import memorisation
    from motif_lite.evaluation.benchmarks import evaluate, forget
    from motif_lite.evaluation.selecting import selected
    from motif_lite.evaluation.validation import Validation
    from motif_lite.training import grpo
    from motif_lite.training.context import TrainingContext
    from motif_lite.training.warm_start import warm_started

    recipe, run = context.recipe, context.run
    run.write_resolved(recipe)
    problems = fitting(context, problems)
    if recipe.evaluation.before:
        evaluate(context, problems.benchmarks, "before")  # the fresh adapter changes nothing yet
        memorisation.probe(context, problems.benchmarks)
    if run.is_trained(recipe.training):
        run.clear_unfinished()  # the process may have ended between the adapter and this
        trainable(context.policy).load_adapter(run.adapter)
    else:
        forget("after", run)  # a finished run that goes on has figures of its shorter self
        run.report.unlink(missing_ok=True)  # or of what was only evaluated; a report says that a run is finished
        warm_started(context, problems.train)
        training = TrainingContext(
            recipe, policy, run, context.observer, ranks=context.ranks,
            strategy=strategy_of(recipe, recipe.rollout.strategy), problems=selected(context, problems.train),
            planned=plan.estimate if plan else None,
            read_progress=sources.progress_reader(recipe.data.train), pause_at=pause_at,
        )  # fmt: skip
        context.observer.ahead(_ahead(recipe, run, problems))
        want(context.ranks, Wanted("train", problems=tuple(training.problems), pause_at=pause_at))
        if not grpo.train(training, Validation(context, problems.held_out), stop):
            return False
    if recipe.evaluation.after:
        evaluate(context, problems.benchmarks, "after")
    return True


def _ahead(recipe: Recipe, run: RunDirectory, problems: Problems) -> Ahead:
    """What training is followed and interrupted by."""
    section, benchmarks = recipe.evaluation, problems.benchmarks.values()
    rounds = sum(strategy_of(recipe, name).num_rounds for name in section.strategies)
    num_prompts = sum(map(len, benchmarks)) * (section.greedy + section.num_samples) * rounds
    before = [each.seconds for each in run.evaluation().measurements if each.when == "before"]
    return Ahead(
        num_marks=section.validation.num_marks if section.validation else 0,
        marks=run.marks(),
        before_seconds=sum(before) if before and section.before else None,
        num_prompts=num_prompts if section.after else 0,
        share_done=budget.share_done(recipe.training, run.spent()),
    )


def _measure(context: RunContext, benchmarks: Benchmarks) -> None:
    """Evaluate the base model and, if there is one, the run's adapter; results with equal settings are kept."""
    from motif_lite.evaluation import memorisation
    from motif_lite.evaluation.benchmarks import evaluate

    run, recipe = context.run, context.recipe
    if recipe.model.backend == "server":
        context = replace(context, replies=KeptReplies(run.kept_replies))
        cast("ServerPolicy", context.policy).store = context.replies
    benchmarks = fitting_benchmarks(context, benchmarks)
    evaluate(context, benchmarks, "before")
    memorisation.probe(context, benchmarks)
    if context.replies is not None:
        context.replies.drop()
    if run.adapter.exists():
        run.require_whole_adapter()
        trainable(context.policy).load_adapter(run.adapter)
        evaluate(context, benchmarks, "after")
    else:
        context.observer.note(f"{run.root} has no trained adapter; only the base model was evaluated")
