"""Responses, as the API has them."""

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

from motif_lite.serving.answering import Done
from motif_lite.serving.requests import BadRequest
from motif_lite.serving.splitting import Delta

Json = dict[str, object]


@dataclass
class Choice:
    """One of the answers of a completion, as far as it has come."""

    reasoning: str = ""
    content: str = ""
    done: Done | None = None

    def add(self, delta: Delta) -> None:
        """Take the next piece."""
        if delta.kind == "reasoning":
            self.reasoning += delta.text
        else:
            self.content += delta.text


@dataclass(frozen=True)
class Completion:
    """What all bodies of a response have in common."""

    model: str
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, choices: Sequence[Choice]) -> Json:
        """A completion that is not streamed."""
        return self._body("chat.completion", [
            {
                "index": index,
                "message": {"role": "assistant", "content": each.content, "reasoning_content": each.reasoning},
                "finish_reason": each.done.finish if each.done else "stop",
                "logprobs": None,
            }
            for index, each in enumerate(choices)
        ]) | {"usage": usage(choices)}  # fmt: skip

    def begin(self, index: int) -> Json:
        """The first piece of a choice."""
        return self._piece(index, {"role": "assistant", "content": ""})

    def piece(self, index: int, delta: Delta) -> Json:
        """A piece of a choice."""
        return self._piece(index, {"reasoning_content" if delta.kind == "reasoning" else "content": delta.text})

    def end(self, index: int, done: Done) -> Json:
        """The last piece of a choice."""
        return self._piece(index, {}, done.finish)

    def last(self, choices: Sequence[Choice]) -> Json:
        """What ends a stream that reports its tokens."""
        return self._body("chat.completion.chunk", []) | {"usage": usage(choices)}

    def _piece(self, index: int, delta: Json, finish: str | None = None) -> Json:
        choice = {"index": index, "delta": delta, "finish_reason": finish, "logprobs": None}
        return self._body("chat.completion.chunk", [choice])

    def _body(self, kind: str, choices: Sequence[object]) -> Json:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model, "choices": choices}


def usage(choices: Sequence[Choice]) -> Json:
    """Tokens of all rounds; those of the rounds before the last are reasoning."""
    done = [each.done for each in choices if each.done]
    prompt, completion = sum(each.prompt_tokens for each in done), sum(each.completion_tokens for each in done)
    reasoning = completion - sum(each.final_tokens for each in done)
    return {
        "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }  # fmt: skip


def error(found: BadRequest) -> Json:
    """An error."""
    kind = "invalid_request_error" if found.status < 500 else "server_error"
    return {"error": {"message": str(found), "type": kind, "param": found.param, "code": found.code}}


def models(name: str, created: int) -> Json:
    """The list of models: one."""
    return {
        "object": "list",
        "data": [{"id": name, "object": "model", "created": created, "owned_by": "motif_lite"}],
    }


def event(body: Json) -> bytes:
    """A piece of a stream."""
    return b"data: " + json.dumps(body).encode() + b"\n\n"
