"""The Unsloth backend: a 4-bit model with fused LoRA kernels on one NVIDIA GPU.

Importing this module imports Unsloth, which patches transformers, peft and trl: it must come before any of
them is used, so nothing above this line of the program imports them at module level.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Self

from motif_lite.errors import MissingHardwareError, ModelError
from motif_lite.paths import cache_folder
from motif_lite.recipe import Recipe

_NO_GPU = (
    "model.backend = 'unsloth' needs an NVIDIA GPU, and PyTorch sees none here; recipes/tiny_cpu.toml runs the same "
    "method without one"
)

_WITHOUT_GPU = ("UNSLOTH_FORCE_CPU", "UNSLOTH_ALLOW_CPU")
"""Unsloth's own switches, its CPU backend (from 2026.10.8) and its tests; ours run with both, see tests/unsloth."""


def _prepare_unsloth() -> None:
    """Check what Unsloth needs, before its import fails in its own words; give its compiler a cache of its own."""
    try:
        import torch

        unsloth = version("unsloth")
    except (ImportError, PackageNotFoundError):
        raise MissingHardwareError(
            "model.backend = 'unsloth', but unsloth is not installed: pip install -r requirements.txt on a machine "
            "with an NVIDIA GPU, or start with recipes/tiny_cpu.toml, which needs neither"
        ) from None
    if not torch.cuda.is_available() and not any(os.environ.get(switch) == "1" for switch in _WITHOUT_GPU):
        raise MissingHardwareError(_NO_GPU)
    # Without this it writes unsloth_compiled_cache/ into whatever folder the user stands in.
    compiled = cache_folder() / f"unsloth-{unsloth}-torch-{torch.__version__}"
    os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(compiled))


_prepare_unsloth()

import torch  # noqa: E402
import unsloth  # noqa: E402  # first of all: it patches what the next lines import

from motif_lite.policies.local import LocalPolicy, explain_loading, generation_mode  # noqa: E402


class UnslothPolicy(LocalPolicy):
    """A model loaded, patched and switched between training and inference by Unsloth."""

    @classmethod
    def load(cls, recipe: Recipe, model_name: str) -> Self:
        """Load the model in 4 bit and add a fresh adapter with Unsloth's kernels and checkpointing.

        Raises:
            ModelError: The folder or hub model cannot be loaded.
        """
        dtype = None if recipe.model.dtype == "auto" else getattr(torch, recipe.model.dtype)
        checkpointing = "unsloth" if recipe.training.gradient_checkpointing else False
        try:
            model, tokenizer = unsloth.FastLanguageModel.from_pretrained(
                model_name=model_name,
                max_seq_length=recipe.model.max_seq_length,
                dtype=dtype,
                load_in_4bit=recipe.model.load_in_4bit,
                device_map="sequential" if torch.cuda.is_available() else {"": "cpu"},
                fast_inference=recipe.model.fast_inference,
                gpu_memory_utilization=recipe.model.gpu_memory_utilization,
                use_gradient_checkpointing=checkpointing,
                random_state=recipe.seed,
                max_lora_rank=recipe.lora.rank,
            )
        except Exception as error:  # a missing file, key or network each raise their own kind
            raise ModelError(explain_loading(model_name, error)) from None
        model = unsloth.FastLanguageModel.get_peft_model(
            model,
            r=recipe.lora.rank,
            lora_alpha=recipe.lora.alpha,
            target_modules=recipe.lora.targets,
            lora_dropout=0.0,
            bias="none",
            use_gradient_checkpointing=checkpointing,
            random_state=recipe.seed,
        )
        policy = cls(model, tokenizer, context_tokens=recipe.model.max_seq_length, max_width=recipe.rollout.max_width)
        policy.trainer_options = {"unsloth_logit_chunk_multiplier": recipe.training.logit_chunks}
        return policy

    def _generation_mode(self) -> AbstractContextManager[None]:
        return _unsloth_generation_mode(self.model, self.tokenizer)


@contextmanager
def _unsloth_generation_mode(model: Any, tokenizer: Any) -> Iterator[None]:
    """Unsloth's inference mode inside our own, which restores module flags even after an exception.

    Unsloth's `generate` switches modes itself, but not in a ``finally``, and leaves the tokenizer padding on the
    right; and its loss asks the model for hidden states instead of logits through an environment variable.
    """
    was_training, padding_side = model.training, tokenizer.padding_side
    hidden_states = os.environ.get("UNSLOTH_RETURN_HIDDEN_STATES", "0")
    os.environ["UNSLOTH_RETURN_HIDDEN_STATES"] = "0"
    try:
        with generation_mode(model):
            unsloth.FastLanguageModel.for_inference(model)
            try:
                yield
            finally:
                if was_training:
                    unsloth.FastLanguageModel.for_training(model)
    finally:
        os.environ["UNSLOTH_RETURN_HIDDEN_STATES"] = hidden_states
        tokenizer.padding_side = padding_side
