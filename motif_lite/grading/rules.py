r"""What can be said of two answers without algebra: texts, words, numbers, units, percents, times, bases.

**Percents.** ``50\%`` is the number 50 with the unit percent: right for the gold answers ``50`` and ``50\%``, wrong for
``0.5``. A gold answer that is written with a percent sign also takes the share, ``0.5``.

**Nothing left to do.** Where the gold answer is a finished value, so must the answer be: ``48+48/2`` is no answer to a
question whose answer is 72, though it equals it.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

from motif_lite.grading import units, values
from motif_lite.grading.matching import UNKNOWN, match
from motif_lite.grading.rulings import Ruling
from motif_lite.grading.shapes import compact

_SIMPLE = re.compile(
    r"\s*(?:\\?\$)?(?P<sign>[-+]?)(?:(?P<whole>[0-9]{1,15}|[1-9][0-9]{0,2}(?:,[0-9]{3}){1,4})(?P<decimals>\.[0-9]{0,15})?"
    r"|\\[dt]?frac\{(?P<above>[0-9]{1,9})\}\{(?P<below>[1-9][0-9]{0,8})\})\s*"
)
"""A number or a fraction as most answers are written."""

_TEXT = re.compile(r"\\text\{([^{}]*)\}")
_PERCENT = re.compile(r"\s*\\%$")
_PRIMED = re.compile(r"([A-Za-z0-9})])\s*((?:'|\^\s*\{?\s*(?:\\prime\s*)+\}?)+)")
_CLOCK = re.compile(
    r"([0-9]{1,2})(?::([0-9]{2}))?(?::([0-9]{2}))?\s*(?:\\text\{)?\s*(?:([aApP])\.?\s*[mM]\.?)?\s*\}?\.?"
)
_BASE_WORDS = (
    "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen",
    "fifteen", "sixteen",
)  # fmt: skip
_IN_BASE = re.compile(
    r"\(?([-+]?)((?=[0-9]|[A-F]{2})[0-9A-F.]+)\)?_\{?(?:\\text\{\s*)?([0-9]+|[a-z]+)(?:\s*\})?\}?", re.IGNORECASE
)
_BETWEEN_ENTRIES = re.compile(r"\\(?:begin|end)\{[a-z]*\}(?:\{[a-z|]*\})?|\\\\|\\c[ua]p(?![A-Za-z])|[&,]|\\[{}]|[\[\]]")
_LABEL = re.compile(r"(?:an?|the|option|choice|answer)\s+(?=\w)", re.IGNORECASE)
_WORDS = re.compile(r"[A-Za-z][A-Za-z' -]*")
_SHORT_WORDS = frozenset({"yes", "no", "odd", "two", "six", "ten", "one", "all", "red", "max", "min"})


def decide(gold: str, answer: str) -> Ruling:
    """The verdict on two answers in LaTeX, where it needs no algebra; ``correct`` is None where it does."""
    if gold == answer and gold.strip():
        return Ruling(True, "the same text")
    own, other = _SIMPLE.fullmatch(gold), _SIMPLE.fullmatch(answer)
    if own and other:
        return _numbers(values.equal(_simple(own), _simple(other), own[0].strip(), other[0].strip()))
    return match(gold, answer, known)


def _simple(number: re.Match[str]) -> Fraction:
    whole, decimals = (number["whole"] or "0").replace(",", ""), (number["decimals"] or "").strip(".")
    digits = int(number["above"] or whole + decimals)
    return Fraction(-digits if number["sign"] == "-" else digits, int(number["below"] or 10 ** len(decimals)))


def _numbers(same: bool) -> Ruling:
    return Ruling(same, "equal as numbers" if same else "another number")


def known(own: str, other: str) -> Ruling:
    """A normalized gold value against a normalized answer; ``correct`` is None where only algebra can tell."""
    if compact(own) == compact(other):
        return Ruling(True, "the same text")
    for rule in _RULES:
        ruling = rule(own, other)
        if ruling is not None:
            return ruling
    return _quantities(own, other, _by_value)


def cores(own: str, other: str, algebra: Callable[[str, str], bool]) -> Ruling:
    """The same with algebra for what `known` cannot tell; asked of the values without units and percent signs."""

    def by_algebra(mine: str, theirs: str) -> Ruling:
        ruling = _by_value(mine, theirs)
        if ruling.correct is not None:
            return ruling
        if not algebra(mine, theirs):
            return Ruling(False, "not equivalent by math-verify")
        return _finished(mine, theirs, "equivalent by math-verify")

    ruling = known(own, other)
    return ruling if ruling.correct is not None else _quantities(own, other, by_algebra)


def _quantities(own: str, other: str, by_value: Callable[[str, str], Ruling]) -> Ruling:
    """Compare values without their units, then the units."""
    mine, theirs = units.split(own), units.split(other)
    if theirs.unknown and not mine.unknown:
        finished = values.read(_PERCENT.sub("", mine.core))
        if finished and values.is_finished(finished):
            remark = " ".join(_TEXT.sub(r" \1 ", theirs.unknown).split())
            return Ruling(False, f"{remark!r} is no unit")
        theirs = units.Quantity(other)
    if mine.unknown and theirs.unknown:
        mine, theirs = units.Quantity(own), units.Quantity(other)
    elif mine.unknown and not _is_remark(mine.unknown):
        mine = units.Quantity(own)
    if units.differ(mine.unit, theirs.unit):
        return Ruling(False, f"the unit differs: {theirs.unit}, not {mine.unit}")
    ruling = _with_percent(mine.core, theirs.core, by_value)
    return replace(ruling, rule=f"{ruling.rule}, unit aside") if mine.unit + theirs.unit and ruling.correct else ruling


def _is_remark(words: str) -> bool:
    r"""Whether what follows a gold number says something about it, and changes nothing: ``17\text{ any text}``."""
    return ("\\text" in words or " " in words) and not units.changes_value(words)


def _with_percent(own: str, other: str, by_value: Callable[[str, str], Ruling]) -> Ruling:
    mine, theirs = _PERCENT.sub("", own), _PERCENT.sub("", other)
    ruling = by_value(mine, theirs)
    if mine == own or theirs != other or ruling.correct or ruling.undone:
        return ruling
    share = by_value(rf"\frac{{{mine}}}{{100}}", theirs)
    return ruling if share.correct is False and ruling.correct is False and not share.undone else share


def _by_value(own: str, other: str) -> Ruling:
    """Two rational numbers, exactly."""
    mine, theirs = values.read(own), values.read(other)
    if not mine or not theirs or mine.number is None or theirs.number is None:
        return UNKNOWN
    if not values.equal(mine.number, theirs.number, own, other):
        return _numbers(False)
    return _finished(own, other, "equal as numbers")


def _finished(own: str, other: str, rule: str) -> Ruling:
    """The verdict on an answer that is equal: wrong where the gold one is a value and it is not."""
    mine, theirs = values.read(own), values.read(other)
    if mine is None and (left := _undone_entry(own, other)):
        return Ruling(False, f"an operation is left to do: {left}", undone=True)
    if mine is None or not values.is_finished(mine):
        return Ruling(True, rule)
    if theirs is None:
        return Ruling(False, f"equal, but not written as a value: {other}", undone=True)
    if theirs.left_to_do or "letter" in theirs.needs:
        return Ruling(False, f"an operation is left to do: {theirs.left_to_do or other}", undone=True)
    if theirs.needs - mine.needs and values.places(own) is None:  # a gold decimal of many places rounds such a value
        return Ruling(False, f"an operation is left to do: {other}", undone=True)
    return Ruling(True, rule)


def _undone_entry(own: str, other: str) -> str:
    """What is left to do in an entry of a matrix or at an end of an interval; empty where the gold answer's is, too."""
    mine, theirs = ([values.read(entry) for entry in _entries(text)] for text in (own, other))
    finished = [values.is_finished(each) for each in mine if each]
    if not finished or not all(finished):  # an expression
        return ""
    return next((each.left_to_do for each in theirs if each and each.left_to_do), "")


