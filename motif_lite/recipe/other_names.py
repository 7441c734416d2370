"""Names that settings have in TRL, transformers and PEFT, with the recipe's keys for them: for suggestions.

`docs/glossary.md` shows the same table. Names that are the same here are not in it.
"""

_SAMPLING = ("rollout.openings", "rollout.futures")


def _of_both(key: str) -> tuple[str, ...]:
    return tuple(f"{section}.{key}" for section in _SAMPLING)


OTHER_NAMES: dict[str, tuple[str, ...]] = {
    "num_generations": ("rollout.num_openings",),
    "max_prompt_length": ("rollout.max_prompt_tokens",),
    "max_completion_length": _of_both("max_tokens"),
    "temperature": _of_both("temperature"),
    "top_p": _of_both("top_p"),
    "top_k": _of_both("top_k"),
    "min_p": _of_both("min_p"),
    "num_train_epochs": ("training.max_steps", "training.until_tokens"),
    "per_device_train_batch_size": ("training.problems_per_step", "training.micro_batch_size"),
    "gradient_accumulation_steps": ("training.problems_per_step", "training.micro_batch_size"),
    "generation_batch_size": ("training.problems_per_step",),
    "lr_scheduler_type": ("training.lr_schedule",),
    "warmup_ratio": ("training.warmup_fraction",),
    "warmup_steps": ("training.warmup_fraction",),
    "optim": ("training.optimizer",),
    "save_steps": ("training.save_every",),
    "save_total_limit": ("training.keep_checkpoints",),
    "eval_steps": ("evaluation.validation",),
    "reward_funcs": ("rewards",),
    "reward_weights": ("rewards",),
    "use_vllm": ("model.fast_inference", "rollout.server"),
    "vllm_gpu_memory_utilization": ("model.gpu_memory_utilization",),
    "vllm_importance_sampling_clip_max": ("training.importance_cap",),
    "vllm_importance_sampling_cap": ("training.importance_cap",),
    "vllm_server_base_url": ("rollout.server",),
    "bf16": ("model.dtype",),
    "fp16": ("model.dtype",),
    "model_name_or_path": ("model.name",),
    "dataset_name": ("data.train",),
    "report_to": ("logging",),
    "r": ("lora.rank",),
    "lora_alpha": ("lora.alpha",),
    "target_modules": ("lora.targets",),
}
"""By the last part of a key's name, as theirs: the keys that do it here."""
