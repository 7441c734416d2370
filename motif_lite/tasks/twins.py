"""Perturbed twins: problems of GSM8K with other numbers and names, whose answers are computed.

A model that has seen a benchmark's problems solves them better than their twins ("Reasoning or Memorization?", arXiv
2507.10532, and the perturbed benchmarks that it cites). GSM8K's solutions carry their sums as ``<<16-3-4=9>>``. Where
each number in these sums has one source only (the question, an earlier sum, or a word such as "half"), the question's
numbers can be changed and the sums computed again. All other problems have no twin: a wrong gold answer would be worse.
A solution that is wrong has a twin that is wrong in the same way.

What goes wrong without being seen in the sums was found by a language model that solved 400 twins without the answers;
hence these rules. Small numbers stay, for the 2 of "2 slats" may also be the two sides of a fence. So do times: there
are no 8 days in a week. Every number of a question has to be in its sums, the order of all numbers stays, and a
question that compares ("the lowest score", "enough for") or sets a condition has no twin, nor has a solution with a sum
that is not written out or leads nowhere. `tests/data/twin_solutions.txt` has a second solution to all that are left of
GSM8K's test problems.
"""

import math
import random
import re
from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from itertools import pairwise

from motif_lite.tasks.golds import final_answer
from motif_lite.tasks.sums import Leaf, Node, Tree, fraction, leaves_of, numeral, text_of, tree_of, value_of

_WRITTEN_OUT = re.compile(r"=\s{0,9}\$?\s{0,9}<<[^<>]*>>|<<[^<>]*>>")
_SUM = re.compile(r"<<([^<>]{1,200})=([^<>=]{1,40})>>")
_NUMERAL = re.compile(r"\d[\d,]*(?:\.\d+)?")
_DASHES = "\\-\u2013"
_CHANGEABLE = re.compile(
    rf"(?<![\w.,/:{_DASHES}])(?:\d{{1,3}}(?:,\d{{3}})+|\d+)"
    rf"(?![\w/:%{_DASHES}]|[.,]\d|(?: \w+)? (?:day|hour|week|month|minute|year)s?\b| ?[ap]\.?m\b| o'clock)"
)
_RANGE = re.compile(rf"\d\s*[{_DASHES}]\s*\d")
_SENTENCE_END = re.compile(r"(?<=[.?!])\s+")
_NAME = re.compile(r"\b[A-Z][a-z]+\b")


def _words(text: str) -> list[str]:
    return text.split()


_COUNTED = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)
_IN_WORDS: Mapping[str, tuple[str, ...]] = {
    **{word: (str(number),) for number, word in enumerate(_COUNTED)},
    "thirty": ("30",), "forty": ("40",), "fifty": ("50",), "sixty": ("60",), "hundred": ("100",),
    "half": ("2", "0.5"), "twice": ("2",), "double": ("2",), "doubled": ("2",), "doubles": ("2",), "pair": ("2",),
    "pairs": ("2",), "couple": ("2",), "both": ("2",), "thrice": ("3",), "triple": ("3",), "tripled": ("3",),
    "third": ("3",), "thirds": ("3",), "quarter": ("4", "0.25"), "quarters": ("4", "0.25"), "fourth": ("4",),
    "fifth": ("5",), "sixth": ("6",), "dozen": ("12",), "dozens": ("12",), "week": ("7",), "weeks": ("7",),
    "weekly": ("7",), "daily": ("7", "24"), "day": ("7", "24"), "days": ("7", "24"), "hour": ("60", "24"),
    "hours": ("60", "24"), "minute": ("60",), "minutes": ("60",), "seconds": ("60",), "month": ("12", "4", "30"),
    "months": ("12", "4", "30"), "monthly": ("12",), "year": ("12", "52", "365"), "years": ("12", "52", "365"),
    "annual": ("12",), "foot": ("12",), "feet": ("12", "3"), "inches": ("12",), "yard": ("3",), "yards": ("3",),
    "weekend": ("2",), "weekday": ("5",), "weekdays": ("5",), "cents": ("100",), "cent": ("100",), "percent": ("100",),
    "percentage": ("100",), "yearly": ("12", "52", "365"), "annually": ("12",),
    "decade": ("10",), "once": ("1",), "single": ("1",), "another": ("1",),
}  # fmt: skip
"""Numbers that a question gives in words, or that are meant by a unit."""

