"""Times the phases of a training step, writes each finished step down, and decides when one is saved."""

import math
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState

from motif_lite.errors import TrainingError
from motif_lite.evaluation.validation import Validation
from motif_lite.loggers.recording import Loggers
from motif_lite.monitor import findings, pace
from motif_lite.policies.led import Wanted, help_until, want
from motif_lite.rollout import totals
from motif_lite.runs import budget
from motif_lite.runs.giving_up import MOST_SKIPPED, is_given_up
from motif_lite.training import step_metrics
from motif_lite.training.context import Stopping, TrainingContext
from motif_lite.training.gradients import gradient_norm
from motif_lite.training.saving import SavingClock
from motif_lite.training.step import TrainingStep
from motif_lite.training.step_metrics import PerformedStep


class StepCallback(TrainerCallback):
    """Times the phases that TRL owns, and writes each finished step down."""

    def __init__(
        self,
        context: TrainingContext,
        step: TrainingStep,
        validation: Validation,
        stop: Stopping,
        loggers: Loggers,
    ) -> None:
        recipe, run, self.ranks = context.recipe, context.run, context.ranks
        self.recipe, self.run, self.observer = recipe, run, context.observer
        self.step, self.validation, self.stop, self.loggers = step, validation, stop, loggers
        self.pause_at = context.pause_at
        self.saving = SavingClock()
        self.metrics = run.metrics()
        self.spent = budget.spent(self.metrics, run.preparing)
        self.skipped = [line.update_skipped for line in self.metrics]
        """Of every step so far, whether all its updates were skipped."""
        self._num_skipped = 0
        """Updates of the step under way that were."""
        self.told = {finding.name for finding in findings.diagnose(recipe, self.metrics, run.marks())}

    @property
    def share_done(self) -> float:
        """Of the run's budget, from 0 to 1."""
        return budget.share_done(self.recipe.training, self.spent)

    @property
    def is_done(self) -> bool:
        """Whether the budget is spent."""
        return self.share_done == 1

    @property
    def pauses(self) -> bool:
        """Whether so much of the budget is spent as this time is to be."""
        return self.share_done >= self.pause_at

    def seconds_left(self) -> float | None:
        """Of the step under way, 0 while it is being saved; None in the run's first one."""
        so_far = self.step.meter.so_far()
        return pace.left_of_step([line.seconds for line in self.metrics], so_far) if so_far else 0.0

    def learning_rate_factor(self, step: int) -> float:
        """The schedule over a budget; asked right after an update, before the step is written down.

        Args:
            step: Updates so far. All updates of a step have the same learning rate.
        """
        training, so_far = self.recipe.training, self.spent
        if step // training.num_iterations > so_far.steps:
            so_far = so_far.and_step(self.step.tokens, self.step.meter.seconds)
        factor = budget.learning_rate_factor(training, budget.share_done(training, so_far))
        return self.ranks.from_main(float, factor)  # it may follow a clock

    def _is_boundary(self, state: TrainerState) -> bool:
        """Whether no update of a step is still to come: transformers calls each update a step."""
        return bool(state.global_step % self.recipe.training.num_iterations == 0)

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        state.save_steps = args.save_steps  # a checkpoint's state has what the run was begun with

    def on_step_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if not self._is_boundary(state):
            return
        self._num_skipped = 0
        self.stop.step_saved()
        self._measure_if_due()  # only now, when the step before has been saved
        width = self.recipe.openings_per_step // self.ranks.count
        self.step.policy.on_openings = self.step.on_round(1, self.step.strategy.num_rounds, width)
        self.step.meter.start("openings")
        self.stop.step_begins(self.seconds_left)

    def on_pre_optimizer_step(
        self, args: Any, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        """Leave the adapter and the optimiser as they are without a signal, or if a gradient is not a number.

        Weights without a gradient stay; with one of zero, momentum and weight decay would move them.
        """
        norm = gradient_norm(model)
        if norm == 0:
            model.zero_grad(set_to_none=True)
        elif not norm.isfinite():
            self._num_skipped += 1
            model.zero_grad(set_to_none=True)
            number = state.global_step // self.recipe.training.num_iterations + 1
            self.observer.note(f"step {number}: the gradient is not a number; its update is skipped")

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if not self._is_boundary(state):
            return
        self.skipped.append(self._num_skipped == self.recipe.training.num_iterations)
        self.step.meter.stop()
        seconds, stops, is_due = self.ranks.from_main(
            tuple[dict[str, float], bool, bool], self._decided() if self.ranks.is_main else None
        )
        self.spent = self.spent.and_step(self.step.tokens, seconds)
        stops = stops or self.pauses
        control.should_training_stop = control.should_training_stop or stops
        control.should_save = control.should_save or stops or is_due

    def _decided(self) -> tuple[dict[str, float], bool, bool]:
        """What the step took, and whether it is the last one and is saved because the user, or the clock, asks for it.

        Clocks differ between processes, and signals come to the main one.
        """
        seconds = self.step.meter.seconds
        spent = self.spent.and_step(self.step.tokens, seconds)
        return seconds, self.stop.step_ends(), self.saving.is_due() or self.validation.is_due(spent)

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.saving.end()

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.stop.step_saved()
        if self.pauses:
            self.finish()

    def finish(self) -> None:
        """Measure the last mark, or that of a pause."""
        self._measure_if_due()
        if self.ranks.is_main:
            self._warn()

    def _measure_if_due(self) -> None:
        if not self.ranks.is_main:
            help_until(self.step.policy, self.ranks)
            return
        if mark := self.validation.measure_if_due(self.spent):
            self.loggers.mark(mark)
        want(self.ranks, Wanted("go on"))

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        if not logs or "loss" not in logs or not self.step.rollouts.openings:
            return  # TRL's summary after the last step
        if not self.ranks.is_main:
            self.step.meter.take()
            return
        number = state.global_step // self.recipe.training.num_iterations
        done = self._performed(number, logs)
        metrics = step_metrics.summarize(self.recipe, done, self.step.read_progress)
        rollouts = list(step_metrics.lines(self.recipe, done))
        self.run.append_rollouts(rollouts)
        self.run.append_metrics(metrics)
        self.observer.step(metrics)
        self.loggers.step(metrics, rollouts)
        shown = number % len(self.step.rollouts.openings)
        self.observer.opening(
            self.step.rollouts.openings[shown], totals.total_rewards(self.recipe, self.step.rewards)[shown]
        )
        self.metrics.append(metrics)
        self._warn()
        if is_given_up(self.metrics):
            raise TrainingError(
                f"the gradient was not a number in {MOST_SKIPPED} steps in a row, up to step {number}; "
                f"their rollouts are in {self.run.root / 'rollouts.jsonl'}. Start a new run with a lower "
                f"training.learning_rate, or with model.dtype = 'float32'"
            )
        self.saving.begin()  # if this step is saved, it is now

    def _performed(self, number: int, logs: dict[str, Any]) -> PerformedStep:
        seconds, peak_bytes = self.step.meter.take()
        return PerformedStep(
            number,
            self.step.rollouts,
            self.step.rewards,
            self.step.trained,
            seconds,
            peak_bytes,
            self.step.planned_bytes,
            _numbers(logs, any_skipped=self._num_skipped > 0, all_skipped=self.skipped[-1]),
            self.skipped[-1],
            self.share_done,
            self.step.num_retries,
            self.step.branches,
            self.step.unused,
            self.step.visits,
        )

    def _warn(self) -> None:
        """Say what goes wrong, each thing once in the whole run, however often it is resumed."""
        for finding in findings.at_last_step(self.recipe, self.metrics, self.run.marks()):
            if finding.name not in self.told:
                self.told.add(finding.name)
                self.observer.note(str(finding))


def _numbers(logs: dict[str, Any], *, any_skipped: bool, all_skipped: bool) -> dict[str, float | None]:
    """What TRL logged, None for what is not a number: JSON has no name for it.

    The norm is that of the step's last update, so it is no number where that one was skipped.
    """
    known = {key: value for key, value in logs.items() if isinstance(value, int | float)}
    numbers = {key: value if math.isfinite(value) else None for key, value in known.items()}
    # transformers puts an average of the other updates, or 0, in place of a loss that is not a number
    return numbers | ({"loss": None} if any_skipped else {}) | ({"grad_norm": None} if all_skipped else {})
