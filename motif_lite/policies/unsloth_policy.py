"""The Unsloth backend: a 4-bit model with fused LoRA kernels on one NVIDIA GPU.

Importing this module imports Unsloth, which patches transformers, peft and trl: it must come before any of
them is used, so nothing above this line of the program imports them at module level.
"""

import inspect
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

from motif_lite.credits.table import credit_of
from motif_lite.doctor import gpu
from motif_lite.errors import MissingHardwareError, ModelError
from motif_lite.paths import cache_folder
from motif_lite.recipe.schema import Recipe, decided

_WITHOUT_GPU = ("UNSLOTH_FORCE_CPU", "UNSLOTH_ALLOW_CPU")
"""Unsloth's own switches, its CPU backend (from 2026.10.8) and its tests; ours run with both, see tests/unsloth."""


_NOT_COMPILED = {"UNSLOTH_COMPILE_DISABLE": "1", "UNSLOTH_GRPO_PREFIX_GROUPER": "0"}
"""Unsloth's loss as PyTorch takes it, operation by operation, and no FlexAttention over prompts that rows share.

Both are compiled at the first update, and the loss again when lengths change: on an H200 the first update of 16
openings had not ended after two minutes, where one without them takes 3 s (docs/measurements.md). Who sets these
variables otherwise has it so.
"""


def _prepare_unsloth() -> None:
    """Check what Unsloth needs, before its import fails in its own words, and settle how it compiles."""
    try:
        import torch

        unsloth = version("unsloth")
    except (ImportError, PackageNotFoundError):
        raise MissingHardwareError(
            "model.backend = 'unsloth', but unsloth is not installed: pip install -r requirements.txt on a machine "
            "with an NVIDIA GPU, or start with recipes/tiny_cpu.toml, which needs neither"
        ) from None
    if not torch.cuda.is_available() and not any(os.environ.get(switch) == "1" for switch in _WITHOUT_GPU):
        raise MissingHardwareError(
            f"model.backend = 'unsloth' needs an NVIDIA GPU, and PyTorch sees none here: {gpu.why_none()}; "
            f"recipes/tiny_cpu.toml runs the same method without one"
        )
    # Without this it writes unsloth_compiled_cache/ into whatever folder the user stands in.
    compiled = cache_folder() / f"unsloth-{unsloth}-torch-{torch.__version__}"
    os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(compiled))
    for name, value in _NOT_COMPILED.items():
        os.environ.setdefault(name, value)


_prepare_unsloth()

import torch  # noqa: E402
import unsloth  # noqa: E402  # first of all: it patches what the next lines import

from motif_lite.nouns import OnTokens, Sampling  # noqa: E402
from motif_lite.policies import adapters, grouped_queries, vllm_engine  # noqa: E402
from motif_lite.policies.backends import require_device  # noqa: E402
from motif_lite.policies.engine.engine import OtherDecoderError  # noqa: E402
from motif_lite.policies.engine.sampler import Generated, Request  # noqa: E402
from motif_lite.policies.local import LocalPolicy, generation_mode  # noqa: E402
from motif_lite.policies.model_folder import (  # noqa: E402
    explain_loading,
    require_all_weights,
    require_numbers,
    require_trainable_kind,
)
from motif_lite.policies.positions import require_positions, require_room  # noqa: E402
from motif_lite.policies.text_streams import OnToken  # noqa: E402

_log = logging.getLogger(__name__)


