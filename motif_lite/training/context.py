"""What a training step works with."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from motif_lite.context import RunContext
from motif_lite.credits.base import Credit
from motif_lite.credits.table import credit_of
from motif_lite.nouns import Problem, ReadProgress
from motif_lite.planning.memory import Estimate
from motif_lite.policies.protocol import TrainablePolicy
from motif_lite.rollout.strategies import Strategy

SecondsLeft = Callable[[], float | None]
"""How long something will still take; None while that is not known."""


class Stopping(Protocol):
    """Whether the user has asked for a stop. Inside a step it waits until the step is finished and saved."""

    def step_begins(self, left: SecondsLeft) -> None:
        """From here to `step_saved` a stop waits.

        Args:
            left: Asked how long the step will still take.
        """

    def step_ends(self) -> bool:
        """Whether this step is the last one."""

    def step_saved(self) -> None:
        """The step, and its checkpoint if there is one, is written.

        Raises:
            KeyboardInterrupt: A stop was asked for.
        """

    def saving(self) -> AbstractContextManager[None]:
        """Inside, finished steps are being saved although a stop ended the step under way; the stop waits for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingContext(RunContext):
    """A run that is about to train.

    Attributes:
        strategy: How problems are thought through.
        problems: To train on; their prompts fit.
        planned: Memory by phase, to compare with what is measured; None where there is no plan.
        read_progress: Reads progress notes, where the data set can.
        pause_at: The share of its budget with which the run pauses: it can be resumed, and is not told from one that
            never paused.
    """

    policy: TrainablePolicy = field(kw_only=False)
    strategy: Strategy
    problems: Sequence[Problem]
    planned: Estimate | None = None
    read_progress: ReadProgress | None = None
    pause_at: float = 1.0

    @property
    def credit(self) -> Credit:
        """The recipe's."""
        return credit_of(self.recipe)
