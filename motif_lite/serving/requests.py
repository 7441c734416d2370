"""Requests for a chat completion, as the API has them. They are untrusted."""

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

MOST_CHOICES = 8


class BadRequest(Exception):
    """A request that is not answered.

    Attributes:
        status: Of the response.
        param: The key that is at fault, if it is one.
        code: The API's word for it, if it has one.
        retry_after: Seconds after which the same request may be answered.
    """

    def __init__(
        self, message: str, status: int = 400, *, param: str | None = None, code: str | None = None,
        retry_after: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.status, self.param, self.code, self.retry_after = status, param, code, retry_after


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class ContentPart(_Part):
    """A piece of a message; only text is understood."""

    type: str
    text: str | None = None


class ChatMessage(_Part):
    """A message of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None


class StreamOptions(_Part):
    """What a stream ends with."""

    include_usage: bool = False


class ChatRequest(_Part):
    """What is asked for; keys that are not named here are ignored.

    Attributes:
        max_tokens: Of each round; the recipe's limits stay. ``max_completion_tokens`` is its newer name.
        rounds: Of this program's own: by default the recipe's.
    """

    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: int | None = Field(default=None, ge=1, le=MOST_CHOICES)
    temperature: float | None = Field(default=None, ge=0, le=5, allow_inf_nan=False)
    top_p: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    rounds: int | None = Field(default=None, ge=2, le=100)
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    stop: str | list[str] | None = None
    logprobs: bool | None = None
    response_format: dict[str, object] | None = None

    @property
    def limit(self) -> int | None:
        """Most tokens of a round, where the request has one."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def question(self) -> str:
        """The last message of the user; those before it are not passed on."""
        content = next((message.content for message in reversed(self.messages) if message.role == "user"), None)
        if content is None:
            raise BadRequest("no message of the user has a content", param="messages")
        if isinstance(content, str):
            return content
        if other := [part.type for part in content if part.type != "text" or part.text is None]:
            raise BadRequest(
                f"the content has a part of type {other[0]!r:.40}; only text is understood", param="messages"
            )
        return "\n".join(part.text or "" for part in content)


_CHANGE_THE_ANSWER = ("tools", "functions", "stop", "logprobs")


def parsed(body: bytes) -> ChatRequest:
    """A request.

    Raises:
        BadRequest: It is none, or asks for what cannot be done in rounds.
    """
    try:
        found = ChatRequest.model_validate(json.loads(body))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BadRequest(f"{where or 'the body'}: {first['msg']}"[:300], param=where[:100] or None) from None
    except (ValueError, RecursionError):
        raise BadRequest("the body is not JSON") from None
    for key in _CHANGE_THE_ANSWER:
        if getattr(found, key):
            raise BadRequest(f"{key} is not supported: leave it out", param=key, code="unsupported_parameter")
    if (found.response_format or {}).get("type", "text") != "text":
        raise BadRequest("response_format is not supported: leave it out", param="response_format")
    return found
