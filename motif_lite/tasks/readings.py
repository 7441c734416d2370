r"""What a person may mean by a final answer that is more, or other, than a value in mathematics.

`5 \text{ cm}`, `(1, 2)` and `x^2+1` say what they mean, and so does all else that the grader's own grammar reads as a
value, or a list, tuple or condition of values. Any other answer that holds a digit may mean each number in it.
"""

import re
import unicodedata
from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction

from motif_lite.grading import shapes, units, values
from motif_lite.grading.notation import normalized
from motif_lite.grading.rules import is_product

_PLAIN = re.compile(r"[+-]?(?:[0-9]+|[1-9][0-9]{0,2}(?:,[0-9]{3})+)(?:\.[0-9]+)?(?:/[0-9]+)?")
_ENDLESS = re.compile(r"[0-9a-fA-F,_]{1000}")
"""No answer of a person's, and too long for Python to turn into a number."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*")
"""``H2O``, ``A1``: the digits belong to it."""

_CHOICE = re.compile(r"\(?\s*([A-Ja-j])\s*(?:\)[.:]?\s*|[.:]\s+)(?![A-Za-z]\.)(\S.*)", re.DOTALL)
_STYLE = re.compile(r"\\(?:text\w*|mathrm|mathbf|mbox|bf)\s*(?=\{)|[{}$]|\\(?=[ ,;])|\\q?quad(?![A-Za-z])|~")
_COMMAND = re.compile(r"\\(?:begin|end)\{[A-Za-z]*\*?\}|\\[A-Za-z]+")
_WORD = re.compile(r"[^\W\d_]{2,}")
_LITTLE_WORDS = frozenset({"or", "and", "to", "of", "is", "are", "the", "for", "per"})
"""Short as products of letters are."""

_FUNCTIONS = frozenset({"sin", "cos", "tan", "cot", "sec", "csc", "log", "ln", "lg", "mod", "gcd", "lcm", "max", "min"})
_FACTOR_BEHIND = re.compile(r"(?<![A-Za-z_^\\])([A-Za-z]+)\s*[0-9]+(?![0-9]|\s*\^\s*\{?-?[A-Za-z])")
"""``7 R 2``, ``5 x 10^3``: mathematics writes the number first, or raises it to a letter."""

_NUMERALS = re.compile(r"0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO][0-7]+|[+-]?[0-9]{1,3}(?:_[0-9]{3})+")
"""As programs write them."""

_DECIMAL_COMMA = re.compile(
    r"[+-]?(?:[0-9]{2,},[0-9]{1,2}|[0-9]{1,3}(?:\.[0-9]{3})+,[0-9]{1,2}|[0-9],[0-9]{2}|0,[0-9]+|[0-9]{4,},[0-9]+)"
)
_OTHER_GROUPS = re.compile(r"[+-]?(?:[0-9]{1,2}(?:,[0-9]{2})+,[0-9]{3}|[0-9]{1,3}(?:\.[0-9]{3}){2,})")
"""``12,34,567`` and ``1.234.567``, as many countries write them."""

_LETTER_SCALE = re.compile(r"[+-]?[0-9][0-9.,]*\s*([kKMB])")
_WITH_HALF = re.compile(r"([0-9]+) and ([0-9]+)\s*/\s*([1-9][0-9]*)")
_NUMBER = re.compile(
    r"(?:(?<![\w)])[+-])?(?:(?P<whole>[0-9]+) +(?P<above>[0-9]+) */ *(?P<below>[1-9][0-9]*)"
    r"|(?P<top>[0-9][0-9,]*(?:\.[0-9]+)?|\.[0-9]+)(?: */ *(?P<bottom>[1-9][0-9]*))?)"
)
_FRACTION = re.compile(r"\\frac\{\s*([0-9]+)\s*\}\{\s*([0-9]+)\s*\}")
_SCALES = {
    "dozen": 12, "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12,
}  # fmt: skip
_CLOCK = re.compile(r"[0-9]{1,2}:[0-9]{2}(?![0-9:])")
_MATHEMATICS = re.compile(r"\\(?!text|%)[A-Za-z]+|_|=|(?=.*[A-Za-z])[<>]")

_MOST_NUMBERS = 8

_MOST_PLACES = 20


def readings(gold: str, question: str = "") -> tuple[str, ...]:
    """Answers that a person may mean, each in its plainest form; none where the final answer says what it means.

    Args:
        question: May tell that a list, or a letter of algebra, is asked for.
    """
    if _PLAIN.fullmatch(gold) or _ENDLESS.search(gold):
        return ()
    if choice := letter_and_text(gold):
        return choice
    if not any(char.isdigit() or unicodedata.category(char) == "No" for char in gold) or _NAME.fullmatch(gold):
        return ()
    text = normalized(gold)
    if (meant := _otherwise_spelled(text, question)) is not None:
        return (_written(meant),)
    scale = _LETTER_SCALE.fullmatch(text)
    if scale is None or re.search(rf"(?<![A-Za-z]){scale[1]}(?![A-Za-z])", question):
        if "\\%" not in text and _says_what_it_means(text):
            return ()
        quantity = units.split(text)
        if quantity.unit and "\\%" not in text and _says_what_it_means(quantity.core):
            value = values.read(quantity.core)
            return (_written(value.number),) if value and value.number is not None else ()
    return _plainest(_numbers(text))


def letter_and_text(gold: str) -> tuple[str, str] | None:
    r"""The two halves of a choice: ``D) 12``, ``\textbf{(C)}\ 42``, ``C: Paris``."""
    found = _CHOICE.fullmatch(_STYLE.sub("", gold).strip()) if gold[:1] in "\\({$ " or gold[:1].isalpha() else None
    return (found[1], found[2].strip()) if found else None


def _otherwise_spelled(text: str, question: str) -> Fraction | None:
    """The number in a spelling that the grader reads as something else."""
    if _NUMERALS.fullmatch(text):
        return Fraction(int(text, 0) if text[1:2].isalpha() else int(text.replace("_", "")))
    if _OTHER_GROUPS.fullmatch(text):
        return Fraction(text.replace(",", "").replace(".", ""))
    if _DECIMAL_COMMA.fullmatch(text) and "comma" not in question.lower():
        return Fraction(text.replace(".", "").replace(",", "."))
    if mixed := _WITH_HALF.fullmatch(text):
        return int(mixed[1]) + Fraction(int(mixed[2]), int(mixed[3]))
    return None


def _says_what_it_means(text: str) -> bool:
    """Whether a normalized answer is mathematics, as far as the grader's grammar can tell."""
    if shapes.region(text) is not None or _CLOCK.match(text):
        return True
    shape = shapes.shape(text)
    if shape.kind != "one" and any(map(shapes.enclosed, shape.parts)):
        return all(map(_says_what_it_means, shape.parts))
    is_list = shape.kind == "list"
    if is_list and "or" in shape.joined and "=" not in text:
        return False
    if _has_words(text, but={"and", "or"} if is_list else set()):
        return False
    if shape.kind == "one" and units.split(text).unit:
        return False
    read = all(values.read(shapes.part(each).value) is not None for each in shape.parts)
    return read or bool(_MATHEMATICS.search(text))