_WOMEN = _words(
    """
    Alice Amy Angela Anna Anne Annie Becky Betty Carla Carmen Carol Claire Diana Elena Ella Ellen Emily Emma Eva
    Fiona Gina Hannah Helen Jane Janet Jen Jenna Jenny Jessica Jill Joan Judy Julia Julie Karen Kate Katie Kelly
    Kim Laura Lena Linda Lisa Lucy Maria Marie Martha Mary Megan Mia Monica Nancy Nina Olivia Pam Paula Rachel
    Rebecca Sally Samantha Sandra Sara Sarah Sophia Susan Tina Wendy
    """
)
_MEN = _words(
    """
    Aaron Adam Alan Albert Alex Andrew Andy Anthony Ben Bobby Brian Carl Carlos Charles Charlie Chris Dan Daniel
    Dave David Dean Dennis Edward Eric Ethan Evan Frank Fred Gary George Greg Harry Henry Jack Jacob James Jason
    Jeff Jerry Jim Jimmy Joe John Johnny Jose Joseph Josh Julian Keith Ken Kevin Kyle Larry Leo Luke Martin
    Matthew Michael Mike Nathan Oliver Paul Pedro Peter Ralph Ray Richard Rick Robert Ryan Sam Scott Sean
    Stephen Steve Steven Ted Thomas Tim Timothy Toby Tom Tommy Tony Travis Victor Vincent
    """
)
_NAMES = (frozenset(_WOMEN), frozenset(_MEN))
"""Exchanged among themselves, so that pronouns stay right."""

_COMPARES = frozenset(
    _words(
        """
    lowest highest smallest largest oldest youngest minimum maximum cheapest least most fewest greater exceed exceeds
    over under above below enough whichever first only unless until between average
    """
    )
)
_SMALLEST = 5
"""Smaller numbers may count what the question does not number."""

_SMALLEST_TWICE = 13
"""A smaller number that is in the sums twice may stand for two things."""

_CONVERSIONS = frozenset(map(Fraction, (16, 36, 52, 60, 100, 365, 366, 1000, 1760, 2000, 3600, 5280)))
"""Numbers of units that a question need not name: in the sums twice they stay, and none is taken for a result."""

_LONGEST = 5_000
"""Characters of a question or an answer; GSM8K's longest has 1,228."""

_DRAWS = 300
"""Tries at new numbers for which every sum comes out as it should."""


def twin(question: str, answer: str, seed: str) -> tuple[str, str] | None:
    """The same problem with other numbers and names, and its sums with its gold answer; None where it has no twin.

    Args:
        answer: A solution in GSM8K's form.
        seed: Of all that is drawn.
    """
    sums = _sums(question, answer) if len(question) <= _LONGEST and len(answer) <= _LONGEST else None
    if sums is None:
        return None
    trees, results = sums
    chance = random.Random(f"twin/{seed}/{question}")
    used = sorted({leaf.value for tree in trees for leaf in leaves_of(tree) if leaf.question})
    numbers = sorted({fraction(match) for match in _NUMERAL.findall(question)})
    for _ in range(_DRAWS if used else 0):
        drawn = {value: _another(value, chance) for value in used}
        found = _computed(trees, drawn)
        if found is not None and found[-1] != results[-1] and _keeps_order(numbers, drawn):
            break
    else:
        return None
    lines = [f"<<{text_of(tree, drawn, found)}={numeral(result)}>>" for tree, result in zip(trees, found, strict=True)]
    return _with_other_names(_with(question, drawn), chance), "\n".join([*lines, f"#### {numeral(found[-1])}"])


def _sums(question: str, answer: str) -> tuple[list[Tree], list[Fraction]] | None:
    """The solution's sums, each number traced to where it comes from, and their results; None where one cannot be."""
    if "=" in _WRITTEN_OUT.sub("", answer) or _RANGE.search(question) or _compares(question):
        return None
    trees: list[Tree] = []
    results: list[Fraction] = []
    try:
        changeable, given = _numbers(question)
        written = [(tree_of(left), fraction(right)) for left, right in _SUM.findall(answer)]
        gold = fraction(final_answer(answer))
        leaves = Counter(leaf.value for tree, _ in written for leaf in leaves_of(tree))
        if {fraction(match) for match in _NUMERAL.findall(question)} - leaves.keys():
            return None
        unclear = {result for _, result in written} | {
            value for value, times in leaves.items() if times > 1 and (value < _SMALLEST_TWICE or value in _CONVERSIONS)
        }
        changeable, given = changeable - unclear, given | changeable & unclear
        for tree, result in written:
            traced = _traced(tree, changeable, given, results)
            if traced is None or value_of(tree, {}, []) != result:
                return None
            trees.append(traced)
            results.append(result)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError):
        return None
    used = {leaf.step for tree in trees for leaf in leaves_of(tree)}
    leads_there = results and results[-1] == gold > 0 and used >= set(range(len(results) - 1))
    return (trees, results) if leads_there else None


