"""What a server sends: chat completions, whole or in pieces, and its list of models. All of it is untrusted."""

import json
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class Malformed(Exception):
    """What was sent is not what an OpenAI-compatible server sends; the message says in what."""


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class _Message(_Part):
    content: str | None = None


class _Choice(_Part):
    message: _Message
    finish_reason: str | None = None


class Completion(_Part):
    """A whole reply."""

    choices: list[_Choice] = Field(min_length=1)
    usage: Any = None


class _Logprobs(_Part):
    token_logprobs: list[float]


class _Continued(_Part):
    token_ids: list[int]
    logprobs: _Logprobs
    finish_reason: str | None = None


class Continuation(_Part):
    """What vLLM has written behind a prompt of tokens, where a request asks for ``return_token_ids``."""

    choices: list[_Continued] = Field(min_length=1, max_length=1)


class _PieceChoice(_Part):
    delta: _Message = _Message()
    finish_reason: str | None = None


class Piece(_Part):
    """A part of a reply that is streamed; the last one may hold the number of tokens alone."""

    choices: list[_PieceChoice] = []
    usage: Any = None
    error: Any = None


class _Served(_Part):
    id: str


class Models(_Part):
    """What ``GET /models`` gives."""

    data: list[_Served]


Sent = TypeVar("Sent", bound=BaseModel)


def parsed(kind: type[Sent], content: bytes) -> Sent:
    """What was sent, as the record that it should be.

    Raises:
        Malformed: It is something else.
    """
    try:
        return kind.model_validate(json.loads(content))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise Malformed(f"{where}: {first['msg'][:100]}") from None
    except (ValueError, RecursionError):
        raise Malformed(f"no JSON: {shown(content)}") from None


def num_tokens(usage: object) -> int | None:
    """The generated tokens that a server reports; None where it reports none."""
    count = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return count if isinstance(count, int) and 0 <= count < 10**9 else None


BROKEN_OFF = frozenset({"abort", "error"})
"""Reasons of servers that gave a reply up, with status 200: vLLM's when it pauses or shuts down, for example."""

ENDS = frozenset({"stop", "length"})
"""Reasons of vLLM for the end of a reply to a prompt of tokens."""


def finish(reason: str | None) -> Literal["stop", "length"]:
    """Why a reply that is not `BROKEN_OFF` has ended; some servers give a reason of their own, or none."""
    return "length" if reason in ("length", "max_tokens") else "stop"


def readable(text: str) -> str:
    """A text without lone surrogates, which JSON can hold and no file can."""
    return text.encode("utf-8", "replace").decode()


def shown(content: bytes) -> str:
    """The beginning of something that was sent, for a message."""
    text = " ".join(content[:2000].decode(errors="replace").split())
    text = "".join(character if character.isprintable() else "\ufffd" for character in text)
    return repr(text[:120] + "..." if len(text) > 120 else text)


def error_message(content: bytes) -> str:
    """The message of an error in the API's form, or the beginning of what was sent instead."""
    try:
        found = json.loads(content)
        found = found.get("error", found) if isinstance(found, dict) else found
        message = found.get("message") if isinstance(found, dict) else found
    except (ValueError, RecursionError):
        message = None
    return shown(message.encode(errors="replace") if isinstance(message, str) else content).strip("'\"")
