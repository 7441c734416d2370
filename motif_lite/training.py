"""A recipe to GRPO: what TRL's trainer is told, and what is written down after each of its steps.

What happens within a step, rollouts and rewards, is in `training_step`.

TRL is imported at the top, so this module is itself imported only after the policy has been loaded: Unsloth
replaces TRL's trainer when it is imported.
"""

import logging
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import PrinterCallback, ProgressCallback, TrainerCallback, TrainerControl, TrainerState
from trl import GRPOConfig

from motif_lite import budget, diagnosis, step_metrics
from motif_lite.errors import TrainingError
from motif_lite.evaluation import Marks
from motif_lite.memory import Estimate, longest_trained
from motif_lite.policies import TrainablePolicy
from motif_lite.progress import Observer
from motif_lite.recipe import Recipe, decided
from motif_lite.rollout import Strategy
from motif_lite.run_dir import RunDirectory
from motif_lite.trainer import Trainer
from motif_lite.training_step import OpeningStep, RoundsStep, TrainingStep
from motif_lite.types import Problem

_log = logging.getLogger(__name__)

StopRequested = Callable[[], bool]

MOST_SKIPPED = 5
"""Updates in a row that may be skipped before the run is stopped."""


def train(
    recipe: Recipe,
    policy: TrainablePolicy,
    strategy: Strategy,
    problems: Sequence[Problem],
    run: RunDirectory,
    observer: Observer,
    *,
    planned: Estimate | None,
    marks: Marks,
    steps_done: Callable[[str, str], int | None] | None,
    stop_requested: StopRequested,
) -> bool:
    """Train from the run's newest checkpoint, or from the start, and save the adapter.

    Args:
        marks: Measures along the way.
        planned: Memory by phase, to stand beside what is measured; None where there is no plan.
        steps_done: Reads progress notes, where the data set can (see `data.Dataset`).
        stop_requested: Asked after every step; a stop saves a checkpoint first.

    Returns:
        Whether training is complete; False if it was stopped.

    Raises:
        RunError: A checkpoint cannot be written, or all there are are damaged.
        TrainingError: A reward fails, gradients are not numbers for several steps, or memory runs out.
    """
    run.clear_unfinished()
    _in_order(policy.model)
    folder, step_reached = run.newest_checkpoint() or (None, 0)
    run.forget_after(step_reached)
    kind = OpeningStep if recipe.training.credit == "opening" else RoundsStep
    step = kind(recipe, policy, strategy, problems, observer, planned, steps_done)
    callback = _StepCallback(recipe, step, run, observer, marks, stop_requested)
    trainer = Trainer(
        run,
        recipe.training.keep_checkpoints,
        observer,
        rounds=step if isinstance(step, RoundsStep) else None,
        model=policy.model,
        processing_class=policy.tokenizer,
        reward_funcs=step.reward_callables(),
        args=grpo_config(recipe, policy, run.unfinished),
        train_dataset=_rows(policy, strategy, problems),
        callbacks=[callback],
        learning_rate_factor=callback.learning_rate_factor if _has_budget(recipe) else None,
    )
    _log.info("training with %s; %s", type(trainer).__base__, _versions())
    for console_of_its_own in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(console_of_its_own)
    if folder is not None and callback.is_done:
        policy.load_adapter(folder)  # the process before ended between the last checkpoint and the adapter
        callback.finish()
    else:
        trainer.train(resume_from_checkpoint=str(folder) if folder else None)
        step_reached = trainer.state.global_step
    if not callback.is_done:
        return False
    run.save_adapter(step_reached, policy.save_adapter)
    run.clear_unfinished()
    return True


def grpo_config(recipe: Recipe, policy: TrainablePolicy, output: Path) -> GRPOConfig:
    """The trainer's settings, with what this backend alone wants."""
    return GRPOConfig(**(grpo_options(recipe, policy, output) | dict(policy.trainer_options)))


