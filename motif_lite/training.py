"""A recipe to GRPO: TRL trains the openings, and our reward callables roll them out into futures.

This is the paper's credit: only first rounds are trained, each rewarded with the mean over its k futures, which
are sampled from the policy as it stands at that step. TRL calls every reward in turn with the same completions;
the first call of a step rolls the futures out, the others read what it found.

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

from motif_lite import diagnosis, step_metrics
from motif_lite.errors import MotifError, TrainingError
from motif_lite.memory import Estimate
from motif_lite.metering import PhaseMeter
from motif_lite.policies import TrainablePolicy
from motif_lite.progress import Observer
from motif_lite.recipe import Recipe, decided
from motif_lite.rewards import REWARDS
from motif_lite.rollout import Rollouts, Strategy, derive_seed
from motif_lite.run_dir import RunDirectory
from motif_lite.trainer import Trainer
from motif_lite.types import Conversation, Opening, Problem, Turn

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
    steps_done: Callable[[str, str], int | None] | None,
    stop_requested: StopRequested,
) -> bool:
    """Train from the run's newest checkpoint, or from the start, and save the adapter.

    Args:
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
    step = TrainingStep(recipe, policy, strategy, problems, observer, planned, steps_done)
    trainer = Trainer(
        run,
        recipe.training.keep_checkpoints,
        observer,
        model=policy.model,
        processing_class=policy.tokenizer,
        reward_funcs=step.reward_callables(),
        args=grpo_config(recipe, policy, run.unfinished),
        train_dataset=_rows(policy, strategy, problems),
        callbacks=[_StepCallback(recipe, step, run, observer, stop_requested)],
    )
    _log.info("training with %s; %s", type(trainer).__base__, _versions())
    for console_of_its_own in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(console_of_its_own)
    if folder is not None and step_reached >= recipe.training.max_steps:
        policy.load_adapter(folder)  # the process before ended between the last checkpoint and the adapter
    else:
        trainer.train(resume_from_checkpoint=str(folder) if folder else None)
        step_reached = trainer.state.global_step
    if step_reached < recipe.training.max_steps:
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
    accumulation = recipe.openings_per_step // micro_batch_size
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
        num_generations=rollout.num_openings,
        num_iterations=1,
        shuffle_dataset=True,
        dataloader_num_workers=0,
        remove_unused_columns=False,
        # openings
        max_completion_length=rollout.openings.max_tokens,
        temperature=rollout.openings.temperature,
        top_p=rollout.openings.top_p,
        top_k=rollout.openings.top_k,
        min_p=rollout.openings.min_p or None,
        repetition_penalty=1.0,
        use_vllm=False,
        # loss
        loss_type=training.loss_type,
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


class TrainingStep:
    """One step's rollouts, rewards and measurements, gathered while TRL performs it."""

    def __init__(
        self,
        recipe: Recipe,
        policy: TrainablePolicy,
        strategy: Strategy,
        problems: Sequence[Problem],
        observer: Observer,
        planned: Estimate | None,
        steps_done: Callable[[str, str], int | None] | None,
    ) -> None:
        self.recipe, self.policy, self.strategy, self.observer = recipe, policy, strategy, observer
        self.planned_bytes = planned.measurable(policy.device_type) if planned else {}
        self.steps_done = steps_done
        self.meter = PhaseMeter(policy.device_type)
        self.rollouts = Rollouts(())
        self.rewards: dict[str, list[float]] = {}
        self._problems = {problem.id: problem for problem in problems}
        self._completions: object = None

    def reward_callables(self) -> list["RewardCallable"]:
        """One callable per reward of the recipe, in its order, for TRL."""
        return [RewardCallable(name, self) for name in self.recipe.rewards]

    def roll_out(
        self, prompts: list[Conversation], completion_ids: list[list[int]], problem_ids: list[str], step: int
    ) -> None:
        """Continue the openings that TRL has sampled to the last round, and score them."""
        self.meter.start("futures")
        stop = self.recipe.rollout.openings.stop
        openings = [
            (self._problems[name], Turn(self.policy.render(prompt), self.policy.read_reply(ids, stop)))
            for name, prompt, ids in zip(problem_ids, prompts, completion_ids, strict=True)
        ]
        self.rollouts = self.strategy.continue_openings(
            self.policy,
            openings,
            self.recipe.rollout.num_futures,
            self.recipe.rollout.futures,
            seed=derive_seed(self.recipe.seed, "futures", step),
            on_round=self._on_round,
        )
        self.observer.phase("grading", f"{len(openings)} openings")
        self.rewards = {
            name: [_reward(name, opening, step + 1) for opening in self.rollouts.openings]
            for name in self.recipe.rewards
        }
        self.observer.phase("update", f"{len(openings)} openings")
        self.meter.start("update")

    def column(
        self,
        reward: str,
        prompts: list[Conversation],
        completions: object,
        completion_ids: list[list[int]],
        problem_id: list[str],
        step: int,
    ) -> list[float]:
        """One reward of every opening; the first call with new completions rolls them out."""
        if completions is not self._completions:
            self.roll_out(prompts, completion_ids, problem_id, step)
            self._completions = completions
        return self.rewards[reward]

    def _on_round(self, round_number: int, num_rounds: int, width: int) -> Callable[[int, int], None]:
        self.observer.phase("futures", f"round {round_number} of {num_rounds}, {width} replies")
        return self.observer.advance


