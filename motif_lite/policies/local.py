"""What both backends share: a PEFT model with its tokenizer, generating batches and keeping its adapter.

Generating in the middle of training is where reproductions go quietly wrong: a model in train mode with
gradient checkpointing drops its KV cache and still writes something. `generation_mode` switches every module
to inference and back, also when generation fails.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from motif_lite.errors import ModelError
from motif_lite.types import Conversation, OnProgress, Reply, Sampling

ADAPTER_FILE = "adapter_model.safetensors"


class LocalPolicy:
    """A causal language model with a LoRA adapter, in this process.

    Args:
        model: The PEFT model; its adapter is live in everything that is generated.
        tokenizer: Its tokenizer, with a chat template.
        context_tokens: Most tokens of a prompt and its reply together.
        max_width: Most sequences in one generate call.
    """

    def __init__(self, model: Any, tokenizer: Any, *, context_tokens: int, max_width: int) -> None:
        if tokenizer.chat_template is None:
            raise ModelError(f"{model.name_or_path}: its tokenizer has no chat template; use an instruct model")
        if tokenizer.vocab_size > model.get_input_embeddings().num_embeddings:
            raise ModelError(
                f"{model.name_or_path}: its tokenizer has more entries than the model; they do not belong together"
            )
        self.model = model
        self.tokenizer = tokenizer
        self.context_tokens = context_tokens
        self.max_width = max_width
        self.trainer_options: Mapping[str, Any] = {}
        self.device_type: str = model.device.type
        self.stop_ids = _stop_ids(model, tokenizer)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token_id = self.stop_ids[0]
        # A hub model's own sampling defaults (Qwen2.5: repetition penalty 1.05, top-k 20) would leak into every
        # setting that a caller leaves out, here and in TRL.
        model.generation_config = GenerationConfig(
            eos_token_id=self.stop_ids, pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id
        )

    def render(self, conversation: Conversation) -> str:
        """The prompt text of a conversation, chat template applied, ready for the reply."""
        try:
            rendered: str = self.tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
        except TemplateError as error:
            raise ModelError(
                f"{self.model.name_or_path}: its chat template refuses our messages ({error}); if it knows no system "
                f"prompt, go without: --set 'rollout.system_prompt=\"\"'"
            ) from None
        return rendered

    def count_tokens(self, text: str) -> int:
        """Number of tokens of a rendered text."""
        return len(self._encode(text))

    def keep_end(self, text: str, max_tokens: int) -> str:
        """The end of a text, of at most so many tokens."""
        kept: str = self.tokenizer.decode(self._encode(text)[-max_tokens:] if max_tokens > 0 else [])
        return kept

    def generate(
        self, prompts: Sequence[str], sampling: Sampling, *, seed: int, on_progress: OnProgress | None = None
    ) -> list[Reply]:
        """One reply per rendered prompt, in order, in calls of at most ``max_width``.

        Progress counts token steps over all calls; a call that ends early skips the rest of its share.
        """
        replies: list[Reply] = []
        calls = [prompts[start : start + self.max_width] for start in range(0, len(prompts), self.max_width)]
        with self._generation_mode(), torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(seed)
            for number, call in enumerate(calls):
                steps = _StepCounter(on_progress, number * sampling.max_tokens, len(calls) * sampling.max_tokens)
                replies += self._generate_call(call, sampling, steps)
        return replies

    def read_reply(self, ids: list[int]) -> Reply:
        """Cut a row of new tokens after its first stop token and decode it."""
        end = next((index for index, token in enumerate(ids) if token in self.stop_ids), None)
        kept = ids if end is None else ids[: end + 1]
        text = self.tokenizer.decode(kept, skip_special_tokens=True)
        return Reply(text, len(kept), "length" if end is None else "stop")

    def save_adapter(self, folder: Path) -> None:
        """Write the adapter in PEFT's format, safetensors."""
        self.model.save_pretrained(str(folder), safe_serialization=True)
        self.tokenizer.save_pretrained(str(folder))

    def load_adapter(self, folder: Path) -> None:
        """Replace the adapter's weights with saved ones.

        Raises:
            ModelError: The folder holds no adapter, or one that does not fit this model and recipe.
        """
        from peft import set_peft_model_state_dict
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = folder / ADAPTER_FILE
        try:
            weights = load_file(path)
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path}: is not an adapter that can be read ({error})") from None
        try:
            result = set_peft_model_state_dict(self.model, weights)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise ModelError(f"{path}: does not fit this model and its [lora] settings ({reason})") from None
        missing = [name for name in result.missing_keys if "lora_" in name]
        if missing or result.unexpected_keys:
            raise ModelError(
                f"{path}: does not fit this model and its [lora] settings ({len(missing)} weights missing, "
                f"{len(result.unexpected_keys)} unknown); load it with the recipe that it was trained with"
            )

    def _generation_mode(self) -> AbstractContextManager[None]:
        return generation_mode(self.model)

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _generate_call(self, prompts: Sequence[str], sampling: Sampling, steps: "_StepCounter") -> list[Reply]:
        """One `model.generate` of left-padded prompts ``(B, P)`` to replies ``(B, <= max_tokens)``."""
        encoded = [self._encode(prompt) for prompt in prompts]
        longest = max(len(ids) for ids in encoded)
        # By hand, not through tokenizer.pad: Unsloth flips the tokenizer's padding side in mid-training.
        padded = torch.tensor([[self.tokenizer.pad_token_id] * (longest - len(ids)) + ids for ids in encoded])
        mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in encoded])
        output = self.model.generate(
            input_ids=padded.to(self.model.device),
            attention_mask=mask.to(self.model.device),
            generation_config=self._generation_config(sampling),
            stopping_criteria=StoppingCriteriaList([steps]),
        )
        return [self.read_reply(row) for row in output[:, longest:].tolist()]

    def _generation_config(self, sampling: Sampling) -> GenerationConfig:
        """Greedy or sampled; every field that a default could fill in is given."""
        chosen: dict[str, Any] = {"do_sample": False}
        if sampling.temperature > 0:
            chosen = {
                "do_sample": True,
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "top_k": sampling.top_k,
            }
        return GenerationConfig(
            max_new_tokens=sampling.max_tokens,
            use_cache=True,
            eos_token_id=self.stop_ids,
            pad_token_id=self.tokenizer.pad_token_id,
            bos_token_id=self.tokenizer.bos_token_id,
            **chosen,
        )


