"""Where a reply ends: the tokens that a model's folder declares, and what its chat template writes after a reply."""

import re
from collections.abc import Callable
from typing import Any

from motif_lite.errors import ModelError
from motif_lite.policies.template_checks import TurnEnd

_THINK_MARK = re.compile(r"</?(?:think|thinking|thought)>|\[/?THINK\]", re.IGNORECASE)


class TurnEnds:
    """What ends a reply.

    Args:
        by_template: What the chat template writes after one.

    Attributes:
        ids: Tokens, those of the model's generation settings first.
        texts: What ends a reply where the template ends a turn with something that is no token.
        thinks: Tokens that open or close a think block and are declared special, so that decoding would drop them.

    Raises:
        ModelError: Nothing does.
    """

    def __init__(self, model: Any, tokenizer: Any, by_template: TurnEnd) -> None:
        configured = model.generation_config.eos_token_id if model.generation_config is not None else None
        listed = configured if isinstance(configured, list) else [configured]
        declared = [token for token in [*listed, tokenizer.eos_token_id] if token is not None]
        self.ids: list[int] = list(dict.fromkeys([*declared, *by_template.tokens]))
        self.texts: list[str] = [by_template.text] if by_template.text else []
        self._written = by_template.tokens[:1]
        if not self.ids:
            raise ModelError(
                f"{model.name_or_path}: its tokenizer has no token that ends a turn; is the folder complete?"
            )
        undeclared = [token for token in by_template.tokens if token not in declared]
        self._undeclared = [repr(tokenizer.convert_ids_to_tokens(token)) for token in undeclared]
        special = {number: token for number, token in tokenizer.added_tokens_decoder.items() if token.special}
        self.thinks = {number for number, token in special.items() if _THINK_MARK.fullmatch(token.content)}
        self._hidden = {*special, *tokenizer.all_special_ids} - self.thinks

    def closing(self, encode: Callable[[str], list[int]]) -> list[int]:
        """Tokens that end a reply as the chat template ends one; those of the model's settings where it ends none."""
        return [*self._written] or (encode(self.texts[0]) if self.texts else self.ids[:1])

    def readable(self, ids: list[int]) -> list[int]:
        """Tokens without special ones where some of a think block are; they stay, and tell what a reply's form is."""
        return [token for token in ids if token not in self._hidden] if self.thinks else ids

    def without(self, text: str) -> str:
        """A reply without the text that ended it."""
        for end in self.texts:
            text = text.partition(end)[0]
        return text

    def remarks(self, name: str) -> list[str]:
        """Lines about ends that the model's folder does not declare."""
        ends = [*map(repr, self.texts), *self._undeclared]
        return [f"{name}: its chat template ends a turn with {end}, which now ends replies, too" for end in ends]
