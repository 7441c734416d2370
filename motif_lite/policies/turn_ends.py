"""Where a reply ends: the tokens that a model's folder declares, and what its chat template writes after a reply."""

from collections.abc import Callable
from typing import Any

from motif_lite.errors import ModelError
from motif_lite.nouns import TAGS
from motif_lite.policies.template_checks import THINK_MARK, TurnEnd

_FORM = "{}\na\n{}\n{}\n5\n{}".format(*TAGS)


class TurnEnds:
    """What ends a reply.

    Args:
        by_template: What the chat template writes after one.

    Attributes:
        ids: Tokens, those of the model's generation settings first.
        texts: What ends a reply where the template ends a turn with something that is no token.
        kept: Tokens that tell what a reply's form is, of a think block or the form's own tags, and are declared
            special, so that decoding would drop them.

    Raises:
        ModelError: Nothing does.
    """

    def __init__(self, model: Any, tokenizer: Any, by_template: TurnEnd) -> None:
        configured = model.generation_config.eos_token_id if model.generation_config is not None else None
        listed = configured if isinstance(configured, list) else [configured]
        found = [(each, _token(each, tokenizer)) for each in listed if each is not None]
        declared = [token for _, token in [*found, (None, tokenizer.eos_token_id)] if token is not None]
        self._unknown = [f"{each!r:.60}" for each, token in found if token is None]
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
        self.kept = {
            number for number, token in special.items() if THINK_MARK.fullmatch(token.content) or token.content in TAGS
        }
        self._hidden = {*special, *tokenizer.all_special_ids} - self.kept
        ids = tokenizer(_FORM, add_special_tokens=False)["input_ids"]
        self._keeps_form = tokenizer.decode(self.readable(ids), skip_special_tokens=not self.kept).strip() == _FORM

    def closing(self, encode: Callable[[str], list[int]]) -> list[int]:
        """Tokens that end a reply as the chat template ends one; those of the model's settings where it ends none."""
        return [*self._written] or (encode(self.texts[0]) if self.texts else self.ids[:1])

    def readable(self, ids: list[int]) -> list[int]:
        """Tokens without special ones, where some of those tell what a reply's form is; these stay."""
        return [token for token in ids if token not in self._hidden] if self.kept else ids

    def without(self, text: str) -> str:
        """A reply without the text that ended it."""
        for end in self.texts:
            text = text.partition(end)[0]
        return text

    def remarks(self, name: str) -> list[str]:
        """Lines about ends that the model's folder does not declare, or declares and are none; and about the form."""
        ends = [*map(repr, self.texts), *self._undeclared]
        form = f"{name}: its tokenizer does not give back {_FORM!r} as it was given, so no reply can have that form"
        return [
            *([] if self._keeps_form else [f"{form}; is its tokenizer.json whole?"]),
            *(f"{name}: its chat template ends a turn with {end}, which now ends replies, too" for end in ends),
            *(
                f"{name}: generation_config.json: eos_token_id: {token} is no token of its tokenizer, and ends no reply"
                for token in self._unknown
            ),
        ]


def _token(declared: object, tokenizer: Any) -> int | None:
    """The token that a folder declares by its number or its text; None where the tokenizer has no such."""
    if isinstance(declared, str):
        number: int | None = tokenizer.get_vocab().get(declared)
        return number
    is_number = isinstance(declared, int) and not isinstance(declared, bool)
    return declared if is_number and 0 <= declared < len(tokenizer) else None  # type: ignore[operator,return-value]