def _has_words(text: str, but: set[str]) -> bool:
    """Whether there are words, other than functions and products of letters, or a number behind a letter."""
    bare = _COMMAND.sub(" ", text)
    words = {word.lower() for word in _WORD.findall(bare) if len(word) > 2 and not is_product(word)}
    words |= _LITTLE_WORDS.intersection(_WORD.findall(bare))
    before_numbers = {name.lower() for name in _FACTOR_BEHIND.findall(bare)}
    return bool((words | before_numbers) - _FUNCTIONS - but)


def _numbers(text: str) -> list[Fraction]:
    """The numbers in a text, with what a word of scale or a percent sign behind them makes of them."""
    words = {word.lower() for word in _WORD.findall(text)}
    text = _FRACTION.sub(r" \1/\2", text)
    found = [_value(number) for number in _NUMBER.finditer(text)]
    scales = [scale for name, scale in _SCALES.items() if name in words]
    if scales and len(found) == 1:
        return [found[0] * scales[0]]
    return [each for number in found for each in ((number, number / 100) if "%" in text else (number,))]


def _value(number: re.Match[str]) -> Fraction:
    if number["whole"]:
        value = int(number["whole"]) + Fraction(int(number["above"]), int(number["below"]))
    else:
        value = Fraction(number["top"].replace(",", "")) / int(number["bottom"] or 1)
    return -value if number[0].startswith("-") else value


def _plainest(numbers: Iterable[Fraction]) -> tuple[str, ...]:
    return tuple(map(_written, list(dict.fromkeys(numbers))[:_MOST_NUMBERS]))


def _written(number: Fraction) -> str:
    """As a decimal where it has an end and few places, otherwise as a fraction."""
    places = next((each for each in range(_MOST_PLACES + 1) if 10**each % number.denominator == 0), None)
    if places is None:
        return f"{number.numerator}/{number.denominator}"
    return format(Decimal(f"{number.numerator * 10**places // number.denominator}E-{places}"), "f")
