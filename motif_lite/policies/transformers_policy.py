"""The transformers backend: any causal model with PEFT LoRA, on a CPU or a CUDA GPU, in 4 bit or not."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from motif_lite.credits.table import credit_of
from motif_lite.doctor import gpu
from motif_lite.errors import MissingHardwareError, ModelError
from motif_lite.policies import adapters
from motif_lite.policies.local import LocalPolicy
from motif_lite.policies.merged_lora import adapter_folded
from motif_lite.policies.model_folder import explain_loading, require_all_weights, require_trainable_kind
from motif_lite.policies.onednn import fast_products
from motif_lite.policies.positions import require_positions
from motif_lite.recipe.schema import Recipe, decided


class TransformersPolicy(LocalPolicy):
    """A stock transformers model with a PEFT adapter."""

    @classmethod
    def require(cls, recipe: Recipe) -> None:
        """Refuse a device that is not here.

        Raises:
            MissingHardwareError: The recipe insists on CUDA and there is none.
        """
        _device(recipe)

    @classmethod
    def load(cls, recipe: Recipe, model_name: str) -> Self:
        """Load weights and tokenizer, quantise if asked to, and add an adapter: a fresh one, or the one that was named.

        Raises:
            MissingHardwareError: The recipe insists on CUDA and there is none.
            ModelError: The folder or hub model cannot be loaded, or not be trained.
        """
        device = _device(recipe)
        base_name, start = adapters.start_of(model_name)
        with adapters.named(start):
            require_trainable_kind(base_name, load_in_4bit=recipe.model.load_in_4bit)
            model, tokenizer = _load(recipe, base_name, device, start)
        adapters.require_no_adapter(model, base_name)
        coverage = adapters.coverage(model, recipe.lora.targets, base_name)
        require_positions(model, base_name)
        if recipe.model.load_in_4bit:
            # Casts norms and keeps the base frozen; checkpointing is the trainer's to switch on.
            model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
            if device == "cpu":
                _keep_quantised_layers_in_train_mode(model)
        torch.manual_seed(recipe.seed)  # the adapter's random half
        peft_model = get_peft_model(model, _lora(recipe, coverage))
        policy = cls(
            peft_model,
            tokenizer,
            context_tokens=recipe.model.max_seq_length,
            max_width=decided(recipe.rollout.max_width),
            section=recipe.model,
        )
        policy.start_from(coverage, start)
        policy._require_endings_of_openings(recipe)
        return policy

    def _require_endings_of_openings(self, recipe: Recipe) -> None:
        """Refuse texts that are to end openings which TRL samples by the model's own `generate`.

        Raises:
            ModelError: The engine does not support the model, and openings are to end at a text.
        """
        stop = [*recipe.rollout.openings.stop, *self.turn_ends.texts]
        if self.engine is None and stop and not credit_of(recipe).samples_itself:
            remedy = "leave out rollout.openings.stop"
            if self.turn_ends.texts:
                remedy = f"its chat template ends a turn with {stop[-1]!r}, which is no token; take another model"
            raise ModelError(
                f"{self.model.name_or_path}: openings of a {self.model.config.model_type} model end at an end-of-turn "
                f"token only; {remedy}"
            )

    @contextmanager
    def _generation_mode(self) -> Iterator[None]:
        with super()._generation_mode(), adapter_folded(self.model), fast_products(self.model):
            yield


def _device(recipe: Recipe) -> str:
    wanted, is_there = recipe.model.device.partition(":")[0], torch.cuda.is_available()
    if wanted == "cuda" and not is_there:
        raise MissingHardwareError(
            f"model.device = {recipe.model.device!r}, but PyTorch sees no CUDA GPU: {gpu.why_none()}; or set "
            f"model.device to 'auto', or start with recipes/tiny_cpu.toml, which needs none"
        )
    return ("cuda" if is_there else "cpu") if wanted == "auto" else wanted


def _load(recipe: Recipe, model_name: str, device: str, start: Path | None) -> tuple[Any, Any]:
    """The model, and its tokenizer or that of the adapter to start from."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(  # nor ask whether to trust code
            adapters.tokenizer_folder(start) or model_name, trust_remote_code=False
        )
        model, loaded = AutoModelForCausalLM.from_pretrained(
            model_name,
            dtype=_dtype(recipe, device),
            device_map={"": device},
            quantization_config=_quantization(recipe, device),
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:  # a missing file, key or network each raise their own kind
        raise ModelError(explain_loading(model_name, error)) from None
    require_all_weights(model_name, loaded)
    return model, tokenizer


def _lora(recipe: Recipe, coverage: adapters.Coverage) -> LoraConfig:
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=recipe.lora.rank,
        lora_alpha=recipe.lora.alpha,
        target_modules=list(coverage.targets),
        exclude_modules=list(coverage.excluded) or None,
        lora_dropout=0.0,
        bias="none",
    )


def _dtype(recipe: Recipe, device: str) -> torch.dtype:
    if recipe.model.dtype != "auto":
        dtype: torch.dtype = getattr(torch, recipe.model.dtype)
        return dtype
    if device == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def _quantization(recipe: Recipe, device: str) -> BitsAndBytesConfig | None:
    if not recipe.model.load_in_4bit:
        return None
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=_dtype(recipe, device),
    )


def _keep_quantised_layers_in_train_mode(model: Any) -> None:
    """Pin bitsandbytes' 4-bit layers to train mode on a CPU.

    In eval mode bitsandbytes 0.50 repacks the weights for inference on processors with AVX512-BF16, and the next
    training forward fails on layers with a bias. These layers have no dropout: train mode changes nothing else.
    """
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.training = True
            module.train = lambda mode=True, module=module: module
