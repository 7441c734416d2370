"""Replies from a vLLM server, of the model that is trained here: by its base weights there, and the adapter of here.

The adapter goes as a folder that both machines see, and is loaded by vLLM's own requests for that. TRL's client sends
all weights instead, over NCCL between CUDA devices of one network, and leaves a server that no other run can use.

A server that kept an older adapter, or none, would answer all the same. So every adapter has a name of its own, by
which replies are asked for, and its first words are compared with what the model here makes of them.
"""

import asyncio
import hashlib
import logging
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict

from motif_lite.errors import ModelError, ServerError
from motif_lite.nouns import OnTokens, Sampling, TokenProgress
from motif_lite.policies.engine.sampler import Generated, Request
from motif_lite.policies.out_of_memory import MEMORY_ERRORS, is_out_of_memory
from motif_lite.policies.protocol import TRAINED
from motif_lite.policies.server import at_once, formats
from motif_lite.policies.server.connection import PAUSES, Body, Connection
from motif_lite.policies.server.formats import Continuation
from motif_lite.policies.vllm_engine import sampling_options
from motif_lite.recipe.model import ModelSection

_log = logging.getLogger(__name__)

_PROBE = Sampling(max_tokens=16, temperature=0)

MOST_OFF = 0.1
"""Mean distance of log-probabilities that is no rounding in any precision; also what tells two adapters apart."""

_LEAST_SEEN = 1e-3
"""Below it, the adapter does too little to be seen."""

_CLOSING_SECONDS = 1.5
"""Within these the server has to drop its last adapter. A run that is stopped has two (`jobs.stopping`)."""