def _compares(question: str) -> bool:
    """Whether it may ask for something else with other numbers.

    An "if" that asks only supposes something ("If each costs $5, how much ...?"); any other may be a condition.
    """
    if _COMPARES & set(re.findall(r"[a-z]+", question.lower())):
        return True
    *told, asked = (re.findall(r"[a-z]+", sentence.lower()) for sentence in _SENTENCE_END.split(question.strip()))
    return any("if" in words for words in told) or {"if", "than"} <= set(asked)


def _numbers(question: str) -> tuple[set[Fraction], set[Fraction]]:
    """Numbers of a question that stand there once and can be changed, and those that it gives in any other way."""
    words = set(re.findall(r"[a-z]+", question.lower())) | ({"percent"} if "%" in question else set())
    in_words = {Fraction(value) for word in words for value in _IN_WORDS.get(word, ())}
    counts = Counter(fraction(match) for match in _NUMERAL.findall(question))
    found = {fraction(match) for match in _CHANGEABLE.findall(question)}
    changeable = {value for value in found if counts[value] == 1 and value >= _SMALLEST and value not in in_words}
    return changeable, in_words | (set(counts) - changeable)


def _traced(tree: Tree, changeable: set[Fraction], given: set[Fraction], results: list[Fraction]) -> Tree | None:
    if isinstance(tree, Node):
        left, right = (_traced(side, changeable, given, results) for side in (tree.left, tree.right))
        return None if left is None or right is None else Node(tree.kind, left, right)
    steps = [step for step, result in enumerate(results) if result == tree.value]
    if tree.value in changeable:
        return Leaf(tree.value, question=True)
    if tree.value in given:
        return None if steps else tree
    if tree.value in _CONVERSIONS:
        return None
    return Leaf(tree.value, step=steps[0]) if len(steps) == 1 else None


def _keeps_order(numbers: list[Fraction], drawn: Mapping[Fraction, Fraction]) -> bool:
    """Whether all numbers of a question, given from small to large, still are."""
    after = [drawn.get(value, value) for value in numbers]
    return all(one < other for one, other in pairwise(after))


def _computed(trees: list[Tree], drawn: Mapping[Fraction, Fraction]) -> list[Fraction] | None:
    """The results of all sums; None where one is another kind of number than it was."""
    found: list[Fraction] = []
    try:
        for tree in trees:
            found.append(value_of(tree, drawn, found))
    except (ValueError, ZeroDivisionError):
        return None
    return found


def _another(value: Fraction, chance: random.Random) -> Fraction:
    """A number of about the same size that is as round."""
    number = int(value)
    unit = 1
    while number % (10 * unit) == 0 and number // (10 * unit) >= 2:
        unit *= 10
    low, high = max(2, math.ceil(number / unit * 0.6)), number // unit * 3 // 2 + 2
    return Fraction(unit * chance.randint(low, high))


def _with(question: str, drawn: Mapping[Fraction, Fraction]) -> str:
    """The question with its numbers exchanged; thousands are separated where they were."""

    def exchanged(match: re.Match[str]) -> str:
        value = drawn.get(fraction(match[0]))
        if value is None:
            return match[0]
        return f"{int(value):,}" if "," in match[0] else str(int(value))

    return _CHANGEABLE.sub(exchanged, question)


def _with_other_names(question: str, chance: random.Random) -> str:
    there = dict.fromkeys(_NAME.findall(question))
    others: dict[str, str] = {}
    for names in _NAMES:
        mine = [name for name in there if name in names]
        free = sorted(names - there.keys())
        others |= dict(zip(mine, chance.sample(free, min(len(mine), len(free))), strict=False))
    return _NAME.sub(lambda match: others.get(match[0], match[0]), question)
