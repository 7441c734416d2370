"""What a policy tells people about itself: how it reads a text, and what was found out as it was loaded."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from motif_lite.policies.adapters import Coverage


@dataclass(frozen=True, slots=True)
class Token:
    """One token of a text.

    Attributes:
        text: The characters that it stands for; empty where an earlier token has begun the character that it ends.
        is_special: It is no ordinary text: one of the tokenizer's own marks.
    """

    text: str
    is_special: bool = False


@dataclass(frozen=True, slots=True)
class PolicyFacts:
    """What was found out about a model.

    Attributes:
        ends: What ends a reply: tokens, and texts where the chat template has no token for it.
        folds_system: The chat template has no system role; the system prompt begins the first user message.
        own_system: The system prompt that the chat template writes where it is given none; empty where it writes none.
        coverage: Where the adapter goes.
        num_trained: Weights of the adapter.
        num_weights: Of the model, with the adapter.
    """

    ends: tuple[str, ...]
    folds_system: bool
    own_system: str
    coverage: Coverage
    num_trained: int
    num_weights: int


def tokens_of(tokenizer: Any, text: str) -> Iterator[Token]:
    """A text as the model reads it, token by token."""
    special = {*tokenizer.added_tokens_decoder, *tokenizer.all_special_ids}
    if not tokenizer.is_fast:  # it does not say which characters a token stands for
        for token in tokenizer(text, add_special_tokens=False)["input_ids"]:
            yield Token(tokenizer.decode([token]), token in special)
        return
    encoded, end = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True), 0
    for token, (_, its_end) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
        yield Token(text[end:its_end], token in special)
        end = max(end, its_end)
