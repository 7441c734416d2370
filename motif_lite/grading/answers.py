"""Gold answers, boxed answers, and whether they are the same: the one judge of training and evaluation.

Only the last boxed answer of a reply counts. A right number outside a box earns nothing, or a policy learns to
list numbers; and an earlier box does not help one that goes on to box something else.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from motif_lite.errors import GradingError
from motif_lite.grading.server import EquivalenceServer

MAX_ANSWER_CHARACTERS = 1000
"""A longer boxed answer is wrong unread: the longest gold answer of MATH-500 has 53 characters."""

_server = EquivalenceServer()

_BOX_OR_BRACE = re.compile(r"\\boxed\s*\{|\\.|[{}]", re.DOTALL)
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


@dataclass(frozen=True, slots=True)
class Boxed:
    r"""The content of a box and where it stands in the reply (start of ``\boxed``, index after the brace)."""

    text: str
    start: int
    end: int


@lru_cache(maxsize=64)  # a reply's reward asks several times
def last_boxed(reply: str) -> Boxed | None:
    r"""The last balanced ``\boxed{}`` of a reply, the outermost where boxes are nested.

    A box that is never closed is passed over. Linear in the length of the reply, whatever it holds.
    """
    before = reply.partition("\\boxed")[0]
    if len(before) == len(reply):
        return None
    open_braces: list[tuple[int, int]] = []  # start of a box, or -1 for an ordinary brace, and of what it holds
    last: tuple[int, int, int] | None = None
    for match in _BOX_OR_BRACE.finditer(reply, len(before.rstrip("\\"))):  # braces before a box do not matter
        sign = match[0]
        if sign == "{" or sign.startswith("\\boxed"):
            open_braces.append((match.start() if sign != "{" else -1, match.end()))
        elif sign == "}" and open_braces:
            start, content = open_braces.pop()
            if start >= 0:
                last = start, content, match.start()
    return Boxed(reply[last[1] : last[2]], last[0], last[2] + 1) if last else None


def is_correct(gold: str, reply: str) -> bool:
    """Whether the last boxed answer of a whole reply is equivalent to the gold answer.

    Takes any text as reply, costs at most 2 s, and may be called from any thread. What cannot be told within
    deadline and memory limit is not correct; `is_beyond_judging` says so.
    """
    return bool(_verdict(gold, reply))


def is_beyond_judging(gold: str, reply: str) -> bool:
    """Whether the comparison behind `is_correct` could not be finished; the verdict is kept, so this costs nothing."""
    return _verdict(gold, reply) is None


def _verdict(gold: str, reply: str) -> bool | None:
    boxed = last_boxed(reply)
    return boxed is not None and equivalent(gold, boxed.text)


def equivalent(gold: str, answer: str) -> bool | None:
    """Whether two answers (LaTeX without the box) mean the same: by their text, as numbers, or by math-verify.

    None where math-verify overran its deadline or memory limit, or crashed.
    """
    if not answer.strip() or len(answer) > max(MAX_ANSWER_CHARACTERS, 2 * len(gold)):
        return False
    inner = last_boxed(answer)
    if inner is not None:  # a box in a box is the inner one if it holds nothing else, and a list of guesses if it does
        return inner.text == answer.strip()[len("\\boxed{") : -1] and equivalent(gold, inner.text)
    return _equivalent(gold, answer)


@lru_cache(maxsize=10_000)  # each of a step's replies is judged for its reward and for the metrics
def _equivalent(gold: str, answer: str) -> bool | None:
    gold, answer = _DEGREES.sub(r"^\\circ", gold), _DEGREES.sub(r"^\\circ", answer)
    plain_gold, plain_answer = _plain(gold), _plain(answer)
    if plain_gold == plain_answer:
        return True
    if _CONTROL.search(answer):
        return False  # no mathematics, whatever stands around it
    if _bases_differ(plain_gold, plain_answer):
        return False
    if _is_word(plain_gold):  # algebra would take a word for a product and accept its anagrams
        return plain_gold.strip("()").lower() == plain_answer.strip("()").lower()
    gold_value = _value(plain_gold)
    if gold_value is not None:
        answer_value = _value(_ASSIGNED.sub("", plain_answer))
        if answer_value is None and (quantity := _QUANTITY.fullmatch(_unwrapped(answer))):
            if _NOT_UNITS.isdisjoint(quantity[2].lower().replace("/", " ").split()):
                answer_value = _value(quantity[1])
            elif "pi" not in quantity[2]:
                return False  # math-verify drops words, so that 5 hundred would be 5
        if answer_value is not None:
            return gold_value == answer_value
    try:
        return _server.equivalent(gold, answer)
    except (OSError, TimeoutError) as error:
        raise GradingError(
            f"the grader cannot be started ({error or 'no answer'}); is math-verify installed completely? "
            f"Run pip install -r requirements-cpu.txt (or requirements.txt)"
        ) from None


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
    if len(text) > MAX_ANSWER_CHARACTERS:  # Python refuses to read integers of more than 4300 digits
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