def _entries(text: str) -> list[str]:
    """Those of a matrix, and the ends of intervals, without the brackets that only one of them has."""
    entries = [entry.strip() for entry in _BETWEEN_ENTRIES.split(text)]
    for place, entry in enumerate(entries):
        excess = entry.count("(") - entry.count(")")
        entries[place] = entry[excess:] if excess > 0 else entry[: len(entry) + excess]
    return entries


def _by_primes(own: str, other: str) -> Ruling | None:
    both = own + other
    if "'" not in both and "prime" not in both:
        return None
    mine, theirs = ([(m[1], m[2].count("'") + m[2].count("\\prime")) for m in _PRIMED.finditer(_TEXT.sub("", text))]
                    for text in (own, other))  # fmt: skip
    return None if sorted(mine) == sorted(theirs) else Ruling(False, "a prime more, or less")


def _by_clock(own: str, other: str) -> Ruling | None:
    if ":" not in own and "m" not in own.lower() and "m" not in other.lower():
        return None
    mine, theirs = _CLOCK.fullmatch(own), _CLOCK.fullmatch(other)
    if not mine or not theirs or not any((mine[2], mine[4])) or not any((theirs[2], theirs[4], mine[4])):
        if mine and theirs and theirs[4] and not theirs[2]:
            return Ruling(int(mine[1]) == int(theirs[1]), "compared as times of day")
        return None
    if mine[4] and theirs[4] and mine[4].lower() != theirs[4].lower():
        return Ruling(False, "a.m. is not p.m.")
    same = _minutes(mine, theirs) == _minutes(theirs, mine)
    return Ruling(same, "compared as times of day")


