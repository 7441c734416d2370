"""Kinds of values that a key of a recipe may have, where a range or a choice does not say it."""

import re
from datetime import date
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

_SET_BY_THE_PROGRAM = frozenset({
    "add_generation_prompt", "chat_template", "continue_final_message", "conversation", "documents", "max_length",
    "messages", "padding", "return_assistant_tokens_mask", "return_dict", "return_tensors", "strftime_now", "tokenize",
    "tokenizer_kwargs", "tools", "truncation",
})  # fmt: skip
"""What is passed to a chat template, or to what applies it, in any case."""

_REQUEST_KEYS = frozenset({
    "chat_template_kwargs", "max_completion_tokens", "max_tokens", "messages", "model", "n", "seed", "stop", "stream",
    "stream_options", "temperature", "top_p",
})  # fmt: skip
"""What requests to a server hold in any case."""


def _is_day(text: str) -> str:
    try:
        is_day = text == "auto" or date.fromisoformat(text).isoformat() == text
    except ValueError:
        is_day = False
    if not is_day:
        raise ValueError(f"{text!r:.40} is not a date; write e.g. 2026-01-31, or auto")
    return text


def _is_free(name: str) -> str:
    if name in _SET_BY_THE_PROGRAM:
        raise ValueError(f"{name} is set by the program; leave it out")
    return name


def _is_device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", value):
        raise ValueError("must be 'auto', 'cpu', 'cuda' or one GPU of several, as 'cuda:1'")
    return value


def _is_no_request_key(name: str) -> str:
    if name in _REQUEST_KEYS:
        raise ValueError(f"{name} is set by the program; leave it out")
    return name


def _is_url(text: str) -> str:
    example = "write e.g. http://localhost:8000/v1"
    import httpx  # takes a third of a second, and only recipes with a server need it

    try:
        parts = urlsplit(text)
        is_url = (
            parts.scheme in ("http", "https")
            and bool(parts.hostname and httpx.URL(text).host)
            and (parts.port or 1) > 0
        )
    except (ValueError, httpx.InvalidURL):  # a port that is no number, half an IPv6 address, a wrong xn-- name
        raise ValueError(f"{text!r:.80} is not a URL; {example}") from None
    if not is_url or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f"{text!r:.80} is not an http or https URL; {example}")
    if parts.username is not None:
        raise ValueError("a URL with a password would be kept in the run's files; set MOTIF_LITE_API_KEY instead")
    if parts.query or parts.fragment:
        raise ValueError(f"{text!r:.80} has a query or a fragment; {example}")
    return text.rstrip("/")


Day = Annotated[str, AfterValidator(_is_day)]
"""A day such as ``2026-01-31``, or ``auto``."""

TemplateVariable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=64), AfterValidator(_is_free)]
"""The name of a variable that a chat template may take from outside."""


Device = Annotated[str, AfterValidator(_is_device)]
"""Where a model runs."""
BodyKey = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=64), AfterValidator(_is_no_request_key)]
"""A key of a request to a server that the program does not set itself."""

ServerUrl = Annotated[str, Field(max_length=1024), AfterValidator(_is_url)]
"""The address of an API, without a slash at its end."""
