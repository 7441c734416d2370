"""A helper's part of a run (`ranks`): it has the model, writes replies and trains along, and writes no file."""

import os
import signal
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from motif_lite.jobs import adapter_choice
from motif_lite.jobs.session import load_as_decided, required_backend, working
from motif_lite.monitor.forecast import Ahead
from motif_lite.nouns import Opening, TokenProgress
from motif_lite.policies.led import Wanted, help_until
from motif_lite.policies.protocol import Policy, trainable
from motif_lite.ranks import Ranks
from motif_lite.recipe.schema import Recipe
from motif_lite.rollout.strategies import strategy_of
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.records import Mark, Measurement, StepMetrics


@dataclass(frozen=True, slots=True)
class Met:
    """One of the run's processes.

    Attributes:
        number: The system's.
        root: The run's folder, as this process understands the command line: the main one may have begun it by then.
    """

    number: int
    root: str


def meet(ranks: Ranks, root: Path) -> list[Met]:
    """All processes, once they have joined; the main one first."""
    return ranks.gather(Met, lambda: Met(os.getpid(), str(root)))


def follow(recipe: Recipe, root: Path, adapter: str | None, ranks: Ranks) -> None:
    """Do what the main process wants until the run is over.

    Args:
        recipe: Of the command line, as all that follows.
        root: The run's folder, unless the main process has another one.
        adapter: Of somebody's own, to measure.
        ranks: Not joined yet.

    Raises:
        Followed: The run has ended early.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the main process heeds them, and with its end this one ends
    ranks = ranks.joined()
    root = Path(meet(ranks, root)[0].root)
    if ranks.from_main(bool):  # there is nothing left to do
        return
    with working(_Silent(), root, str):
        backend = ranks.together(lambda: required_backend(recipe, ranks))
        recipe, _ = adapter_choice.taken_on(recipe, adapter, _Silent())
        recipe, policy = load_as_decided(backend, recipe, ranks)
        while (wanted := help_until(policy, ranks)).what == "train":
            _train(recipe, policy, root, wanted, ranks)


def _train(recipe: Recipe, policy: Policy, root: Path, wanted: Wanted, ranks: Ranks) -> None:
    from motif_lite.evaluation.validation import Validation
    from motif_lite.training import grpo
    from motif_lite.training.context import TrainingContext

    strategy = strategy_of(recipe, recipe.rollout.strategy)
    context = TrainingContext(
        recipe, trainable(policy), RunDirectory(root), _Silent(), strategy=strategy, problems=wanted.problems,
        ranks=ranks, pause_at=wanted.pause_at,
    )  # fmt: skip
    grpo.train(context, Validation(context, ()), _AsTold())


class _AsTold:
    """Implements `context.Stopping`: whether to stop is the main process's to say."""

    def step_begins(self, left: object) -> None:
        """Nothing waits."""

    def step_ends(self) -> bool:
        """The main process tells."""
        return False

    def step_saved(self) -> None:
        """Nothing was waiting."""

    def saving(self) -> AbstractContextManager[None]:
        """Nothing is saved here."""
        return nullcontext()


class _Silent:
    """Implements `observer.Observer`: the main process tells of the run."""

    def phase(self, name: str, detail: str = "") -> None:
        """Nothing, like all that follow."""

    def advance(self, done: int, total: int) -> None: ...

    def planned(self, seconds: Mapping[str, float]) -> None: ...

    def ahead(self, work: Ahead) -> None: ...

    def generating(self, progress: TokenProgress) -> None: ...

    def step(self, metrics: StepMetrics) -> None: ...

    def opening(self, opening: Opening, score: float) -> None: ...

    def result(self, measurement: Measurement) -> None: ...

    def mark(self, mark: Mark) -> None: ...

    def note(self, text: str) -> None: ...