def _minutes(time: re.Match[str], other: re.Match[str]) -> tuple[int, int, int]:
    hour, half = int(time[1]), time[4]
    if half and not other[4] and int(other[1]) > 12 and half.lower() == "p":
        hour += 12
    return hour, int(time[2] or 0), int(time[3] or 0)


def _by_base(own: str, other: str) -> Ruling | None:
    if "_" not in own and "_" not in other:
        return None
    mine, theirs = _number_in_base(own), _number_in_base(other)
    if mine is None and theirs is None:
        return None
    if mine is None or theirs is None:
        return Ruling(False, "only one has a base")
    return Ruling(mine == theirs, "the same digits and base" if mine == theirs else "other digits, or another base")


def _number_in_base(text: str) -> tuple[str, str, str, int] | None:
    """Sign, digits before and after the point, and base; base ten is none."""
    match = _IN_BASE.fullmatch(compact(text))
    if not match:
        return None
    word = match[3].lower()
    base = int(word) if word.isdigit() else _BASE_WORDS.index(word) + 2 if word in _BASE_WORDS else 0
    whole, _, decimals = match[2].upper().partition(".")
    return (match[1].strip("+"), whole.lstrip("0"), decimals.rstrip("0"), base) if base and base != 10 else None


def _by_words(own: str, other: str) -> Ruling | None:
    mine, theirs = words(own), words(other)
    if mine is None and theirs is None:
        return None
    if mine is not None and theirs is not None:
        same = mine == theirs
        return Ruling(same, "the same words" if same else "other words")
    if mine is not None:
        is_other = len(mine) > 1 or (mine.isupper() and compact(other).isalpha())
        return Ruling(False, "not the words of the gold answer") if is_other else None
    finished = values.read(_PERCENT.sub("", units.split(own).core))
    if theirs is not None and len(theirs) > 1 and finished and values.is_finished(finished):
        return Ruling(False, "words, not a value")
    return None


def words(text: str) -> str | None:
    r"""The words of an answer that has nothing else, in lower case; None for anything else.

    Letters that stand for a product (``ab``, ``xyz``) are no word; single letters keep their case.
    """
    if text[:1].isdigit():
        return None
    bare = " ".join(_TEXT.sub(r" \1 ", text).split()).strip(" .:")
    if not _WORDS.fullmatch(bare.strip("()")):
        return None
    bare = _LABEL.sub("", bare.strip("() "), count=1)
    if "\\text" not in text and is_product(bare) and not (text.startswith("(") or text.endswith(")")):
        return bare if len(bare) == 1 and bare.isupper() else None
    return bare if len(bare) == 1 else bare.lower()


def is_product(letters: str) -> bool:
    r"""Whether bare letters are factors and not a word."""
    if " " in letters:
        return all(len(part) == 1 for part in letters.split())
    if len(letters) == 1:
        return True
    if not letters.islower() or letters in _SHORT_WORDS:
        return False
    return len(letters) <= 3 or not re.search("[aeiouy]", letters) or letters == "".join(sorted(set(letters)))


_RULES = (_by_primes, _by_clock, _by_base, _by_words)