class UnslothPolicy(LocalPolicy):
    """A model loaded, patched and switched between training and inference by Unsloth."""

    vllm: vllm_engine.VllmEngine | None = None
    """Set where the recipe asks for model.fast_inference."""

    @classmethod
    def require(cls, recipe: Recipe) -> None:
        """Refuse what this backend cannot do, before anything is downloaded.

        Raises:
            MissingHardwareError: The recipe asks for a device or a package that this backend has not.
        """
        require_device(recipe)
        if recipe.model.fast_inference:
            vllm_engine.require()

    @classmethod
    def load(cls, recipe: Recipe, model_name: str) -> Self:
        """Load the model in 4 bit and add an adapter, fresh or named, with Unsloth's kernels and checkpointing.

        Raises:
            MissingHardwareError: The recipe asks for a device or a package that this backend has not.
            ModelError: The folder or hub model cannot be loaded, or lora.targets do not fit it.
        """
        cls.require(recipe)
        if recipe.model.dtype == "float32" and torch.cuda.is_bf16_supported(including_emulation=False):
            _log.warning("model.dtype = 'float32', but Unsloth's trainer uses bfloat16 on this GPU anyway")
        # Without this switch, read at every step, it keeps the logits of all chunks for the backward pass.
        os.environ["UNSLOTH_GRPO_LOGPROB_RECOMPUTE"] = "0" if recipe.training.logit_chunks is None else "1"
        base_name, start = adapters.start_of(model_name)
        with adapters.named(start):
            require_trainable_kind(base_name, load_in_4bit=recipe.model.load_in_4bit)
            model, tokenizer = _load(recipe, base_name, start)
        adapters.require_no_adapter(model, base_name)
        coverage = adapters.coverage(model, recipe.lora.targets, base_name)
        if not _rewrites_the_trainer():
            require_positions(model, base_name)  # its own trainer moves the padding behind the row
        require_room(model, base_name, recipe.model.max_seq_length)
        try:
            model = unsloth.FastLanguageModel.get_peft_model(
                model,
                r=recipe.lora.rank,
                lora_alpha=recipe.lora.alpha,
                target_modules=list(coverage.targets),
                lora_dropout=0.0,
                bias="none",
                use_gradient_checkpointing=_checkpointing(recipe),
                random_state=recipe.seed,
            )
        except (ValueError, AssertionError, NotImplementedError) as error:  # each version has its own
            raise ModelError(f"{base_name}: lora.targets do not fit this model ({error})") from None
        width = decided(recipe.rollout.max_width)
        policy = cls(
            model, tokenizer, context_tokens=recipe.model.max_seq_length, max_width=width, section=recipe.model
        )
        policy.trainer_options = {**policy.trainer_options, **_trainer_options(recipe)}
        if recipe.model.fast_inference:
            policy.vllm, policy.engine = vllm_engine.VllmEngine(model, policy.stop_ids), None
            policy.writes_openings = False
        elif policy.engine is not None:
            policy.engine.keeps_weights = recipe.rollout.weights != "4bit"
        if policy.turn_ends.texts and not policy.writes_openings and not credit_of(recipe).samples_openings(recipe):
            raise ModelError(
                f"{base_name}: its chat template ends a turn with {policy.turn_ends.texts[0]!r}, which is no token, "
                f"and Unsloth's openings end at tokens only; take another model, or model.backend = 'transformers'"
            )
        policy.start_from(coverage, start)
        if policy.engine is None and policy.vllm is None:
            policy._group_queries()
        return policy

    def _sequences(
        self, requests: Sequence[Request], sampling: Sampling, report: OnTokens, on_token: OnToken | None
    ) -> Iterator[tuple[int, Generated]]:
        """As every local policy, by Unsloth's `generate`, or in one call of vLLM, which reports nothing meanwhile."""
        if self.vllm is not None:
            yield from self.vllm.sequences(requests, sampling)
            return
        try:
            yield from super()._sequences(requests, sampling, report, on_token)
            return
        except OtherDecoderError as error:
            reason = str(error)
        # Outside of it, where the error no longer holds what the decoder had dequantised.
        _log.warning(
            "%s: replies are generated by Unsloth, more slowly; please report it with the model's name", reason
        )
        self.engine = None
        self._group_queries()
        yield from super()._sequences(requests, sampling, report, on_token)

    def _group_queries(self) -> None:
        """Before Unsloth's `generate` writes; its CPU backend has stock models, and nothing to change."""
        if _rewrites_the_trainer():
            grouped_queries.use(self, unsloth.__version__)

    def _generation_mode(self) -> AbstractContextManager[None]:
        return _unsloth_generation_mode(self.model, self.tokenizer)


def _load(recipe: Recipe, model_name: str, start: Path | None) -> tuple[Any, Any]:
    try:
        with _loading_infos() as infos:
            model, tokenizer = unsloth.FastLanguageModel.from_pretrained(
                model_name=model_name,
                max_seq_length=recipe.model.max_seq_length,
                dtype=None if recipe.model.dtype == "auto" else getattr(torch, recipe.model.dtype),
                load_in_4bit=recipe.model.load_in_4bit,
                device_map="sequential" if torch.cuda.is_available() else {"": "cpu"},
                fast_inference=recipe.model.fast_inference,
                gpu_memory_utilization=recipe.model.gpu_memory_utilization,
                use_gradient_checkpointing=_checkpointing(recipe),
                random_state=recipe.seed,
                max_lora_rank=recipe.lora.rank,
            )
            if own := adapters.tokenizer_folder(start):
                from transformers import AutoTokenizer  # at the top a tidy order of imports would put it first

                tokenizer = AutoTokenizer.from_pretrained(own, trust_remote_code=False)
    except Exception as error:  # a missing file, key or network each raise their own kind
        raise ModelError(explain_loading(model_name, error)) from None
    for info in infos:
        require_all_weights(model_name, vars(info))
    require_numbers(model_name, model)
    return model, tokenizer


@contextmanager
def _loading_infos() -> Iterator[list[Any]]:
    """What transformers finds out about missing weights; Unsloth hands none of it on, nor refuses by itself.

    Its own guard looks for the words of transformers 4. With an engine of vLLM nothing is loaded here, or found out.
    """
    from transformers import PreTrainedModel

    finalize, infos = PreTrainedModel._finalize_model_loading, []

    def recorded(*arguments: Any, **named: Any) -> Any:
        infos.append(finalize(*arguments, **named))
        return infos[-1]

    PreTrainedModel._finalize_model_loading = staticmethod(recorded)
    try:
        yield infos
    finally:
        PreTrainedModel._finalize_model_loading = staticmethod(finalize)


def _checkpointing(recipe: Recipe) -> str | bool:
    return "unsloth" if recipe.training.gradient_checkpointing else False


def _rewrites_the_trainer() -> bool:
    """Whether TRL's trainer is Unsloth's by now; its CPU backend leaves it as it is."""
    import trl  # at the top a tidy order of imports would put it first

    return "unsloth_logit_chunk_multiplier" in inspect.signature(trl.GRPOConfig).parameters


def _trainer_options(recipe: Recipe) -> dict[str, Any]:
    """What only this backend's GRPOConfig understands, and what it would otherwise change."""
    training = recipe.training
    options = vllm_engine.trainer_options(recipe) if recipe.model.fast_inference else {}
    if not _rewrites_the_trainer():
        return options
    options["unsloth_logit_chunk_multiplier"] = training.logit_chunks
    if (credit_of(recipe).loss_type(training), training.scale_rewards) == ("dr_grpo", "group"):
        options["scale_rewards"] = None  # Unsloth turns "group" into none with this loss, and None into "group"
    if training.gradient_checkpointing:
        options["gradient_checkpointing_kwargs"] = {"use_reentrant": True}  # it takes nothing else
    return options


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
