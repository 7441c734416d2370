"""The final answer in an answer column, and final answers that no plain number matches, or two do."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from motif_lite.grading.answers import equivalent, last_boxed
from motif_lite.nouns import Problem

_PLAIN = re.compile(r"[+-]?[0-9][0-9,]*(?:\.[0-9]+)?(?:/[0-9]+)?")
_EXPONENT = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?[eE][+-]?[0-9]{1,2}")
_NUMBER = re.compile(r"[+-]?[0-9][0-9,]*(?:\.[0-9]+)?(?:\s*/\s*[0-9]+)?")
_COMMAND = re.compile(r"\\(?:text|textbf|textit|mathrm|mbox)\s*\{|\\[A-Za-z]+|[{}$\\]")
_WORD = re.compile(r"[^\W\d_]{2,}|%")
_MATHEMATICS = frozenset({"sqrt", "frac", "pi", "sin", "cos", "tan", "log", "ln", "mod", "times", "cdot", "infty"})
_SCALES = {
    "hundred": Decimal(100), "thousand": Decimal(1000), "million": Decimal(10**6), "billion": Decimal(10**9),
    "%": Decimal("0.01"),
}  # fmt: skip

_MOST_TRIED = 500
"""Final answers of a source; each may take a millisecond of algebra."""

_ROWS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class OddGold:
    """A final answer to look at.

    Attributes:
        matches: Plain numbers that are right for it: none, or two that differ.
    """

    row: int
    gold: str
    matches: tuple[str, ...]


def final_answer(answer: str) -> str:
    r"""What follows ``####``, in it what the last box holds, and with ASCII digits; otherwise the whole text.

    A worked solution that ends in ``\boxed{18}`` has the gold answer 18.
    """
    gold = answer.rpartition("####")[2].strip()
    if boxed := last_boxed(gold):
        gold = boxed.text.strip()
    if not gold.isascii():
        gold = "".join(str(unicodedata.decimal(char, char)) for char in gold)
    return plain_number(Decimal(gold)) if _EXPONENT.fullmatch(gold) else gold


def plain_number(number: Decimal) -> str:
    """A number without an exponent, as a reply would write it: ``0.00001``."""
    return format(number, "f")


def odd_golds(problems: Sequence[Problem]) -> list[OddGold]:
    """Final answers with one number and words that the number alone, or its value, does not match; or both do."""
    candidates = ((row, problem.gold, _readings(problem.gold)) for row, problem in enumerate(problems, start=1))
    found, num_tried = [], 0
    for row, gold, readings in candidates:
        if readings and num_tried < _MOST_TRIED:
            num_tried += 1
            matches = tuple(reading for reading in readings if equivalent(gold, reading))
            if len(matches) != 1:
                found.append(OddGold(row, gold, matches))
    return found


def remarks(odd: Sequence[OddGold], source: str) -> Iterator[str]:
    """A line for each of the two kinds, which names the first rows."""
    for kind, what in ((False, "match no plain number, so a reply has to repeat them word for word"),
                       (True, "match two different numbers")):  # fmt: skip
        rows = [each for each in odd if bool(each.matches) == kind]
        if rows:
            shown = ", ".join(f"row {each.row} ({each.gold[:40]!r})" for each in rows[:_ROWS_SHOWN])
            more = f" and {len(rows) - _ROWS_SHOWN} more" if len(rows) > _ROWS_SHOWN else ""
            yield f"{source}: final answers that {what}: {shown}{more}; write the number alone where one is meant"


def _readings(gold: str) -> list[str]:
    """Plain numbers that a person may mean by a final answer; none where it is a plain one, or no number with words."""
    if _PLAIN.fullmatch(gold):
        return []
    text = _COMMAND.sub(" ", _with_fractions(gold))
    numbers = _NUMBER.findall(text)
    words = {word.lower() for word in _WORD.findall(text)}
    words |= {char for char in gold if unicodedata.category(char) in ("No", "Sc") and char != "$"}
    if len(numbers) != 1 or not words or words & _MATHEMATICS:
        return []
    number = numbers[0].replace(",", "").replace(" ", "")
    scales = [scale for name, scale in _SCALES.items() if name in words]
    if not scales or "/" in number:
        return [number]
    scaled = plain_number((Decimal(number) * scales[0]).normalize())
    return [scaled] if scales[0] >= 1 else [number, scaled]


def _with_fractions(text: str) -> str:
    """The text with signs such as ``½`` spelled out."""
    return text if text.isascii() else unicodedata.normalize("NFKC", text).replace("\u2044", "/")