class RewardCallable:
    """What TRL calls for one reward; its name is the reward's."""

    def __init__(self, name: str, step: TrainingStep) -> None:
        self.__name__ = name
        self._step = step

    def __call__(
        self,
        prompts: list[Conversation],
        completions: object,
        completion_ids: list[list[int]],
        problem_id: list[str],
        trainer_state: TrainerState,
        **_: Any,
    ) -> list[float]:
        """One reward per completion."""
        return self._step.column(
            self.__name__, prompts, completions, completion_ids, problem_id, trainer_state.global_step
        )


class _StepCallback(TrainerCallback):
    """Times the phases that TRL owns, and writes each finished step down."""

    def __init__(
        self, recipe: Recipe, step: TrainingStep, run: RunDirectory, observer: Observer, stop_requested: StopRequested
    ) -> None:
        self.recipe, self.step, self.run, self.observer = recipe, step, run, observer
        self.stop_requested = stop_requested
        self.metrics = run.metrics()
        self.skipped = [bool(line.get("update_skipped")) for line in self.metrics]
        """Of every step so far, whether its update was skipped."""
        self.told = {finding.name for finding in diagnosis.diagnose(recipe, self.metrics, run.validation())}

    def on_step_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        width = self.recipe.openings_per_step
        self.observer.phase("openings", f"round 1 of {self.step.strategy.num_rounds}, {width} replies")
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
        if self.stop_requested():
            control.should_save = True
            control.should_training_stop = True

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        if not logs or "loss" not in logs or not self.step.rollouts.openings:
            return  # TRL's summary after the last step
        seconds, peak_bytes = self.step.meter.take()
        metrics = step_metrics.summarize(
            state.global_step, self.recipe, self.step.rollouts, self.step.rewards, seconds, peak_bytes,
            self.step.planned_bytes, _numbers(logs, self.skipped[-1]), self.step.steps_done,
        )  # fmt: skip
        metrics["update_skipped"] = self.skipped[-1]
        self.run.append_rollouts(
            step_metrics.lines(state.global_step, self.recipe, self.step.rollouts, self.step.rewards)
        )
        self.run.append_metrics(metrics)
        self.observer.step(metrics, self.recipe.training.max_steps)
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
        for finding in diagnosis.at_last_step(self.recipe, self.metrics, self.run.validation()):
            if finding.name not in self.told:
                self.told.add(finding.name)
                self.observer.note(str(finding))


def _reward(name: str, opening: Opening, step: int) -> float:
    """One reward of one opening.

    Raises:
        TrainingError: The reward raises, or what it gives is not a number.
    """
    try:
        value = float(REWARDS[name](opening))
        if not math.isfinite(value):
            raise ValueError(f"it gave {value}")
        return value
    except MotifError:
        raise
    except Exception as error:  # a reward is the user's own code
        _log.info("reward %s on the opening %r", name, opening.turn.reply.text, exc_info=True)
        raise TrainingError(
            f"reward {name}: failed in step {step} on an opening of problem {opening.problem.id} "
            f"({type(error).__name__}: {error}); run.log has the opening; mend the reward, then go on with --resume"
        ) from error


def _numbers(logs: dict[str, Any], skipped: bool) -> dict[str, Any]:
    """What TRL logged, None for what is not a number: JSON has no name for it."""
    logs = {key: value for key, value in logs.items() if not isinstance(value, float) or math.isfinite(value)}
    # transformers puts an average in place of a loss that is not a number
    return logs | ({"loss": None, "grad_norm": None} if skipped else {})


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
