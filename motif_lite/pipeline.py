"""The composition root: a run from recipe to report, read top to bottom.

    recipe -> problems -> memory plan -> policy -> evaluation before -> training -> evaluation after -> report

Heavy imports stand inside the functions that need them: `check` answers in well under a second, and Unsloth has to
be imported before TRL and transformers, so the policy is always loaded first.
"""

import errno
import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from motif_lite import accounting, chain_sum, data, planning, policies, shapes, stopping
from motif_lite import recipe as recipes
from motif_lite.errors import ModelError, RecipeError, RunError
from motif_lite.memory import Estimate
from motif_lite.paths import cache_folder
from motif_lite.policies import BACKENDS
from motif_lite.progress import Observer
from motif_lite.recipe import Recipe
from motif_lite.rewards import REWARDS
from motif_lite.rollout import STRATEGIES, Strategy
from motif_lite.run_dir import (
    INEXACT,
    RunDirectory,
    check_resumable,
    free_folder,
    holds_run,
    newest_run,
    require_free,
    with_decisions_of,
)
from motif_lite.stopping import Stop
from motif_lite.types import Problem

if TYPE_CHECKING:
    from motif_lite.policies import Backend, TrainablePolicy

TABLES: recipes.Tables = {"backend": BACKENDS, "strategy": STRATEGIES, "reward": REWARDS}

RUNS = Path("runs")
"""Where runs go unless --out says otherwise."""


_CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}


@dataclass(frozen=True, slots=True)
class Job:
    """What a command line asks for, validated, with nothing heavy done yet.

    Attributes:
        name: For people, e.g. ``tiny_cpu``.
        recipe_text: The recipe file as given, for a new run.
        existing: ``root`` holds a run to go on with.
        evaluate_only: Measure only.
    """

    name: str
    recipe: Recipe
    root: Path
    recipe_text: str = ""
    existing: bool = False
    evaluate_only: bool = False

    def perform(self, observer: Observer) -> None:
        """See the run through.

        Raises:
            MotifError: Something is the user's to mend.
            Interrupted: The user stopped it.
        """
        with conducted(observer, self.root, self.how_to_go_on) as stop, ExitStack() as held:
            if self.existing:
                held.enter_context(RunDirectory(self.root).locked())
                if not self.evaluate_only and _is_finished(self.recipe, self.root, observer):
                    return
            if not self.evaluate_only:
                _note_what_is_not_exact(self, observer)
            backend = required_backend(self.recipe)
            problems = _read(self.recipe, observer)  # a bad row is found before a model is downloaded
            recipe, planned, policy = load_policy(backend, self.recipe, observer, trains=not self.evaluate_only)
            if not self.existing:
                held.enter_context(RunDirectory(self.root).locked())
            run = self._run_directory(recipe)
            with _log_file(run):
                if self.evaluate_only:
                    _measure(recipe, policy, problems.benchmarks, run, observer)
                else:
                    _train_and_evaluate(recipe, policy, problems, run, observer, planned, stop)
                _report(recipe, run, observer)

    def how_to_go_on(self) -> str:
        """What to tell somebody who has just interrupted it."""
        if not holds_run(self.root):
            return "nothing has been written yet; the same command starts again"
        word = "--evaluate-only" if self.evaluate_only else "--resume"
        return f"to go on: python run.py {word} --out {self.root}"

    def _run_directory(self, recipe: Recipe) -> RunDirectory:
        if self.existing:
            return RunDirectory.open(self.root)
        return RunDirectory.create(self.root, recipe, self.recipe_text, trains=not self.evaluate_only)


def check(path: Path | None, changes: Sequence[str]) -> Recipe:
    """Read and validate a recipe and what it names, as far as that needs no download and no torch.

    Args:
        path: The recipe file.
        changes: ``key.path=value`` as given to ``--set``.

    Raises:
        MotifError: Something in it is wrong.
    """
    if path is None:
        raise RecipeError("which recipe? Give --recipe FILE; recipes/tiny_cpu.toml runs on any machine")
    recipe = recipes.load(path, changes, TABLES)
    data.check(recipe.data.as_source(), role="train")
    if recipe.evaluation.validation is not None:
        data.check(recipe.evaluation.validation, role="validation")
    for source in recipe.evaluation.benchmarks.values():
        data.check(source, role="test")
    return recipe


