"""A recipe as the settings of TRL's trainers."""

from pathlib import Path
from typing import Any

import torch
from trl import GRPOConfig, SFTConfig

from motif_lite.credits.table import credit_of
from motif_lite.planning.precision import updates_in_bf16
from motif_lite.planning.rows import longest_trained
from motif_lite.policies.protocol import TrainablePolicy
from motif_lite.recipe.schema import Recipe, WarmStartSection, decided
from motif_lite.recipe.training import TrainingSection

Options = dict[str, Any]
"""Keyword arguments of a class of TRL's, or what Unsloth makes of it."""

_LOSS_CONSTANTS: Options = {
    "delta": None,
    "sapo_temperature_pos": 1.0,
    "sapo_temperature_neg": 1.05,
    "vespo_k_pos": 2.0,
    "vespo_lambda_pos": 3.0,
    "vespo_k_neg": 3.0,
    "vespo_lambda_neg": 2.0,
}
"""TRL's defaults, from the papers of these losses."""


def grpo_config(recipe: Recipe, policy: TrainablePolicy, output: Path, *, whole: bool = False) -> GRPOConfig:
    """The trainer's settings, with what this backend alone wants.

    Args:
        whole: The trainer splits a step's rows itself, so TRL gets all of them as one micro-batch.
    """
    return GRPOConfig(**(grpo_options(recipe, policy, output, whole=whole) | dict(policy.trainer_options)))


def grpo_options(recipe: Recipe, policy: TrainablePolicy, output: Path, *, whole: bool = False) -> Options:
    """Every field that matters is set: defaults differ between TRL versions, and Unsloth replaces many."""
    return {
        **_common(recipe, policy, output),
        **_data(recipe, whole),
        **_sampling(recipe),
        **_loss(recipe),
        **_optimizer(recipe.training),
        **_output(recipe.training),
        "log_completions": False,
    }


def sft_config(recipe: Recipe, section: WarmStartSection, policy: TrainablePolicy, output: Path) -> SFTConfig:
    """The settings of a warm start's supervised steps: rows as they are given, one at a time, so nothing is padded."""
    is_unsloth = recipe.model.backend == "unsloth"
    common = {"gradient_checkpointing_kwargs"} & policy.trainer_options.keys()
    options = {
        **_common(recipe, policy, output),
        **_optimizer(recipe.training),
        **_output(recipe.training),
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": section.examples_per_step,
        "max_steps": section.num_steps,
        "learning_rate": section.learning_rate,
        "lr_scheduler_type": "linear",
        "warmup_steps": 0,
        "save_steps": section.num_steps,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # which would show another number in place of one that is none
        "dataloader_num_workers": 0,
        "remove_unused_columns": False,
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "max_length": None,
        "packing": False,
        "padding_free": False,
        "loss_type": "nll" if is_unsloth else "chunked_nll",  # Unsloth has its own way of keeping few logits
    }
    return SFTConfig(**(options | {key: policy.trainer_options[key] for key in common}))


def _common(recipe: Recipe, policy: TrainablePolicy, output: Path) -> Options:
    """Where and in what precision."""
    on_cpu = policy.device_type == "cpu"
    half = _on_cpu(recipe) if on_cpu else _on_gpu(recipe.model.dtype)
    return {
        "output_dir": str(output),
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "use_cpu": on_cpu,
        "bf16": half == "bfloat16",
        "fp16": half == "float16",
    }


def _data(recipe: Recipe, whole: bool) -> Options:
    """Whole groups, fresh rollouts for every step of the run, which also makes resuming exact (see `trainer`)."""
    credit = credit_of(recipe)
    rows = credit.trained_per_step(recipe)
    micro_batch_size = rows if whole else decided(recipe.training.micro_batch_size)
    accumulation = rows // micro_batch_size
    return {
        "per_device_train_batch_size": micro_batch_size,
        "gradient_accumulation_steps": accumulation,
        "steps_per_generation": accumulation,
        "num_generations": recipe.rollout.num_openings * credit.trained_per_opening(recipe),
        "num_iterations": recipe.training.num_iterations,
        "shuffle_dataset": True,
        "dataloader_num_workers": 0,
        "remove_unused_columns": False,
    }


def _sampling(recipe: Recipe) -> Options:
    """Of openings, and where later rounds are trained the length of the longest reply."""
    openings = recipe.rollout.openings
    return {
        "max_completion_length": longest_trained(recipe)[1],
        "temperature": openings.temperature,
        "top_p": openings.top_p,
        "top_k": openings.top_k,
        "min_p": openings.min_p or None,
        "repetition_penalty": 1.0,
        "use_vllm": False,
    }


def _loss(recipe: Recipe) -> Options:
    training = recipe.training
    high = 5.0 if training.loss_type == "cispo" else training.epsilon
    return {
        "loss_type": credit_of(recipe).loss_type(training),
        "beta": training.beta,
        "epsilon": training.epsilon,
        "epsilon_high": high if training.epsilon_high is None else training.epsilon_high,
        "scale_rewards": training.scale_rewards,
        "multi_objective_aggregation": training.multi_objective_aggregation,
        "importance_sampling_level": training.importance_sampling_level,
        "mask_truncated_completions": False,  # `step` leaves them out: a stop text ends a reply, too
        **_LOSS_CONSTANTS,
        "disable_dropout": False,
        "reward_weights": list(recipe.rewards.values()),
    }


def _optimizer(training: TrainingSection) -> Options:
    """Transformers counts updates."""
    return {
        "max_steps": training.max_steps * training.num_iterations,
        "learning_rate": training.learning_rate,
        "lr_scheduler_type": training.lr_schedule,
        "warmup_steps": training.warmup_fraction,  # transformers 5 reads a number below 1 as a share
        "optim": training.optimizer,
        "adam_beta1": training.adam_beta1,
        "adam_beta2": training.adam_beta2,
        "adam_epsilon": 1e-8,
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_grad_norm,
        "gradient_checkpointing": training.gradient_checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False} if training.gradient_checkpointing else None,
    }


def _output(training: TrainingSection) -> Options:
    """What is saved and logged."""
    return {
        "save_strategy": "steps",
        "save_steps": training.save_every * training.num_iterations,
        "save_total_limit": None,  # the trainer would drop old ones before it is known that the new one is whole
        "logging_strategy": "steps",
        "logging_steps": training.num_iterations,
        "disable_tqdm": True,
        "report_to": "none",
    }


def _on_cpu(recipe: Recipe) -> str:
    """The type of mixed precision on a CPU, around weights in 32 bits."""
    return "bfloat16" if updates_in_bf16(recipe, "cpu") else "float32"


def _on_gpu(wanted: str) -> str:
    """The type of mixed precision on a GPU: what it is good at, unless the recipe says otherwise."""
    if wanted == "auto":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return wanted