def grpo_options(recipe: Recipe, policy: TrainablePolicy, output: Path) -> dict[str, Any]:
    """Every field that matters is set: defaults differ between TRL versions, and Unsloth replaces many."""
    rollout, training = recipe.rollout, recipe.training
    micro_batch_size = decided(training.micro_batch_size)
    accumulation = recipe.trained_per_step // micro_batch_size
    on_cpu = policy.device_type == "cpu"
    half = _half_precision(on_cpu, recipe.model.dtype)
    return dict(  # noqa: C408  # the keyword arguments of a call
        output_dir=str(output),
        seed=recipe.seed,
        data_seed=recipe.seed,
        use_cpu=on_cpu,
        bf16=half == "bfloat16",
        fp16=half == "float16",
        # data: whole groups, a fresh rollout for every optimiser step (which also makes resuming exact)
        per_device_train_batch_size=micro_batch_size,
        gradient_accumulation_steps=accumulation,
        steps_per_generation=accumulation,
        num_generations=rollout.num_openings * recipe.trained_per_opening,
        num_iterations=1,
        shuffle_dataset=True,
        dataloader_num_workers=0,
        remove_unused_columns=False,
        # openings, and where later rounds are trained the longest of all
        max_completion_length=longest_trained(recipe)[1],
        temperature=rollout.openings.temperature,
        top_p=rollout.openings.top_p,
        top_k=rollout.openings.top_k,
        min_p=rollout.openings.min_p or None,
        repetition_penalty=1.0,
        use_vllm=False,
        # loss
        loss_type=training.loss_type if training.credit == "opening" else "dapo",  # weights are in the advantages
        beta=training.beta,
        epsilon=training.epsilon,
        epsilon_high=training.epsilon,
        scale_rewards=training.scale_rewards,
        multi_objective_aggregation="sum_then_normalize",
        importance_sampling_level="token",
        mask_truncated_completions=False,
        disable_dropout=False,
        reward_weights=list(recipe.rewards.values()),
        # optimiser
        max_steps=training.max_steps,
        learning_rate=training.learning_rate,
        lr_scheduler_type=training.lr_schedule,
        warmup_steps=training.warmup_fraction,  # transformers 5 reads a number below 1 as a share
        optim=training.optimizer,
        adam_beta1=training.adam_beta1,
        adam_beta2=training.adam_beta2,
        adam_epsilon=1e-8,
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        gradient_checkpointing=training.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if training.gradient_checkpointing else None,
        # what is kept and said
        save_strategy="steps",
        save_steps=training.save_every,
        save_total_limit=None,  # the trainer would drop old ones before it is known that the new one is whole
        logging_strategy="steps",
        logging_steps=1,
        log_completions=False,
        disable_tqdm=True,
        report_to="none",
    )