def memory_plan(path: Path | None, changes: Sequence[str], vram: float | None) -> planning.Plan:
    """What a recipe needs on this machine, or on a card of ``vram`` GiB; needs no torch and no weights.

    Raises:
        MotifError: The recipe is wrong, or the model's shape cannot be had.
    """
    recipe = check(path, changes)
    if vram is not None and not 0 < vram <= 100_000:
        raise RecipeError(f"--vram {vram:g}: give the card's memory in GiB, e.g. --vram 24")
    gpu = None if vram is not None else planning.gpu_by_driver()
    machine = planning.machine_for(recipe, gpu, vram=vram)
    return planning.make(recipe, shapes.of(recipe.model.name), machine)


def job(
    path: Path | None, changes: Sequence[str], out: Path | None, *, resume: bool = False, evaluate_only: bool = False
) -> Job:
    """Turn a command line into a job.

    Raises:
        MotifError: The recipe or the run directory is not fit for it.
    """
    if resume and evaluate_only:
        raise RunError("--resume and --evaluate-only exclude each other; a resumed run evaluates by itself")
    if resume:
        root = out or (newest_run(RUNS / path.stem) if path else None)
        if root is None:
            raise RunError("no run to resume; give --out with its directory")
        return _existing_job(path, changes, root, evaluate_only=False)
    if evaluate_only and out is not None and holds_run(out):
        return _existing_job(path, changes, out, evaluate_only=True)
    if evaluate_only and path is None:
        where = f"{out}: holds no run" if out else "nothing to evaluate"
        raise RunError(f"{where}; give --out with a run directory, or --recipe for a bare model")
    recipe = check(path, changes)
    assert path is not None
    root = out or free_folder(RUNS / path.stem)
    require_free(root)
    return Job(path.stem, recipe, root, path.read_text(encoding="utf-8-sig"), evaluate_only=evaluate_only)


def _existing_job(path: Path | None, changes: Sequence[str], root: Path, *, evaluate_only: bool) -> Job:
    """Go on with a run, with its own recipe or with one that differs only where it may."""
    run = RunDirectory.open(root)
    recipe = run.resolved(TABLES, changes) if path is None else check(path, changes)
    recipe = with_decisions_of(run, recipe, TABLES)
    check_resumable(run, recipe, TABLES)
    return Job(root.name, recipe, root, existing=True, evaluate_only=evaluate_only)


@contextmanager
def conducted(observer: Observer, folder: Path, how_to_go_on: Callable[[], str]) -> Iterator[Stop]:
    """What everything that loads a model happens in: signals, a silent screen, warnings shown, full disks named.

    Args:
        folder: Where it writes.
        how_to_go_on: What to tell somebody whom an interruption or a full disk has stopped.
    """
    with (
        redirect_stdout(_Printed()), redirect_stderr(_Printed()), _notices_to(observer),
        stopping.signals(observer.note, how_to_go_on) as stop, _full_disks_named(folder, how_to_go_on),
    ):  # fmt: skip
        yield stop


def required_backend(recipe: Recipe) -> "Backend":
    """The recipe's backend, imported with all that it needs.

    Raises:
        MissingHardwareError: This machine has no GPU for it, or lacks a package.
    """
    _quiet_libraries()
    backend = policies.backend(recipe.model.backend)
    backend.require(recipe)
    return backend


def load_policy(
    backend: "Backend", recipe: Recipe, observer: Observer, *, trains: bool
) -> tuple[Recipe, Estimate | None, "TrainablePolicy"]:
    """The recipe with all that the memory plan decides, what it needs where that can be known, and its policy.

    Raises:
        RecipeError: It does not fit the GPU.
        ModelError: The model cannot be loaded.
    """
    model_name = _model_name(recipe, observer)
    recipe, planned = _planned(recipe, model_name, observer, trains=trains)
    observer.phase("loading", recipe.model.name)
    return recipe, planned, backend.load(recipe, model_name)


def _model_name(recipe: Recipe, observer: Observer) -> str:
    """The model's hub name or folder; the tiny one is built first if it is asked for."""
    name = os.path.expanduser(recipe.model.name)  # noqa: PTH111  # a hub name is not a path
    if name == "tiny":
        from motif_lite import tiny

        observer.phase("warm start", "the tiny model learns the steps of chain_sum (once, then cached)")
        folder = tiny.prepare(
            seed=recipe.seed,
            num_rounds=recipe.rollout.num_rounds,
            max_tokens=recipe.rollout.futures.max_tokens,  # one model for openings of any length
            cache_folder=cache_folder(),
            task=recipe.data.train if recipe.data.train in chain_sum.TASKS else "chain_sum",
            on_progress=observer.advance,
        )
        name = str(folder)
    return name


