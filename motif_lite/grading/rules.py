"""What can be said of a pair of answers without math-verify: equal texts, numbers, units.

Imports nothing but the standard library and modules of this folder that do the same: the judge's process uses it, too.
"""

import re
from fractions import Fraction

from motif_lite.grading.rulings import Ruling

_LONGEST_NUMBER = 1000
"""Characters; Python refuses to read integers of more than 4300 digits."""

_INTEGER = r"[0-9]+|[0-9]{1,3}(?:,[0-9]{3})+"
_NUMBER = re.compile(rf"(?P<sign>[+-]?)(?P<whole>{_INTEGER})?(?P<decimals>\.[0-9]*)?")
_FRACTION = re.compile(r"(?P<sign>[+-]?)(?:\\frac\{([0-9]+)\}\{([0-9]+)\}|\\frac([0-9])([0-9])|([0-9]+)/([0-9]+))")
_SPACING = re.compile(r"\\[!,]|\\left(?![a-z])|\\right(?![a-z])")
_GAP = re.compile(r"(?<![0-9])(?:\\[;:> ]|\\q?quad(?![a-z])|\s|~)+|(?:\\[;:> ]|\\q?quad(?![a-z])|\s|~)+(?![0-9\s~\\])")
_BASE = re.compile(r"[0-9A-Za-z]+_\{?([0-9]+)\}?")
_DEGREES = re.compile(r"\^\{?\\circ\}?|\\text\{?degrees?\}?|\\degrees?(?![a-z])|\\textdegree|°")
_QUANTITY = re.compile(r"([+-]?[0-9][0-9,]*(?:\.[0-9]+)?)\s*([A-Za-z]{2,}(?:[ /]+[A-Za-z]+|\^\{?[0-9]\}?|\.)*)")
_NOT_UNITS = frozenset({
    "and", "billion", "cos", "dozen", "hundred", "ln", "log", "million", "mod", "of", "or", "over", "pi", "sin", "sqrt",
    "tan", "thousand", "times", "to",
})  # fmt: skip
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_ASSIGNED = re.compile(r"[A-Za-z]=(?=[+-]?[0-9.])")
_WORDS = re.compile(r"\\(?:text|textbf|textit|mathrm|mbox)\s*\{([^{}]*)\}")


def decide(gold: str, answer: str) -> Ruling:
    """The verdict on two answers in LaTeX, where it needs no algebra; ``correct`` is None where it does."""
    gold, answer = _DEGREES.sub(r"^\\circ", gold), _DEGREES.sub(r"^\\circ", answer)
    plain_gold, plain_answer = _plain(gold), _plain(answer)
    if plain_gold == plain_answer:
        return Ruling(True, "the same text")
    if _CONTROL.search(answer):
        return Ruling(False, "a control character")  # no mathematics, whatever stands around it
    if _bases_differ(plain_gold, plain_answer):
        return Ruling(False, "the bases differ")
    if _is_word(plain_gold):  # algebra would take a word for a product and accept its anagrams
        return Ruling(plain_gold.strip("()").lower() == plain_answer.strip("()").lower(), "compared as words")
    gold_value = _value(plain_gold)
    if gold_value is not None:
        answer_value = _value(_ASSIGNED.sub("", plain_answer))
        if answer_value is None and (quantity := _QUANTITY.fullmatch(_unwrapped(answer))):
            if _NOT_UNITS.isdisjoint(quantity[2].lower().replace("/", " ").split()):
                answer_value = _value(quantity[1])
            elif "pi" not in quantity[2]:
                return Ruling(False, "a word that is no unit")  # math-verify drops words: 5 hundred would be 5
        if answer_value is not None:
            return Ruling(gold_value == answer_value, "compared as numbers")
    return Ruling(None, "asked of math-verify")


def _plain(text: str) -> str:
    """The answer without what has no meaning: spacing, dollar signs, text commands, a final full stop."""
    text = _WORDS.sub(r"\1", text).replace("{,}", ",").replace("\\$", "").replace("$", "")
    text = text.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").replace("\u2212", "-")
    return _GAP.sub("", _SPACING.sub("", text)).removesuffix(".")  # "1 2" is two numbers, not twelve


def _bases_differ(gold: str, answer: str) -> bool:
    """Whether they name different bases, or only one does: math-verify leaves bases out, so 14_{15} would be 14."""
    own, other = _BASE.fullmatch(gold), _BASE.fullmatch(answer)
    if other:
        return own is None or own[1] != other[1]
    return own is not None and _value(_ASSIGNED.sub("", answer)) is not None


def _unwrapped(text: str) -> str:
    r"""The answer with its words as words: ``18\text{ eggs}`` is ``18  eggs``."""
    return _WORDS.sub(r" \1 ", text).replace("\\$", "").replace("$", "").replace("\\ ", " ").replace("\\,", " ").strip()


def _is_word(text: str) -> bool:
    return len(text) > 1 and text.strip("()").isalpha()


def _value(text: str) -> Fraction | None:
    """The exact value of an integer, decimal or simple fraction; None for anything else."""
    if len(text) > _LONGEST_NUMBER:
        return None
    if number := _NUMBER.fullmatch(text):
        digits = (number["whole"] or "").replace(",", "")
        decimals = (number["decimals"] or "").strip(".")
        if digits or decimals:
            value = Fraction(f"{digits or 0}.{decimals or 0}")
            return -value if number["sign"] == "-" else value
    if fraction := _FRACTION.fullmatch(text):
        above, below = (int(part) for part in fraction.groups()[1:] if part is not None)
        if below:
            return Fraction(-above if fraction["sign"] == "-" else above, below)
    return None
