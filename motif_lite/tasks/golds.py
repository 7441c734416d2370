"""The final answer in an answer column, and final answers that no plain number matches, or two do."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from motif_lite.grading.answers import equivalent, last_boxed
from motif_lite.grading.rule_golds import is_rule
from motif_lite.grading.rules import decide
from motif_lite.nouns import Problem
from motif_lite.tasks.readings import letter_and_text, readings

_EXPONENT = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?[eE][+-]?[0-9]{1,2}")
_FRAMED = re.compile(r"\\fbox(?![A-Za-z])")
_BARE_BOX = re.compile(
    r"\\boxed\s*(-?[0-9][0-9,]*(?:\.[0-9]+)?(?:/[0-9]+)?|(?<=\s)[A-Za-z](?![A-Za-z])|\\[dt]?frac\{[^{}]*\}\{[^{}]*\})"
)

_ALLOWANCE = 20_000
"""Final answers of a source that are tried, where each is decided by rules; a few seconds."""

_ALGEBRA_COSTS = 150
"""Of the allowance, for each comparison that goes to the judge: some 20 ms."""

_ROWS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class OddGold:
    """A final answer to look at.

    Attributes:
        matches: What is right for it of all that a person may mean by it: nothing, or two that differ. None where this
            was not tried.
    """

    row: int
    gold: str
    matches: tuple[str, ...] | None


def final_answer(answer: str) -> str:
    r"""What follows ``####``, in it what the last box holds, and with ASCII digits; otherwise the whole text.

    A worked solution that ends in ``\boxed{18}`` has the gold answer 18. So has one that ends in ``\boxed 18`` or
    ``\fbox{18}``: the box of a file is taken where it can be read, a reply has to keep to the form that is asked for.
    """
    gold = answer.rpartition("####")[2].strip()
    while boxed := last_boxed(_BARE_BOX.sub(r"\\boxed{\1}", _FRAMED.sub(r"\\boxed", gold)) if "box" in gold else gold):
        gold = boxed.text.strip()
    if not gold.isascii():
        gold = "".join(str(unicodedata.decimal(char, char)) for char in gold)
    return plain_number(Decimal(gold)) if _EXPONENT.fullmatch(gold) else gold


def plain_number(number: Decimal) -> str:
    """A number without an exponent, as a reply would write it: ``0.00001``."""
    return format(number, "f")


def odd_golds(problems: Sequence[Problem]) -> list[OddGold]:
    """Final answers of which not exactly one of the answers that a person may mean is right, and those not tried."""
    found, left = list[OddGold](), _ALLOWANCE
    for row, problem in enumerate(problems, start=1):
        gold = problem.gold
        meant = () if gold.isdigit() or is_rule(gold) else readings(gold, problem.question)
        if not meant:
            continue
        if left <= 0:
            found.append(OddGold(row, gold, None))
            continue
        verdicts = {reading: decide(gold, reading).correct for reading in meant}
        unknown = [reading for reading, verdict in verdicts.items() if verdict is None]
        left -= _ALGEBRA_COSTS * len(unknown) or 1
        verdicts |= {reading: equivalent(gold, reading) for reading in unknown}
        matches = tuple(reading for reading, verdict in verdicts.items() if verdict)
        if len(matches) != 1:
            found.append(OddGold(row, gold, matches))
    return found


def remarks(odd: Sequence[OddGold], source: str) -> Iterator[str]:
    """A line for each kind of final answers, which names the first rows."""
    for kind, (what, remedy) in _KINDS.items():
        rows = [each for each in odd if _kind(each) == kind]
        if rows:
            shown = ", ".join(f"row {each.row} ({each.gold[:40]!r})" for each in rows[:_ROWS_SHOWN])
            more = f" and {len(rows) - _ROWS_SHOWN:,} more" if len(rows) > _ROWS_SHOWN else ""
            yield f"{source}: final answers that {what}: {shown}{more}; {remedy}"


_NUMBER_ALONE = "write the number alone where one is meant"

_KINDS = {
    "none": ("match no plain number, so a reply has to give all that stands there", _NUMBER_ALONE),
    "choice": (
        "hold a choice's letter and its text, and take neither of them alone, or both",
        "write the letter alone, or the text alone, as the question asks for it",
    ),
    "two": ("match two different numbers", _NUMBER_ALONE),
    "untried": (
        "were not tried, as so many others before them are no plain values",
        "put a plain value behind '####' in each row, or check them in parts of the file",
    ),
}
"""What each kind of final answers is, and the remedy."""


def _kind(odd: OddGold) -> str:
    if odd.matches is None:
        return "untried"
    if letter_and_text(odd.gold):
        return "choice"
    return "two" if odd.matches else "none"