def _planned(recipe: Recipe, model_name: str, observer: Observer, *, trains: bool) -> tuple[Recipe, Estimate | None]:
    """The recipe with all that the memory plan decides, and what it needs, where that can be known.

    Raises:
        RecipeError: It does not fit the GPU.
        ModelError: The plan has to decide something, and the model's shape cannot be had.
    """
    from motif_lite import metering

    observer.phase("planning", "memory")
    machine = planning.machine_for(recipe, metering.gpu(), supposing=False)
    metering.keep_within(machine)
    if trains and machine.device == "cpu":
        import motif_lite.training  # noqa: F401  # what it imports is measured, too
    machine = metering.measured(machine)
    try:
        shape = shapes.of(model_name)
    except ModelError as error:
        if "auto" in (recipe.rollout.max_width, recipe.training.micro_batch_size):
            raise ModelError(f"{error}; without it, set rollout.max_width and training.micro_batch_size") from None
        observer.note(f"note: no memory plan ({error})")
        return recipe, None
    plan = planning.make(recipe, shape, machine, trains=trains)
    if not plan.fits:
        complaint = f"{plan.shortage}; {plan.remedy}"
        if machine.device == "cuda":
            raise RecipeError(f"{complaint}; if you know better, name more with --set model.memory_gib=N")
        observer.note(f"note: {complaint}")  # a CPU can swap, and few replies run to their limits
    return plan.recipe, plan.estimate


def _note_what_is_not_exact(job: Job, observer: Observer) -> None:
    """Name the settings by which a resumed run differs from one that was not interrupted."""
    training = job.recipe.training
    if training.until_seconds is not None:
        observer.note("note: training.until_seconds: the clock ends this run, so it cannot be repeated exactly")
    if job.recipe.model.fast_inference and training.credit == "opening":
        observer.note(
            "note: model.fast_inference: vLLM keeps no random state, so openings after --resume are others than they "
            "would have been"
        )
    if job.existing:
        earlier = RunDirectory(job.root).resolved(TABLES)
        for key in recipes.differing_keys(earlier, job.recipe):
            if key in INEXACT:
                observer.note(f"note: {key} has changed: {INEXACT[key]}")


def _is_finished(recipe: Recipe, root: Path, observer: Observer) -> bool:
    """Whether nothing of a run is left to do; says so."""
    from motif_lite import evaluation

    run = RunDirectory(root)
    finished = run.is_trained(recipe.training) and evaluation.is_complete(recipe, run) and run.report.exists()
    if finished:
        limits = {key: getattr(recipe.training, key) for key in ("max_steps", "until_tokens", "until_seconds")}
        larger = ", ".join(f"training.{key} (now {value:,})" for key, value in limits.items() if value is not None)
        observer.note(
            f"this run is finished: {run.spent().steps} steps are trained and all is measured; --set with a larger "
            f"{larger} trains on"
        )
    return finished


Benchmarks = dict[str, list[Problem]]
"""Problems by the name of the benchmark."""


@dataclass(frozen=True, slots=True)
class Problems:
    """All problems that a recipe names.

    Attributes:
        held_out: Measured along the way.
    """

    train: list[Problem]
    held_out: list[Problem]
    benchmarks: Benchmarks


def _read(recipe: Recipe, observer: Observer) -> Problems:
    observer.phase("reading", "problems")
    section, held_out = recipe.evaluation, list[Problem]()
    if section.validation is not None:
        held_out = data.load(section.validation, role="validation", seed=recipe.seed)
    train = data.load(recipe.data.as_source(), role="train", seed=recipe.seed, held_out=held_out)
    benchmarks = {name: data.load(source, role="test", seed=recipe.seed) for name, source in section.benchmarks.items()}
    for name, problems in benchmarks.items():
        data.require_apart(held_out, problems, benchmark=name)
    return Problems(train, held_out, benchmarks)


def _train_and_evaluate(
    recipe: Recipe,
    policy: "TrainablePolicy",
    problems: Problems,
    run: RunDirectory,
    observer: Observer,
    planned: Estimate | None,
    stop: Stop,
) -> None:
    """All stages of a run that are not done yet."""
    from motif_lite import training
    from motif_lite.evaluation import Marks, evaluate, forget

    run.write_resolved(recipe)
    strategy = STRATEGIES[recipe.rollout.strategy](recipe.rollout)
    fitting = _fitting(recipe, policy, strategy, problems.train, recipe.data.train)
    data.require_enough(fitting, recipe.training.problems_per_step, source=recipe.data.train)
    benchmarks = _fitting_benchmarks(recipe, policy, problems.benchmarks)
    held_out = _fitting(recipe, policy, strategy, problems.held_out, "evaluation.validation")
    if recipe.evaluation.before:
        evaluate(recipe, policy, benchmarks, "before", run, observer)  # the fresh adapter changes nothing yet
    if run.is_trained(recipe.training):
        policy.load_adapter(run.adapter)
    else:
        forget("after", run)  # a finished run that goes on has figures of its shorter self
        steps_done = data.steps_done(recipe.data.train)
        with stop.patiently(stopping.STEP_SECONDS):
            training.train(
                recipe,
                policy,
                strategy,
                fitting,
                run,
                observer,
                planned=planned,
                marks=Marks(recipe, policy, held_out, run, observer),
                steps_done=steps_done,
                stop_requested=stop.after_step,
            )
    if recipe.evaluation.after:
        evaluate(recipe, policy, benchmarks, "after", run, observer)


