"""All loggers of a run: what it has is logged when training begins, and then each step and each mark.

metrics.jsonl and validation.jsonl are the record. A process that starts, or resumes, logs all that stands there, so
what an earlier process logged and was lost with its steps is gone, and what it could not log any more is there.

A logger that fails ends, with a message, and the run goes on without it.
"""

import heapq
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from motif_lite.context import RunContext
from motif_lite.loggers import figures, table
from motif_lite.loggers.base import LoggedRun, Logger
from motif_lite.recipe.schema import Recipe
from motif_lite.runs import logged_id
from motif_lite.runs.records import Mark, StepMetrics
from motif_lite.runs.rollout_lines import RolloutLine

_log = logging.getLogger(__name__)


class Loggers:
    """Those that work.

    Args:
        recipe: Says whose samples are shown, and their weights.
        opened: By name.
    """

    def __init__(self, recipe: Recipe, opened: dict[str, Logger]) -> None:
        self._recipe, self._opened = recipe, opened

    def step(self, line: StepMetrics, rollouts: Sequence[RolloutLine]) -> None:
        """Log a step.

        Args:
            rollouts: Of the step, at least where `shows_samples` says so.
        """
        found = figures.of_step(line)
        self._each(lambda logger: logger.log(line.step, found))
        if rollouts and self.shows_samples(line.step):
            first = [each for each in rollouts if each.problem == rollouts[0].problem]
            rows = [figures.sample(self._recipe, each) for each in first]
            self._each(lambda logger: logger.samples(line.step, rows))

    def mark(self, mark: Mark) -> None:
        """Log a measurement along the way."""
        found = figures.of_mark(mark)
        self._each(lambda logger: logger.log(mark.step, found))

    def shows_samples(self, step: int) -> bool:
        """Whether the openings of the step's first problem become a table: of step 1, and as often as checkpoints."""
        return bool(self._opened) and (step == 1 or step % self._recipe.training.save_every == 0)

    def close(self) -> None:
        """Close all."""
        self._each(lambda logger: logger.close())
        self._opened = {}

    def _each(self, act: Callable[[Logger], None]) -> None:
        for name, logger in list(self._opened.items()):
            try:
                act(logger)
            except Exception as error:  # each has errors of its own, and none is worth a run
                del self._opened[name]
                _log.warning("%s", _ended(name, error))


@contextmanager
def recorded(context: RunContext) -> Iterator[Loggers]:
    """The loggers that a recipe names, with all that the run has so far; they are closed in the end."""
    loggers = Loggers(context.recipe, _opened(context) if context.recipe.logging else {})
    try:
        if context.recipe.logging:
            _catch_up(loggers, context)
        yield loggers
    finally:
        if context.recipe.logging:
            context.observer.phase("closing loggers", ", ".join(context.recipe.logging))
        loggers.close()


def _opened(context: RunContext) -> dict[str, Logger]:
    opened, root = dict[str, Logger](), context.run.root.resolve()
    for name in context.recipe.logging:
        context.observer.phase("opening loggers", name)
        try:
            opened[name] = table.opened(name, LoggedRun(root, logged_id.kept(root), context.recipe.model_dump()))
        except Exception as error:
            _log.warning("%s", _ended(name, error))
    return opened


def _catch_up(loggers: Loggers, context: RunContext) -> None:
    """Log what the files hold, in the order in which it was written: a mark comes after its step."""
    metrics, samples = context.run.metrics(), dict[int, list[RolloutLine]]()
    if metrics:
        context.observer.phase("logging", f"{len(metrics):,} steps so far")
    for rollout in context.run.rollouts_of(*(line.step for line in metrics if loggers.shows_samples(line.step))):
        samples.setdefault(rollout.step, []).append(rollout)
    lines: Iterator[StepMetrics | Mark] = heapq.merge(metrics, context.run.marks(), key=lambda line: line.step)
    for line in lines:
        if isinstance(line, Mark):
            loggers.mark(line)
        else:
            loggers.step(line, samples.get(line.step, []))


def _ended(name: str, error: Exception) -> str:
    reason = str(error).strip().partition("\n")[0][:300] or type(error).__name__
    return (
        f"{name} logs nothing more in this process ({reason}); metrics.jsonl has it all, and a resumed run logs it "
        f"again"
    )
