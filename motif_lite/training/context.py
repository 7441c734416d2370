"""What a training step works with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from motif_lite.context import RunContext
from motif_lite.credits.base import Credit
from motif_lite.credits.table import credit_of
from motif_lite.nouns import Problem, ReadProgress
from motif_lite.planning.memory import Estimate
from motif_lite.rollout.strategies import Strategy

StopRequested = Callable[[], bool]
"""Asked after every step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingContext(RunContext):
    """A run that is about to train.

    Attributes:
        strategy: How problems are thought through.
        problems: To train on; their prompts fit.
        planned: Memory by phase, to compare with what is measured; None where there is no plan.
        read_progress: Reads progress notes, where the data set can.
    """

    strategy: Strategy
    problems: Sequence[Problem]
    planned: Estimate | None = None
    read_progress: ReadProgress | None = None

    @property
    def credit(self) -> Credit:
        """The recipe's."""
        return credit_of(self.recipe)
