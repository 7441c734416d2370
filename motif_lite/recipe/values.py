"""Kinds of values that a key of a recipe may have, where a range or a choice does not say it."""

import re
from datetime import date
from typing import Annotated

from pydantic import AfterValidator, Field

_SET_BY_THE_PROGRAM = frozenset({
    "add_generation_prompt", "chat_template", "continue_final_message", "conversation", "documents", "max_length",
    "messages", "padding", "return_assistant_tokens_mask", "return_dict", "return_tensors", "strftime_now", "tokenize",
    "tokenizer_kwargs", "tools", "truncation",
})  # fmt: skip
"""What is passed to a chat template, or to what applies it, in any case."""


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


Day = Annotated[str, AfterValidator(_is_day)]
"""A day such as ``2026-01-31``, or ``auto``."""

TemplateVariable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=64), AfterValidator(_is_free)]
"""The name of a variable that a chat template may take from outside."""


Device = Annotated[str, AfterValidator(_is_device)]
"""Where a model runs."""