@contextmanager
def generation_mode(model: torch.nn.Module) -> Iterator[None]:
    """Eval mode without gradient checkpointing; every module is put back as it was, whatever happens inside."""
    modes = [(module, module.training) for module in model.modules()]
    checkpointing = [
        (module, module.gradient_checkpointing) for module, _ in modes if hasattr(module, "gradient_checkpointing")
    ]
    try:
        model.eval()
        for module, _ in checkpointing:
            setattr(module, "gradient_checkpointing", False)  # noqa: B010  # not declared on nn.Module
        yield
    finally:
        for module, training in modes:
            module.training = training
        for module, checkpointed in checkpointing:
            setattr(module, "gradient_checkpointing", checkpointed)  # noqa: B010


def explain_loading(model_name: str, error: Exception) -> str:
    """What to tell the user when a model cannot be loaded."""
    reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
    is_path = model_name.startswith(("/", "./", "../", "~"))
    if is_path and not Path(model_name).exists():
        return f"{model_name}: there is no such folder; check model.name"
    if is_path or Path(model_name).exists():
        remedy = "the folder must hold config.json, *.safetensors and a tokenizer"
    else:
        remedy = "check the name and the connection, or give a local folder as model.name"
    return f"{model_name}: the model cannot be loaded ({reason}); {remedy}"


def require_all_weights(model_name: str, loaded: Mapping[str, Any]) -> None:
    """Refuse a folder that lacks weights: transformers fills them with random numbers, and only logs it.

    Args:
        loaded: What `from_pretrained` says of the loading, by kind.

    Raises:
        ModelError: A weight is missing, or has another shape.
    """
    for kind in ("missing_keys", "mismatched_keys"):
        if loaded[kind]:
            names = ", ".join(sorted(str(name) for name in loaded[kind])[:3])
            raise ModelError(
                f"{model_name}: {len(loaded[kind])} weights are {kind.removesuffix('_keys')} ({names}); "
                f"download the model again"
            )


def _stop_ids(model: Any, tokenizer: Any) -> list[int]:
    """Every token that ends a turn: those of the model's generation settings, then the tokenizer's."""
    configured = model.generation_config.eos_token_id if model.generation_config is not None else None
    ids = configured if isinstance(configured, list) else [configured]
    return list(dict.fromkeys(token for token in [*ids, tokenizer.eos_token_id] if token is not None))


class _StepCounter(StoppingCriteria):
    """Reports each token step; never stops anything."""

    def __init__(self, on_progress: OnProgress | None, done: int, total: int) -> None:
        self.on_progress = on_progress
        self.done = done
        self.total = total

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        self.done += 1
        if self.on_progress is not None:
            self.on_progress(self.done, self.total)
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)
