"""What both backends share: a PEFT model with its tokenizer, generating batches and keeping its adapter.

Generating in the middle of training is where reproductions go quietly wrong: a model in train mode with
gradient checkpointing drops its KV cache and still writes something. `generation_mode` switches every module
to inference and back, also when generation fails.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from motif_lite.errors import ModelError
from motif_lite.nouns import Conversation, NotWanted, OnText, OnTokens, Reply, Sampling
from motif_lite.policies import adapter_weights, hf_generate
from motif_lite.policies.adapters import Coverage
from motif_lite.policies.chat_template import ChatTemplate
from motif_lite.policies.engine import engine
from motif_lite.policies.engine.engine import Engine
from motif_lite.policies.engine.sampler import Endings, Generated, Request
from motif_lite.policies.facts import PolicyFacts, Token, tokens_of
from motif_lite.policies.out_of_memory import MEMORY_ERRORS, free_memory_of, is_out_of_memory
from motif_lite.policies.protocol import TRAINED
from motif_lite.policies.text_streams import OnToken, TextStreams
from motif_lite.policies.turn_ends import TurnEnds
from motif_lite.recipe.model import ModelSection

_log = logging.getLogger(__name__)


class LocalPolicy:
    """A causal language model with a LoRA adapter, in this process.

    Args:
        model: The PEFT model; its adapter is live in everything that is generated.
        tokenizer: Its tokenizer, with a chat template.
        context_tokens: Most tokens of a prompt and its reply together.
        max_width: Most sequences that are written at once.
        section: Of the recipe, with what its chat template is told.

    Raises:
        ModelError: Tokenizer and model do not belong together, or the chat template cannot be trained through.
    """

    coverage: Coverage
    """Set by `start_from`."""

    def __init__(
        self, model: Any, tokenizer: Any, *, context_tokens: int, max_width: int, section: ModelSection | None = None
    ) -> None:
        name, num_rows = model.name_or_path, model.get_input_embeddings().num_embeddings
        if tokenizer.vocab_size > num_rows:
            raise ModelError(f"{name}: its tokenizer has more entries than the model; they do not belong together")
        if not tokenizer("a question", add_special_tokens=False)["input_ids"]:
            raise ModelError(f"{name}: its tokenizer encodes no text; is tokenizer.json missing?")
        arguments, day = (section.chat_template_kwargs, section.template_date) if section else ({}, "auto")
        self.template = ChatTemplate(tokenizer, name, num_rows, arguments, day)
        self.model = model
        self.engine = Engine(model) if engine.supports(model) else None
        self.writes_openings = self.engine is not None
        """Whether TRL gets its openings from us; it does for a whole run, whatever becomes of the engine."""
        self.tokenizer = tokenizer
        self.context_tokens = context_tokens
        self.max_width = max_width
        self.on_openings: OnTokens | None = None
        self.device_type: str = model.device.type
        begins = tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
        self.text_start: str = tokenizer.bos_token if begins else ""
        self.turn_ends = TurnEnds(model, tokenizer, self.template.facts.turn_end)
        self.stop_ids = self.turn_ends.ids
        self._known_endings: dict[tuple[str, ...], Endings] = {}
        self.trainer_options: Mapping[str, Any] = {}
        if self.template.arguments:
            self.trainer_options = {"chat_template_kwargs": self.template.arguments}
        if tokenizer.pad_token_id is None or tokenizer.pad_token_id >= num_rows:
            tokenizer.pad_token_id = self.stop_ids[0]
        # A hub model's own sampling defaults (Qwen2.5: repetition penalty 1.05, top-k 20) would leak into every
        # setting that a caller leaves out, here and in TRL.
        model.generation_config = GenerationConfig(
            eos_token_id=self.stop_ids, pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id
        )
        for remark in (*self.template.remarks(), *self.turn_ends.remarks(name)):
            _log.warning("%s", remark)

    def plain(self, conversation: Conversation) -> Conversation:
        """The conversation as `render` writes it: the chat template's marks in its contents are broken."""
        return self.template.plain(conversation)

    def render(self, conversation: Conversation) -> str:
        """The prompt text of a conversation, chat template applied, ready for the reply."""
        return self.template.render(conversation)

    def count_tokens(self, text: str) -> int:
        """Number of tokens of a rendered text."""
        return len(self.encode(text))

    def keep_end(self, text: str, max_tokens: int) -> str:
        """The end of a text, of at most so many tokens; of a character that would be cut, nothing is kept."""
        if max_tokens <= 0:
            return ""
        if not self.tokenizer.is_fast:  # it does not say where its tokens stand
            kept: str = self.tokenizer.decode(self.encode(text)[-max_tokens:])
            return kept.lstrip("\ufffd")
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return text[max((end for _, end in encoded["offset_mapping"][:-max_tokens]), default=0) :]

    def generate(
        self,
        prompts: Sequence[str],
        sampling: Sampling,
        *,
        seeds: Sequence[int],
        on_progress: OnTokens | None = None,
        on_text: OnText | None = None,
    ) -> list[Reply]:
        """One reply per rendered prompt, in order, at most ``max_width`` at a time.

        Out of memory, room is made for good and the missing replies are generated again: 4-bit weights are no longer
        dequantised all at once, or else the width is halved. Every sequence has a random stream of its own, so nothing
        changes. Progress then counts the missing ones alone.

        Raises:
            ModelError: There is not enough memory for one sequence.
        """
        requests = [
            Request(index, self.encode(prompt), seed)
            for index, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True))
        ]
        streams = TextStreams(self.tokenizer, self.turn_ends, on_text) if on_text else None
        return [self._reply(written) for written in self._write(requests, sampling, on_progress, streams)]

    def _write(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        on_progress: OnTokens | None = None,
        streams: TextStreams | None = None,
    ) -> list[Generated]:
        """What is written for each request, in order; see `generate`."""
        written, report = dict[int, Generated](), on_progress or (lambda _: None)
        with self._generation_mode(), torch.no_grad():
            while missing := [request for request in requests if request.index not in written]:
                on_token = streams.begin() if streams else None
                try:
                    for index, sequence in self._sequences(missing, sampling, report, on_token):
                        written[index] = sequence
                        if streams:
                            with suppress(NotWanted):
                                streams.end(index, self._reply(sequence).text)
                except MEMORY_ERRORS as error:
                    if not is_out_of_memory(error):
                        raise
                    self._make_room(len(missing), error)
        return [written[request.index] for request in requests]

    def write_rows(self, prompts: Sequence[list[int]], sampling: Sampling, *, seeds: Sequence[int]) -> list[Reply]:
        """Openings for TRL, from us like all other replies, where the engine knew the model as it was loaded."""
        requests = [Request(row, *drawn) for row, drawn in enumerate(zip(prompts, seeds, strict=True))]
        return [self._reply(written) for written in self._write(requests, sampling, self.on_openings)]

    def read_reply(self, ids: list[int], stop: Sequence[str] = ()) -> Reply:
        """New tokens as a reply; what follows the first stop token is left out.

        Args:
            stop: Texts that end a reply, too.
        """
        end = next((index for index, token in enumerate(ids) if token in self.stop_ids), None)
        written = Generated(ids if end is None else ids[: end + 1], [], "length" if end is None else "stop")
        has_stopped = any(text in self._text(written) for text in (*stop, *self.turn_ends.texts))
        return replace(self._reply(written), finish="stop") if has_stopped else self._reply(written)

    def close(self) -> None:
        """Nothing of it is outside this process."""

    def save_adapter(self, folder: Path) -> None:
        """Write the adapter in PEFT's format, safetensors; not the one that TRL compares it with (``beta``)."""
        self.model.save_pretrained(str(folder), safe_serialization=True, selected_adapters=[TRAINED])
        self.tokenizer.save_pretrained(str(folder))

    def load_adapter(self, folder: Path) -> None:
        """Replace the adapter's weights with saved ones.

        Raises:
            ModelError: The folder holds no adapter, or one that does not fit this model and recipe.
        """
        names = (*self.coverage.targets, *self.coverage.left_out)
        adapter_weights.put_into(self.model, folder, {name.rpartition(".")[2] for name in names})

    def start_from(self, coverage: Coverage, start: Path | None) -> None:
        """Say what the adapter leaves out, and load the one that the run starts from, if there is one.

        Raises:
            ModelError: It does not fit this model and recipe.
        """
        self.coverage = coverage
        if coverage.remark:
            _log.warning("%s: %s", self.model.name_or_path, coverage.remark)
        if start is not None:
            self.load_adapter(start)

    def facts(self) -> PolicyFacts:
        """What was found out about the model as it was loaded."""
        trained, weights = self.model.get_nb_trainable_parameters()
        return PolicyFacts(
            ends=(*self.tokenizer.convert_ids_to_tokens(self.turn_ends.ids), *self.turn_ends.texts),
            folds_system=self.template.folds_system,
            own_system=self.template.facts.own_system,
            coverage=self.coverage,
            num_trained=trained,
            num_weights=weights,
        )

    def tokens(self, text: str) -> list[Token]:
        """A rendered text token by token, as `generate` reads it."""
        return list(tokens_of(self.tokenizer, text))

    def _generation_mode(self) -> AbstractContextManager[None]:
        return generation_mode(self.model)

    def encode(self, text: str) -> list[int]:
        """The token ids of a text, as `generate` reads it."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def encode_reply(self, text: str) -> list[int]:
        """The token ids of a whole reply, with those that end its turn."""
        return [*self.encode(text), *self.turn_ends.closing(self.encode)]

    def _sequences(
        self, requests: Sequence[Request], sampling: Sampling, report: OnTokens, on_token: OnToken | None
    ) -> Iterator[tuple[int, Generated]]:
        """Write what is asked for; (index, what was written) in any order."""
        endings = self._endings((*sampling.stop, *self.turn_ends.texts))
        if self.engine is not None:
            return self.engine.sequences(
                requests, sampling, endings, width=self.max_width, report=report, on_token=on_token
            )
        return hf_generate.sequences(
            self.model, requests, sampling, endings,
            width=self.max_width, pad_id=self.tokenizer.pad_token_id, report=report, on_token=on_token,
        )  # fmt: skip

    def _endings(self, stop: tuple[str, ...]) -> Endings:
        """For a vocabulary as large as Qwen2.5's, stop strings take most of a second to prepare: once is enough."""
        if stop not in self._known_endings:
            self._known_endings[stop] = Endings(self.stop_ids, stop, self.tokenizer, self.model.device)
        return self._known_endings[stop]

    def _reply(self, written: Generated) -> Reply:
        text = self.turn_ends.without(self._text(written))
        return Reply(text, len(written.ids), written.finish, tuple(written.ids), tuple(written.logprobs))

    def _text(self, written: Generated) -> str:
        """What was written, without special tokens; the last one may be an end of turn that is not declared such."""
        ids = written.ids[:-1] if written.ids and written.ids[-1] in self.stop_ids else written.ids
        text: str = self.tokenizer.decode(self.turn_ends.readable(ids), skip_special_tokens=not self.turn_ends.kept)
        return text

    def _make_room(self, wanted: int, error: Exception) -> None:
        """After running out of memory with all that were wanted, or as many as may be at once."""
        if self.engine is not None and self.engine.keeps_weights:
            self.engine.keeps_weights = False
            _log.warning(
                "out of memory with 4-bit weights dequantised: from here on they are dequantised at every step, which "
                'takes longer; set rollout.weights = "4bit" to start there'
            )
            free_memory_of(error)
            return
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
