"""The server backend: prompts go to an OpenAI-compatible API as chat messages, many at once."""

import asyncio
import hashlib
import json
import logging
from collections.abc import Sequence
from typing import Protocol, Self

from motif_lite.errors import ModelError, ServerError
from motif_lite.nouns import Conversation, NotWanted, OnText, OnTokens, Reply, Sampling, TokenProgress
from motif_lite.policies.server import at_once, formats, messages
from motif_lite.policies.server.connection import PAUSES, Body, Connection
from motif_lite.policies.server.streaming import StreamedReply
from motif_lite.recipe.model import ModelSection
from motif_lite.recipe.schema import Recipe

_log = logging.getLogger(__name__)

_BYTES_PER_TOKEN = 3
"""By which tokens are estimated: English has about four, digits and code fewer."""


class ReplyStore(Protocol):
    """Where replies are kept, by a hash of what was asked."""

    def find(self, request: str) -> Reply | None:
        """The reply that it was given before."""

    def add(self, request: str, reply: Reply) -> None:
        """Keep a reply."""


class ServerPolicy:
    """Implements `Policy` by a model that is served elsewhere.

    Args:
        section: Of the recipe: the server's address and limits.
        served: The model's name there.
        pauses: Seconds between tries of a request.
    """

    device_type = "cpu"
    """Of what happens in this process."""
    text_start = ""
    store: ReplyStore | None = None
    """Where each reply is kept as it comes, so that a server that fails costs none of them."""

    def __init__(self, section: ModelSection, served: str, pauses: Sequence[float] = PAUSES) -> None:
        self._section, self.served, self._pauses = section, served, pauses
        self.context_tokens = section.max_seq_length
        self._has_told_of_usage = False

    @classmethod
    def require(cls, recipe: Recipe) -> None:
        """Nothing has to be here: the model is elsewhere."""

    @classmethod
    def load(cls, recipe: Recipe, model_name: str) -> Self:
        """Ask the server for its models, and take the one of that name, or the only one.

        Raises:
            ServerError: It does not answer, or serves several models under other names.
        """
        section = recipe.model
        found = asyncio.run(_models(section))
        served = _chosen(section, model_name, found)
        _log.warning(
            "%s serves %s: seeds are sent, but a server's samples need not repeat; tokens of prompts are estimated "
            "(a token per %d bytes)",
            section.url, served, _BYTES_PER_TOKEN,
        )  # fmt: skip
        return cls(section, served)

    def render(self, conversation: Conversation) -> str:
        """The messages as one text; the server applies its chat template.

        Raises:
            ModelError: The last message is the assistant's: a server would end it, not continue it.
        """
        if conversation and conversation[-1]["role"] == "assistant":
            raise ModelError(
                'model.backend = "server" cannot continue a reply that has begun (the last message is the '
                "assistant's); take another strategy, or load the model here with 'transformers' or 'unsloth'"
            )
        return messages.written(conversation)

    def count_tokens(self, text: str) -> int:
        """An estimate: the server's tokenizer is not known here."""
        return -(-len(text.encode(errors="replace")) // _BYTES_PER_TOKEN)

    def keep_end(self, text: str, max_tokens: int) -> str:
        """The end of a text, of at most so many tokens by that estimate."""
        if max_tokens <= 0:
            return ""
        return text.encode(errors="replace")[-max_tokens * _BYTES_PER_TOKEN :].decode(errors="ignore")

    def generate(
        self,
        prompts: Sequence[str],
        sampling: Sampling,
        *,
        seeds: Sequence[int],
        on_progress: OnTokens | None = None,
        on_text: OnText | None = None,
    ) -> list[Reply]:
        """One reply per rendered prompt, in order; at most ``model.requests`` are asked for at once.

        Raises:
            ServerError: The server does not answer, refuses, or sends something else.
        """
        bodies = [self._body(prompt, sampling, seed) for prompt, seed in zip(prompts, seeds, strict=True)]
        return asyncio.run(self._all(bodies, sampling, on_progress or (lambda progress: None), on_text))

    async def _all(
        self, bodies: Sequence[Body], sampling: Sampling, report: OnTokens, on_text: OnText | None
    ) -> list[Reply]:
        replies: dict[int, Reply] = {}

        async def ask(index: int) -> None:
            if on_text is None:
                replies[index] = await self._kept(connection, bodies[index], sampling)
            else:
                replies[index] = await self._streamed(connection, bodies[index], sampling, index, on_text)

        async with Connection(self._section, self._pauses) as connection:
            await at_once.all_done(
                ask, len(bodies), self._section.requests, lambda: report(_progress(replies, len(bodies), sampling))
            )
        return [replies[index] for index in range(len(bodies))]

    async def _kept(self, connection: Connection, body: Body, sampling: Sampling) -> Reply:
        """From the store, if it is there."""
        if self.store is None:
            return await self._whole(connection, body, sampling)
        request = hashlib.sha256(json.dumps([body, list(sampling.stop)], sort_keys=True).encode()).hexdigest()
        reply = self.store.find(request)
        if reply is None:
            reply = await self._whole(connection, body, sampling)
            self.store.add(request, reply)
        return reply

    async def _whole(self, connection: Connection, body: Body, sampling: Sampling) -> Reply:
        found = await connection.complete(body)
        choice = found.choices[0]
        text, is_cut = _up_to(formats.readable(choice.message.content or ""), sampling.stop)
        finish = "stop" if is_cut else formats.finish(choice.finish_reason)
        return Reply(text, self._counted(formats.num_tokens(found.usage)), finish)

    async def _streamed(
        self, connection: Connection, body: Body, sampling: Sampling, index: int, on_text: OnText
    ) -> Reply:
        reply = StreamedReply(sampling.stop, lambda piece: on_text(index, piece))
        try:
            await connection.stream(body | {"stream": True, "stream_options": {"include_usage": True}}, reply.add)
            reply.end()
            on_text(index, None)
        except NotWanted:  # leaving the stream has ended the request
            return Reply(reply.text, reply.num_tokens or 0, reply.finish)
        return Reply(reply.text, self._counted(reply.num_tokens), reply.finish)

    def _body(self, prompt: str, sampling: Sampling, seed: int) -> Body:
        """A request.

        Texts that end a reply are not in it: a server would leave them out of the reply, and they belong there.
        """
        body: Body = {
            "model": self.served,
            "messages": messages.read(prompt),
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": seed,
        }
        if sampling.top_k:
            body["top_k"] = sampling.top_k
        if sampling.min_p:
            body["min_p"] = sampling.min_p
        if self._section.chat_template_kwargs:
            body["chat_template_kwargs"] = self._section.chat_template_kwargs
        return body | self._section.extra_body

    def _counted(self, num_tokens: int | None) -> int:
        """Generated tokens; 0, with a note, where the server reports none."""
        if num_tokens is None and not self._has_told_of_usage:
            self._has_told_of_usage = True
            _log.warning("%s reports no usage: generated tokens are unknown, and count as 0", self._section.url)
        return num_tokens or 0


async def _models(section: ModelSection) -> list[str] | None:
    async with Connection(section, PAUSES[:2]) as connection:  # a wrong address should not take half a minute
        return await connection.models()


def _chosen(section: ModelSection, name: str, served: list[str] | None) -> str:
    """The name to ask for."""
    if not served or name in served:  # `transformers serve` lists what it has downloaded, and loads what is asked for
        return name
    if len(served) == 1:
        return served[0]
    shown = ", ".join(each[:80] for each in served[:10])
    raise ServerError(f"{section.url}: does not serve model.name = {name!r}; it serves {shown}")


def _up_to(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """A reply up to the first text that ends it, which is a part of it; and whether one does."""
    ends = [place + len(end) for end in stop if (place := text.find(end)) >= 0]
    return (text[: min(ends)], True) if ends else (text, False)


def _progress(replies: dict[int, Reply], num_prompts: int, sampling: Sampling) -> TokenProgress:
    return TokenProgress(
        read=0,
        to_read=0,
        written=sum(reply.num_tokens for reply in replies.values()),
        settled=len(replies) * sampling.max_tokens,
        to_write=num_prompts * sampling.max_tokens,
    )
