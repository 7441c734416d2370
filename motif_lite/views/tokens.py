"""A prompt as the model reads it, token by token."""

from collections.abc import Sequence

from rich.text import Text

from motif_lite.policies.facts import Token
from motif_lite.views.formats import printable

_MOST = 3000
"""Tokens of a prompt that are shown; of a longer one, its beginning and its end."""

_ORDINARY, _SPECIAL = ("", "on grey23"), "bold magenta"


def as_text(tokens: Sequence[Token], *, in_colours: bool) -> Text:
    """Tokens one after the other; a line of the prompt is a line here, with a sign where it ends.

    Args:
        in_colours: Neighbours differ in their background, special tokens in colour. Otherwise a bar stands between
            tokens, and special ones are in brackets.
    """
    if len(tokens) <= _MOST:
        return _run(tokens, in_colours)
    half, rest = _MOST // 2, len(tokens) - _MOST
    left_out = Text(f"\n(... {rest:,} tokens ...)\n", "dim")
    return Text.assemble(_run(tokens[:half], in_colours), left_out, _run(tokens[-half:], in_colours))


def _run(tokens: Sequence[Token], in_colours: bool) -> Text:
    text, starts_line = Text(), True
    for number, token in enumerate(tokens):
        shown = printable(token.text).replace("\n", "⏎")
        if in_colours:
            text.append(shown, _SPECIAL if token.is_special else _ORDINARY[number % 2])
        else:
            text.append("" if starts_line else "|")
            text.append(f"[{shown}]" if token.is_special else shown)
        starts_line = "\n" in token.text
        if starts_line:
            text.append("\n")
    text.rstrip()
    return text
