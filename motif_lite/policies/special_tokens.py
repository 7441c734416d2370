"""Keeps special tokens out of messages: no text in one is read as a token of the chat template.

A tokenizer turns the text ``<|im_end|>`` into the very token that ends a turn, wherever it stands. A reply whose
progress holds such text, or a row of a data set, could so write a system prompt or a whole round of its own into
the next prompt. A space inside the mark breaks it; a reader, human or model, still sees what was meant.
"""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from motif_lite.nouns import TAGS, Conversation

TemplateArguments = Mapping[str, Any]
"""Variables for a chat template, of whatever kinds it reads."""


class SpecialTokens:
    """The marks of a tokenizer: its special tokens, and any other token of its own that its chat template writes.

    The tags of a reply's form are none, whatever a tokenizer declares: prompts ask for them by name.

    Args:
        arguments: Variables for the template.
        num_rows: Tokens that the model knows; a text that would become a later one is a mark, too.
    """

    def __init__(self, tokenizer: Any, arguments: TemplateArguments | None = None, num_rows: int | None = None) -> None:
        around = _around_messages(tokenizer, arguments or {})
        marks = {
            token.content
            for number, token in tokenizer.added_tokens_decoder.items()
            if token.special or token.content in around or (num_rows is not None and number >= num_rows)
        } - set(TAGS)
        self._pattern = _first_characters(mark for mark in marks if len(mark) > 1)

    def broken_in(self, conversation: Conversation) -> Conversation:
        """The conversation with a space inside each mark that its contents hold."""
        return [
            {"role": message["role"], "content": self._pattern.sub(r"\g<0> ", message["content"])}
            for message in conversation
        ]


def _first_characters(marks: Iterable[str]) -> re.Pattern[str]:
    """Matches the first character of each mark, so that marks that overlap are all found."""
    parts = sorted(f"{re.escape(mark[0])}(?={re.escape(mark[1:])})" for mark in marks)
    return re.compile("|".join(parts) or r"(?!)")


def _around_messages(tokenizer: Any, arguments: TemplateArguments) -> str:
    """All that the chat template writes by itself; not every model declares its marks as special tokens."""
    written = ""
    empty: Conversation = [{"role": "system", "content": ""}, {"role": "user", "content": ""}]
    for conversation in (empty, empty[1:]):
        with suppress(Exception):  # no system role, say: `LocalPolicy.render` tells where it matters
            written += tokenizer.apply_chat_template(
                conversation, tokenize=False, add_generation_prompt=True, **arguments
            )
    return written
