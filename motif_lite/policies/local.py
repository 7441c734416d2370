"""What both backends share: a PEFT model with its tokenizer, generating batches and keeping its adapter.

Generating in the middle of training is where reproductions go quietly wrong: a model in train mode with
gradient checkpointing drops its KV cache and still writes something. `generation_mode` switches every module
to inference and back, also when generation fails.
"""

import gc
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from motif_lite.errors import ModelError
from motif_lite.nouns import Conversation, OnTokens, Reply, Sampling
from motif_lite.policies import hf_generate
from motif_lite.policies.engine import engine
from motif_lite.policies.engine.engine import Engine
from motif_lite.policies.engine.sampler import Endings, Generated, Request
from motif_lite.policies.protocol import ADAPTER_FILE
from motif_lite.policies.special_tokens import SpecialTokens

_log = logging.getLogger(__name__)


class LocalPolicy:
    """A causal language model with a LoRA adapter, in this process.

    Args:
        model: The PEFT model; its adapter is live in everything that is generated.
        tokenizer: Its tokenizer, with a chat template.
        context_tokens: Most tokens of a prompt and its reply together.
        max_width: Most sequences that are written at once.
    """

    def __init__(self, model: Any, tokenizer: Any, *, context_tokens: int, max_width: int) -> None:
        if tokenizer.chat_template is None:
            raise ModelError(f"{model.name_or_path}: its tokenizer has no chat template; use an instruct model")
        if tokenizer.vocab_size > model.get_input_embeddings().num_embeddings:
            raise ModelError(
                f"{model.name_or_path}: its tokenizer has more entries than the model; they do not belong together"
            )
        self.model = model
        self.engine = Engine(model) if engine.supports(model) else None
        self.tokenizer = tokenizer
        self._marks = SpecialTokens(tokenizer)
        self.context_tokens = context_tokens
        self.max_width = max_width
        self.on_openings: OnTokens | None = None
        self.trainer_options: Mapping[str, Any] = {}
        self._known_endings: dict[tuple[str, ...], Endings] = {}
        self.device_type: str = model.device.type
        self.stop_ids = _stop_ids(model, tokenizer)
        self._require_words()
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token_id = self.stop_ids[0]
        # A hub model's own sampling defaults (Qwen2.5: repetition penalty 1.05, top-k 20) would leak into every
        # setting that a caller leaves out, here and in TRL.
        model.generation_config = GenerationConfig(
            eos_token_id=self.stop_ids, pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id
        )

    def _require_words(self) -> None:
        """Refuse a tokenizer that reads nothing, ends nothing, or whose template does not ask the question."""
        question = "a question"
        for is_missing, complaint in (
            (not self.stop_ids, "its tokenizer has no token that ends a turn; is the folder complete?"),
            (not self.encode(question), "its tokenizer encodes no text; is tokenizer.json missing?"),
            (question not in self.render([{"role": "user", "content": question}]), "its chat template drops "
             "the user message; fix the template"),
        ):  # fmt: skip
            if is_missing:
                raise ModelError(f"{self.model.name_or_path}: {complaint}")

    def plain(self, conversation: Conversation) -> Conversation:
        """The conversation as `render` writes it: the chat template's marks in its contents are broken."""
        return self._marks.broken_in(conversation)

    def render(self, conversation: Conversation) -> str:
        """The prompt text of a conversation, chat template applied, ready for the reply."""
        messages = self.plain(conversation)
        try:
            rendered: str = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # a template is a program: besides Jinja's own errors it may divide by zero
            raise ModelError(
                f"{self.model.name_or_path}: its chat template refuses our messages ({error}); if it has no system "
                f"role, use none: --set 'rollout.system_prompt=\"\"'"
            ) from None
        return rendered

    def count_tokens(self, text: str) -> int:
        """Number of tokens of a rendered text."""
        return len(self.encode(text))

    def keep_end(self, text: str, max_tokens: int) -> str:
        """The end of a text, of at most so many tokens."""
        kept: str = self.tokenizer.decode(self.encode(text)[-max_tokens:] if max_tokens > 0 else [])
        return kept

    def generate(
        self,
        prompts: Sequence[str],
        sampling: Sampling,
        *,
        seeds: Sequence[int],
        on_progress: OnTokens | None = None,
    ) -> list[Reply]:
        """One reply per rendered prompt, in order, at most ``max_width`` at a time.

        Out of memory, the width is halved for good and the missing replies are generated again: every sequence has a
        random stream of its own, so nothing changes. Progress then counts the missing ones alone.

        Raises:
            ModelError: There is not enough memory for one sequence.
        """
        requests = [
            Request(index, self.encode(prompt), seed)
            for index, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True))
        ]
        return [self._reply(written) for written in self._write(requests, sampling, on_progress)]

    def _write(
        self, requests: Sequence[Request], sampling: Sampling, on_progress: OnTokens | None = None
    ) -> list[Generated]:
        """What is written for each request, in order; see `generate`."""
        written: dict[int, Generated] = {}

        report = on_progress or (lambda progress: None)
        with self._generation_mode(), torch.no_grad():
            while missing := [request for request in requests if request.index not in written]:
                try:
                    for index, sequence in self._sequences(missing, sampling, report):
                        written[index] = sequence
                except RuntimeError as error:
                    if not is_out_of_memory(error):
                        raise
                    self._halve_width(len(missing), error)
        return [written[request.index] for request in requests]

    def write_rows(self, prompts: Sequence[list[int]], sampling: Sampling) -> list[list[int]] | None:
        """None: TRL asks the model's own `generate`."""
        return None

    def read_reply(self, ids: list[int], stop: Sequence[str] = ()) -> Reply:
        """New tokens as a reply; what follows the first stop token is left out.

        Args:
            stop: Texts that end a reply, too.
        """
        end = next((index for index, token in enumerate(ids) if token in self.stop_ids), None)
        reply = self._reply(Generated(ids if end is None else ids[: end + 1], [], "length" if end is None else "stop"))
        return replace(reply, finish="stop") if any(text in reply.text for text in stop) else reply

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

    def encode(self, text: str) -> list[int]:
        """The token ids of a text, as `generate` reads it."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _sequences(
        self, requests: Sequence[Request], sampling: Sampling, report: OnTokens
    ) -> Iterator[tuple[int, Generated]]:
        """Write what is asked for; (index, what was written) in any order."""
        endings = self._endings(tuple(sampling.stop))
        if self.engine is not None:
            return self.engine.sequences(requests, sampling, endings, width=self.max_width, report=report)
        return hf_generate.sequences(
            self.model, requests, sampling, endings,
            width=self.max_width, pad_id=self.tokenizer.pad_token_id, report=report,
        )  # fmt: skip

    def _endings(self, stop: tuple[str, ...]) -> Endings:
        """For a vocabulary as large as Qwen2.5's, stop strings take most of a second to prepare: once is enough."""
        if stop not in self._known_endings:
            self._known_endings[stop] = Endings(self.stop_ids, stop, self.tokenizer, self.model.device)
        return self._known_endings[stop]

    def _reply(self, written: Generated) -> Reply:
        text = self.tokenizer.decode(written.ids, skip_special_tokens=True)
        return Reply(text, len(written.ids), written.finish, tuple(written.ids), tuple(written.logprobs))

    def _halve_width(self, wanted: int, error: RuntimeError) -> None:
        """After running out of memory with all that were wanted, or as many as may be at once."""
        width = min(self.max_width, wanted)
        if width == 1:
            raise ModelError(
                "out of memory while a single reply was generated; shorten rollout.futures.max_tokens, or take a "
                "smaller model"
            ) from error
        self.max_width = width // 2
        _log.warning(
            "out of memory with %d replies at once: continuing with %d; set rollout.max_width = %d to start there",
            width, self.max_width, self.max_width,
        )  # fmt: skip
        free_memory_of(error)


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


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an allocation failed: on a GPU it has a class of its own, on a CPU only words."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def free_memory_of(error: RuntimeError) -> None:
    """Free the tensors of the failed call: the frames of its traceback hold them."""
    error.__traceback__ = None
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


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
