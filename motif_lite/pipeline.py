"""The composition root: a run from recipe to report, read top to bottom.

    recipe -> policy -> problems -> evaluation before -> training -> evaluation after -> report

Heavy imports stand inside the functions that need them: `check` answers in well under a second, and Unsloth has to
be imported before TRL and transformers, so the policy is always loaded first.
"""

import logging
import os
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from motif_lite import data, policies
from motif_lite import recipe as recipes
from motif_lite.paths import cache_folder
from motif_lite.policies import BACKENDS
from motif_lite.progress import Observer
from motif_lite.recipe import Recipe
from motif_lite.rewards import REWARDS
from motif_lite.rollout import STRATEGIES, Strategy
from motif_lite.run_dir import RunDirectory, check_resumable, free_folder, require_free
from motif_lite.types import Problem

if TYPE_CHECKING:
    from motif_lite.policies import TrainablePolicy

TABLES = {"backend": BACKENDS, "strategy": STRATEGIES, "reward": REWARDS}

RUNS = Path("runs")
"""Where runs go unless --out says otherwise."""


class Interrupted(Exception):
    """The user stopped the run; it can be resumed."""


def check(path: Path, overrides: Sequence[str]) -> Recipe:
    """Read and validate a recipe and what it names, as far as that needs no download and no torch.

    Raises:
        MotifError: Something in it is wrong.
    """
    recipe = recipes.load(path, overrides, TABLES)
    data.check(recipe.data.as_source(), role="train")
    for source in recipe.evaluation.benchmarks.values():
        data.check(source, role="test")
    return recipe


def start(path: Path, overrides: Sequence[str], out: Path | None, observer: Observer) -> RunDirectory:
    """Begin a run and see it through: evaluate, train, evaluate, report.

    Raises:
        MotifError: Something is the user's to mend.
        Interrupted: The user stopped it.
    """
    recipe = check(path, overrides)
    root = out or free_folder(RUNS / path.stem)
    require_free(root)
    policy = load_policy(recipe, observer)
    run = RunDirectory.create(root, recipe, path.read_text(encoding="utf-8"))
    _perform(recipe, policy, run, observer)
    return run


def resume(recipe: Recipe, run: RunDirectory, observer: Observer) -> None:
    """Continue a run where it stopped; what is done already is not done again.

    Raises:
        MotifError: Something is the user's to mend.
        Interrupted: The user stopped it again.
    """
    check_resumable(run, recipe, TABLES)
    policy = load_policy(recipe, observer)
    run.write_resolved(recipe)
    _perform(recipe, policy, run, observer)


def evaluate_only(recipe: Recipe, run: RunDirectory, observer: Observer) -> None:
    """Measure a run's adapter, or the bare model where there is none, as the recipe asks; replace older figures."""
    from motif_lite.evaluation import evaluate, forget

    policy = load_policy(recipe, observer)
    when = "before"
    if run.adapter.exists():
        policy.load_adapter(run.adapter)
        when = "after"
    benchmarks = _benchmarks(recipe, policy)
    with _logging_to(run):
        forget(recipe, when, run)
        evaluate(recipe, policy, benchmarks, when, run, observer)
        _report(recipe, run, observer)


def load_policy(recipe: Recipe, observer: Observer) -> "TrainablePolicy":
    """Load the model with a fresh adapter; build the tiny one first if it is asked for."""
    _quiet_libraries()
    name = recipe.model.name
    if name == "tiny":
        from motif_lite import tiny

        observer.phase("warm start", "the tiny model learns the steps of chain_sum (once, then cached)")
        folder = tiny.prepare(
            seed=recipe.seed,
            num_rounds=recipe.rollout.num_rounds,
            max_tokens=recipe.rollout.openings.max_tokens,
            cache_folder=cache_folder(),
            on_progress=observer.advance,
        )
        name = str(folder)
    observer.phase("loading", recipe.model.name)
    return policies.load(recipe, name)


def _perform(recipe: Recipe, policy: "TrainablePolicy", run: RunDirectory, observer: Observer) -> None:
    """All stages of a run that are not done yet."""
    from motif_lite import training
    from motif_lite.evaluation import evaluate

    with _logging_to(run):
        observer.phase("reading", "problems")
        strategy = STRATEGIES[recipe.rollout.strategy](recipe.rollout)
        problems = _problems(recipe, policy, strategy)
        benchmarks = _benchmarks(recipe, policy)
        if run.adapter.exists():
            policy.load_adapter(run.adapter)
        else:
            if recipe.evaluation.before:
                evaluate(recipe, policy, benchmarks, "before", run, observer)
            with _graceful_stop(observer) as stop_requested:
                complete = training.train(
                    recipe,
                    policy,
                    strategy,
                    problems,
                    run,
                    observer,
                    steps_done=data.steps_done(recipe.data.train),
                    stop_requested=stop_requested,
                )
            if not complete:
                raise Interrupted
        if recipe.evaluation.after:
            evaluate(recipe, policy, benchmarks, "after", run, observer)
        _report(recipe, run, observer)


def _problems(recipe: Recipe, policy: "TrainablePolicy", strategy: Strategy) -> list[Problem]:
    loaded = data.load(recipe.data.as_source(), role="train", seed=recipe.seed)
    return _fitting(recipe, policy, strategy, loaded, recipe.data.train)


def _benchmarks(recipe: Recipe, policy: "TrainablePolicy") -> dict[str, list[Problem]]:
    """Problems by benchmark; the longest system prompt decides what fits, so that strategies share problems."""
    chosen = [STRATEGIES[name](recipe.rollout) for name in recipe.evaluation.strategies]
    strategy = max(chosen, key=lambda strategy: len(str(strategy.first_messages(Problem("", "", "")))))
    return {
        name: _fitting(recipe, policy, strategy, data.load(source, role="test", seed=recipe.seed), name)
        for name, source in recipe.evaluation.benchmarks.items()
    }


def _fitting(
    recipe: Recipe, policy: "TrainablePolicy", strategy: Strategy, problems: list[Problem], source: str
) -> list[Problem]:
    def num_tokens(problem: Problem) -> int:
        return policy.count_tokens(policy.render(strategy.first_messages(problem)))

    return data.drop_long(problems, num_tokens, recipe.rollout.max_prompt_tokens, source=source)


def _report(recipe: Recipe, run: RunDirectory, observer: Observer) -> None:
    from motif_lite import report

    observer.phase("reporting")
    report.write(recipe, run)


@contextmanager
def _graceful_stop(observer: Observer) -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a stop after the current step; the second one leaves at once."""
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        observer.note("stopping after this step, with a checkpoint; once more to leave at once")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _logging_to(run: RunDirectory) -> Iterator[None]:
    """Everything that libraries log goes to run.log, warnings included."""
    handler = run.log_handler()
    logging.getLogger().addHandler(handler)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        logging.getLogger().removeHandler(handler)
        handler.close()


def _quiet_libraries() -> None:
    """Silence the libraries' own bars and banners; must come before they are imported."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    warnings.filterwarnings("ignore", module="trl|peft|transformers|torch")
