"""One training step as a run performs it, of which nothing is kept but its figures.

Imports TRL, so it is imported only after the policy has been loaded, see `training`.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from transformers import TrainerControl, TrainerState

from motif_lite.credits.table import credit_of
from motif_lite.evaluation.validation import Validation
from motif_lite.loggers.recording import Loggers
from motif_lite.recipe.keys import changed
from motif_lite.recipe.schema import Recipe, decided
from motif_lite.rollout.rollouts import Rollouts
from motif_lite.runs.records import StepMetrics
from motif_lite.training import grpo
from motif_lite.training.callback import StepCallback
from motif_lite.training.context import SecondsLeft, TrainingContext

_SHORT_SECONDS = 15
"""A first step that takes longer is the only one."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A step that was tried.

    Attributes:
        metrics: Of the step with these rollouts.
        rewards: By name, one per opening.
        cost: What to take seconds, memory and tokens from: a second step where the first was short, because first
            calls prepare what later ones use.
    """

    metrics: StepMetrics
    rollouts: Rollouts
    rewards: Mapping[str, list[float]]
    cost: StepMetrics


def of_one_group(recipe: Recipe) -> Recipe:
    """A run on one problem at the peak learning rate: a first step in warm-up would change nothing.

    It has a second step for where the first is short.

    Args:
        recipe: With every ``auto`` decided.
    """
    rows = credit_of(recipe).trained_per_step(recipe) // recipe.training.problems_per_step
    most = min(rows, decided(recipe.training.micro_batch_size))
    return changed(
        recipe,
        {
            "training.max_steps": 2,
            "training.until_tokens": None,
            "training.until_seconds": None,
            "training.problems_per_step": 1,
            "training.micro_batch_size": next(size for size in range(most, 0, -1) if rows % size == 0),
            "training.lr_schedule": "constant",
            "training.warmup_fraction": 0.0,
            "evaluation.validation": None,
            "warm_start": None,
        },
    )


def one_step(context: TrainingContext) -> Trial:
    """Perform a step; the policy's adapter is another one afterwards.

    Args:
        context: Of a recipe as `of_one_group` makes it. What a step writes goes to its run directory, which is its
            caller's to remove.

    Raises:
        TrainingError: A reward fails, or memory runs out.
    """
    step = grpo.step_of(context)
    callback = _KeepsNothing(context, step, Validation(context, ()), _AtOnce(), Loggers(context.recipe, {}))
    grpo.trainer_of(context, step, callback).train()
    assert callback.first is not None
    return replace(callback.first, cost=callback.metrics[-1])


class _KeepsNothing(StepCallback):
    """A run's callback, without checkpoints, that remembers the first step."""

    first: Trial | None = None

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **named: Any) -> None:
        super().on_step_end(args, state, control, **named)
        control.should_save = False
        control.should_training_stop |= self.spent.seconds > _SHORT_SECONDS

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, logs: Any = None, **named: Any) -> None:
        super().on_log(args, state, control, logs, **named)
        if self.first is None:
            metrics = self.metrics[-1]
            self.first = Trial(metrics, self.step.rollouts, self.step.rewards, metrics)


class _AtOnce:
    """Implements `context.Stopping`: Ctrl-C does not wait for the end of a step of which nothing is kept."""

    def step_begins(self, left: SecondsLeft) -> None:
        """Nothing waits."""

    def step_ends(self) -> bool:
        """The step is the only one anyway."""
        return False

    def step_saved(self) -> None:
        """Nothing was waiting."""

    def saving(self) -> AbstractContextManager[None]:
        """Nothing is saved."""
        return nullcontext()