class _StepCallback(TrainerCallback):
    """Times the phases that TRL owns, and writes each finished step down."""

    def __init__(
        self,
        recipe: Recipe,
        step: TrainingStep,
        run: RunDirectory,
        observer: Observer,
        marks: Marks,
        stop_requested: StopRequested,
    ) -> None:
        self.recipe, self.step, self.run, self.observer, self.marks = recipe, step, run, observer, marks
        self.stop_requested = stop_requested
        self.metrics = run.metrics()
        self.spent = budget.spent(self.metrics)
        self.skipped = [bool(line.get("update_skipped")) for line in self.metrics]
        """Of every step so far, whether its update was skipped."""
        self.told = {finding.name for finding in diagnosis.diagnose(recipe, self.metrics, run.marks())}

    @property
    def share_done(self) -> float:
        """Of the run's budget, from 0 to 1."""
        return budget.share_done(self.recipe.training, self.spent)

    @property
    def is_done(self) -> bool:
        """Whether the budget is spent."""
        return self.share_done == 1

    def learning_rate_factor(self, step: int) -> float:
        """The schedule over a budget; asked right after an update, before the step is written down."""
        training, so_far = self.recipe.training, self.spent
        if step > so_far.steps:
            so_far = so_far.and_step(self.step.tokens, self.step.meter.seconds)
        return budget.learning_rate_factor(training, budget.share_done(training, so_far))

    def on_step_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.marks.measure_if_due(self.spent)  # only now, when the step before has been saved
        self.step.on_round(1, self.step.strategy.num_rounds, self.recipe.openings_per_step)
        self.step.meter.start("openings")

    def on_pre_optimizer_step(
        self, args: Any, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        """Leave the adapter and the optimiser as they are if a gradient is not a number: without one, nothing moves."""
        gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
        self.skipped.append(not torch.nn.utils.get_total_norm(gradients).isfinite())
        if self.skipped[-1]:
            model.zero_grad(set_to_none=True)
            self.observer.note(f"step {state.global_step + 1}: the gradient is not a number; its update is skipped")

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.step.meter.stop()
        self.spent = self.spent.and_step(self.step.tokens, self.step.meter.seconds)
        stops = self.stop_requested() or self.is_done  # asked in any case: the saving that follows is then waited for
        control.should_training_stop = control.should_training_stop or stops
        control.should_save = control.should_save or stops or self.marks.is_due(self.spent)

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.is_done:
            self.finish()

    def finish(self) -> None:
        """Measure the last mark."""
        self.marks.measure_if_due(self.spent)
        self._warn()

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        if not logs or "loss" not in logs or not self.step.rollouts.openings:
            return  # TRL's summary after the last step
        seconds, peak_bytes = self.step.meter.take()
        metrics = step_metrics.summarize(
            state.global_step, self.recipe, self.step.rollouts, self.step.rewards, seconds, peak_bytes,
            self.step.planned_bytes, _numbers(logs, self.skipped[-1]), self.step.steps_done, self.step.trained,
        )  # fmt: skip
        metrics["update_skipped"] = self.skipped[-1]
        metrics["share_done"] = self.share_done
        self.run.append_rollouts(
            step_metrics.lines(state.global_step, self.recipe, self.step.rollouts, self.step.rewards, self.step.trained)
        )
        self.run.append_metrics(metrics)
        self.observer.step(metrics)
        shown = state.global_step % len(self.step.rollouts.openings)
        self.observer.opening(
            self.step.rollouts.openings[shown], step_metrics.total_rewards(self.recipe, self.step.rewards)[shown]
        )
        self.metrics.append(metrics)
        self._warn()
        if all(self.skipped[-MOST_SKIPPED:]) and len(self.skipped) >= MOST_SKIPPED:
            raise TrainingError(
                f"the gradient was not a number in {MOST_SKIPPED} steps in a row, up to step {state.global_step}; "
                f"their rollouts are in {self.run.root / 'rollouts.jsonl'}. Start a new run with a lower "
                f"training.learning_rate, or with model.dtype = 'float32'"
            )

    def _warn(self) -> None:
        """Say what goes wrong, each thing once in the whole run, however often it is resumed."""
        for finding in diagnosis.at_last_step(self.recipe, self.metrics, self.run.marks()):
            if finding.name not in self.told:
                self.told.add(finding.name)
                self.observer.note(str(finding))


def _numbers(logs: dict[str, Any], skipped: bool) -> dict[str, Any]:
    """What TRL logged, None for what is not a number: JSON has no name for it."""
    logs = {key: value for key, value in logs.items() if not isinstance(value, float) or math.isfinite(value)}
    # transformers puts an average in place of a loss that is not a number
    return logs | ({"loss": None, "grad_norm": None} if skipped else {})


def _has_budget(recipe: Recipe) -> bool:
    """Whether something else than the number of steps may end the run."""
    return recipe.training.until_tokens is not None or recipe.training.until_seconds is not None


def _in_order(model: Any) -> None:
    """Have PEFT write its settings alike each time: it keeps names in a set, in the order of this process."""
    for config in model.peft_config.values():
        if isinstance(config.target_modules, set):
            config.target_modules = sorted(config.target_modules)


def _rows(policy: TrainablePolicy, strategy: Strategy, problems: Sequence[Problem]) -> datasets.Dataset:
    prompts = [policy.plain(strategy.first_messages(problem)) for problem in problems]
    return datasets.Dataset.from_list(
        [{"prompt": prompt, "problem_id": problem.id} for prompt, problem in zip(prompts, problems, strict=True)]
    )


def _versions() -> str:
    """The libraries that this run trains with, for run.log."""
    names = [name for name in ("unsloth", "unsloth_zoo", "trl", "transformers", "peft", "torch") if name in sys.modules]
    return ", ".join(f"{name} {sys.modules[name].__version__}" for name in names)


def _half_precision(on_cpu: bool, wanted: str) -> str:
    """The type of mixed precision: none on a CPU, and what the GPU is good at otherwise."""
    if on_cpu or wanted == "float32":
        return "float32"
    if wanted == "auto":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    return wanted