def _measure(
    recipe: Recipe, policy: "TrainablePolicy", benchmarks: Benchmarks, run: RunDirectory, observer: Observer
) -> None:
    """Measure the bare model, and the run's adapter where it has one; what is measured alike already is kept."""
    from motif_lite.evaluation import evaluate

    benchmarks = _fitting_benchmarks(recipe, policy, benchmarks)
    evaluate(recipe, policy, benchmarks, "before", run, observer)
    if run.adapter.exists():
        run.require_whole_adapter()
        policy.load_adapter(run.adapter)
        evaluate(recipe, policy, benchmarks, "after", run, observer)
    else:
        observer.note(f"{run.root} has no trained adapter: the bare model was measured")


def _fitting_benchmarks(recipe: Recipe, policy: "TrainablePolicy", benchmarks: Benchmarks) -> Benchmarks:
    """Drop what does not fit the longest system prompt, so that all strategies share their problems."""
    chosen = [STRATEGIES[name](recipe.rollout) for name in recipe.evaluation.strategies]
    strategy = max(chosen, key=lambda strategy: len(policy.render(strategy.first_messages(Problem("", "", "")))))
    return {name: _fitting(recipe, policy, strategy, problems, name) for name, problems in benchmarks.items()}


def _fitting(
    recipe: Recipe, policy: "TrainablePolicy", strategy: Strategy, problems: list[Problem], source: str
) -> list[Problem]:
    if not problems:
        return []

    def num_tokens(problem: Problem) -> int:
        return policy.count_tokens(policy.render(strategy.first_messages(problem)))

    return data.drop_long(problems, num_tokens, recipe.rollout.max_prompt_tokens, source=source)


def _report(recipe: Recipe, run: RunDirectory, observer: Observer) -> None:
    from motif_lite import report

    observer.phase("reporting")
    run.write_accounting(accounting.of(run))
    report.write(recipe, run)


@contextmanager
def _full_disks_named(folder: Path, how_to_go_on: Callable[[], str]) -> Iterator[None]:
    """A disk that takes no more is the user's to mend, wherever it is noticed."""
    try:
        yield
    except OSError as error:
        if error.errno not in _CANNOT_WRITE:
            raise
        raise RunError(
            f"{error.filename or folder}: cannot be written ({error.strerror}); make room; what was saved before is "
            f"whole; {how_to_go_on()}"
        ) from None


@contextmanager
def _notices_to(observer: Observer) -> Iterator[None]:
    """Warnings of this package are shown to whoever watches."""
    notices = _Notices(observer)
    logging.getLogger("motif_lite").addHandler(notices)
    try:
        yield
    finally:
        logging.getLogger("motif_lite").removeHandler(notices)


@contextmanager
def _log_file(run: RunDirectory) -> Iterator[None]:
    """Everything that is logged goes to run.log, warnings of all libraries included."""
    handler = run.log_handler()
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        logging.getLogger().removeHandler(handler)
        handler.close()


class _Printed(io.TextIOBase):
    """Takes what libraries print, banners and bars, and logs it: the terminal is the console's alone."""

    def write(self, text: str) -> int:
        if text.strip():
            logging.getLogger("printed").info(text.strip())
        return len(text)


class _Notices(logging.Handler):
    """Passes warnings on to whoever watches."""

    def __init__(self, observer: Observer) -> None:
        super().__init__(logging.WARNING)
        self._observer = observer

    def emit(self, record: logging.LogRecord) -> None:
        self._observer.note(f"note: {record.getMessage()}")


def _quiet_libraries() -> None:
    """Silence the libraries' own bars and banners; must come before they are imported."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    # Python prints what nobody handles to the screen; with this it goes to run.log or nowhere.
    logging.getLogger().addHandler(logging.NullHandler())
    warnings.filterwarnings("ignore", module="trl|peft|transformers|torch")