class RolloutServer:
    """A vLLM server with ``--enable-lora`` and ``VLLM_ALLOW_RUNTIME_LORA_UPDATING=1``.

    Args:
        section: Of the recipe, with the server's address as its ``url``.
        folder: For adapters; the server sees it under the same path.
        model: The PEFT model, in inference mode whenever `sequences` runs, its adapter not merged.
        stop_ids: Tokens that end a turn.
        pauses: Seconds between tries of a request.
    """

    def __init__(
        self,
        section: ModelSection,
        folder: Path,
        model: Any,
        stop_ids: list[int],
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        self._section, self._folder, self._model, self._stop_ids = section, folder.absolute(), model, stop_ids
        self._pauses = pauses
        self._process = secrets.token_hex(4)  # two runs may begin with the same adapter, and end at different times
        self._given: list[str] = []
        """Adapters in the folder, whole or not; the server has them or is about to be told."""
        self._served: str | None = None

    def close(self) -> None:
        """Have the server drop what it was given, and remove it from the folder. What goes wrong is only said."""
        given, self._served = list(self._given), None
        told = [name for name in given if (self._folder / name).exists()]  # not of one that is half written
        for name in given:
            self._remove(name)
        asyncio.run(self._dropped(told))

    def sequences(
        self, requests: Sequence[Request], sampling: Sampling, stop: Sequence[str], report: OnTokens
    ) -> Iterator[tuple[int, Generated]]:
        """Write every request with the adapter as it stands; yields (index, what was written).

        Args:
            stop: Texts that end a reply.

        Raises:
            ServerError: The server does not answer, refuses, or writes with another model than the one here.
            ModelError: The folder for adapters cannot be written, or there is no memory to compare the two models.
        """
        return iter(asyncio.run(self._all(requests, sampling, list(stop), report)).items())

    async def _all(
        self, requests: Sequence[Request], sampling: Sampling, stop: list[str], report: OnTokens
    ) -> dict[int, Generated]:
        written: dict[int, Generated] = {}

        async def ask(place: int) -> None:
            request = requests[place]
            body = self._body(name, request.ids, sampling, request.seed, stop)
            written[request.index] = self._read(await connection.continued(body), sampling)

        async with Connection(self._section, self._pauses) as connection:
            name = await self._up_to_date(connection, requests[0].ids)
            await at_once.all_done(
                ask, len(requests), self._section.requests, lambda: report(_progress(written, len(requests), sampling))
            )
        return written

    def _body(self, name: str, ids: list[int], sampling: Sampling, seed: int, stop: list[str]) -> Body:
        """A request. All that vLLM would take from the model's ``generation_config.json`` is in it."""
        return sampling_options(sampling, seed, self._stop_ids) | {
            "model": name,
            "prompt": ids,
            "stop": stop,
            "repetition_penalty": 1.0,
            "return_token_ids": True,
        }

    def _read(self, found: Continuation, sampling: Sampling) -> Generated:
        [choice] = found.choices
        ids, logprobs = choice.token_ids, choice.logprobs.token_logprobs
        num_rows = self._model.get_input_embeddings().num_embeddings
        if not len(ids) == len(logprobs) <= sampling.max_tokens or not all(0 <= token < num_rows for token in ids):
            raise ServerError(
                f"{self._section.url}: {len(ids)} tokens with {len(logprobs)} log-probabilities are no reply of at "
                f"most {sampling.max_tokens} tokens of this model; does the server have the same model.name?"
            )
        return Generated(ids, logprobs, formats.finish(choice.finish_reason))

    async def _up_to_date(self, connection: Connection, ids: list[int]) -> str:
        """The name of the adapter as it stands, which the server has."""
        weights = {name: weight.detach().cpu() for name, weight in get_peft_model_state_dict(self._model).items()}
        name = f"motif_lite-{self._process}-{_digest(weights)}"
        if name == self._served:
            return name
        await self._loaded(connection, name)
        await self._require_taken(connection, name, ids)
        if self._served is not None:
            await self._drop(self._served, self._pauses)
            self._remove(self._served)
        self._served = name
        return name

    async def _dropped(self, names: list[str]) -> None:
        await asyncio.gather(*(self._drop(name, (), _CLOSING_SECONDS) for name in names))

    async def _drop(self, name: str, pauses: Sequence[float], seconds: float | None = None) -> None:
        """Have the server forget an adapter; one that was restarted has done so. What goes wrong is only said."""
        try:
            async with asyncio.timeout(seconds), Connection(self._section, pauses) as connection:
                await connection.order("/unload_lora_adapter", {"lora_name": name})
        except (ServerError, TimeoutError) as error:
            reason = str(error) or f"{self._section.url}: no answer in {seconds} seconds"
            _log.warning("%s may stay loaded on the server: %s", name, reason)

    def _remove(self, name: str) -> None:
        """What there is of it in the folder."""
        for each in (name, _unfinished(name)):
            shutil.rmtree(self._folder / each, ignore_errors=True)
        self._given.remove(name)

    async def _loaded(self, connection: Connection, name: str) -> None:
        self._given.append(name)  # before there is any of it, as Ctrl-C may come at any time
        folder = self._written(name)
        try:
            await connection.order("/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)})
        except ServerError as error:
            if await self._has(name):
                return
            self._remove(name)
            raise ServerError(
                f"{error}\n(of /load_lora_adapter: start vLLM with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1, --enable-lora "
                f"and --max-lora-rank of at least lora.rank, where it sees {folder})"
            ) from None

    async def _has(self, name: str) -> bool:
        """Whether the server lists an adapter: if its answer was lost, it refuses to load the name once more."""
        try:
            async with Connection(self._section, pauses=()) as connection:
                return name in (await connection.models() or ())
        except ServerError:
            return False

    def _written(self, name: str) -> Path:
        """The folder with the adapter, in PEFT's format; whole as soon as it is there."""
        folder, unfinished = self._folder / name, self._folder / _unfinished(name)
        try:
            unfinished.mkdir(parents=True, exist_ok=True)
            self._model.save_pretrained(str(unfinished), safe_serialization=True, selected_adapters=[TRAINED])
            unfinished.rename(folder)
        except Exception as error:  # safetensors has errors of its own
            self._remove(name)
            raise ModelError(
                f"{self._folder}: the adapter cannot be written ({error}); free some space, or choose another "
                f"rollout.server_folder"
            ) from None
        return folder

    async def _require_taken(self, connection: Connection, name: str, ids: list[int]) -> None:
        """Refuse replies that are not the model's.

        Raises:
            ServerError: What it writes has other log-probabilities than here, or those without the adapter.
            ModelError: There is no memory for the model here to read it.
        """
        probe = self._read(await connection.continued(self._body(name, ids, _PROBE, 0, [])), _PROBE)
        there = torch.tensor(probe.logprobs)
        try:
            here = self._logprobs(ids, probe.ids)
            with self._model.disable_adapter():
                without = self._logprobs(ids, probe.ids)
        except MEMORY_ERRORS as error:
            if not is_out_of_memory(error):
                raise
            raise ModelError(
                f"out of memory while the model here read a prompt of {len(ids)} tokens, to compare it with the "
                f"server's; free memory on this device, or shorten model.max_seq_length"
            ) from error
        off, off_without, seen = (_distance(*pair) for pair in ((there, here), (there, without), (here, without)))
        if seen > _LEAST_SEEN and off_without < off / 2:
            raise ServerError(
                f"{self._section.url}: it has not taken the adapter {name}: log-probabilities of its reply are "
                f"{off:.2g} from those with the adapter, and {off_without:.2g} from those without it; start vLLM with "
                f"--enable-lora, and see its log"
            )
        if not off <= MOST_OFF:
            raise ServerError(
                f"{self._section.url}: log-probabilities of its reply are {off:.2g} from those of the model here, "
                f"which is no rounding; serve the same model.name in the precision in which it is trained, with "
                f"--logprobs-mode raw_logprobs"
            )

    def _logprobs(self, prompt: list[int], reply: list[int]) -> torch.Tensor:
        """Of a reply's tokens, by the model here ``(T,)``."""
        tokens = torch.tensor([[*prompt, *reply]], device=self._model.device)
        with torch.no_grad():
            logits = self._model(input_ids=tokens, use_cache=False).logits[0, len(prompt) - 1 : -1].float()
        found: torch.Tensor = logits.log_softmax(-1).gather(-1, tokens[0, len(prompt) :, None])[:, 0].cpu()
        return found


def _unfinished(name: str) -> str:
    """The folder of an adapter that is being written."""
    return f"{name}.unfinished"


def _digest(weights: dict[str, torch.Tensor]) -> str:
    found = hashlib.sha256()
    for name in sorted(weights):
        found.update(name.encode())
        found.update(weights[name].contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]


def _distance(some: torch.Tensor, other: torch.Tensor) -> float:
    return float((some - other).abs().mean())


def _progress(written: dict[int, Generated], num_requests: int, sampling: Sampling) -> TokenProgress:
    return TokenProgress(
        read=0,
        to_read=0,
        written=sum(len(sequence.ids) for sequence in written.values()),
        settled=len(written) * sampling.max_tokens,
        to_write=num_requests * sampling.max_tokens,
    )
