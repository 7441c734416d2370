"""Perturbed twins: problems of GSM8K with other numbers and names, whose answers are computed.

A model that has seen a benchmark's problems solves them better than their twins ("Reasoning or Memorization?", arXiv
2507.10532, and the perturbed benchmarks that it cites). GSM8K's solutions carry their sums as ``<<16-3-4=9>>``. Where
each number in these sums has one source only (the question, an earlier sum, or a word such as "half"), the question's
numbers can be changed and the sums computed again. All other problems have no twin: a wrong gold answer would be worse.
"""

import ast
import math
import operator
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from motif_lite.tasks.golds import final_answer

_SUM = re.compile(r"<<([^<>]{1,200})=([^<>=]{1,40})>>")
_NUMERAL = re.compile(r"\d[\d,]*(?:\.\d+)?")
_CHANGEABLE = re.compile(r"(?<![\w.,/:\-])(?:\d{1,3}(?:,\d{3})+|\d+)(?![\w/:%\-]|[.,]\d)")
_NAME = re.compile(r"\b[A-Z][a-z]+\b")

_OPERATIONS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip
_SIGNS: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}


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

_DRAWS = 300
"""Tries at new numbers for which every sum comes out as it should."""

_LARGEST_CHANGE = 10
"""A new result is at most so many times as large or small as the old one."""


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A number in a sum: where it comes from is a number of the question, an earlier sum by place, or itself."""

    value: Fraction
    question: bool = False
    step: int | None = None


@dataclass(frozen=True, slots=True)
class _Node:
    kind: type[ast.operator]
    left: "_Node | _Leaf"
    right: "_Node | _Leaf"


_Tree = _Node | _Leaf


def twin(question: str, answer: str, seed: str) -> tuple[str, str] | None:
    """The same problem with other numbers and names, and its sums with its gold answer; None where it has no twin.

    Args:
        answer: A solution in GSM8K's form.
        seed: Of all that is drawn.
    """
    sums = _sums(question, answer)
    if sums is None:
        return None
    trees, results = sums
    chance = random.Random(f"twin/{seed}/{question}")
    used = {leaf.value for tree in trees for leaf in _leaves(tree) if leaf.question}
    if not used:
        return None
    for _ in range(_DRAWS):
        drawn = {value: _another(value, chance) for value in sorted(used)}
        found = _computed(trees, results, drawn)
        if found is not None and found[-1] != results[-1] and len(set(drawn.values())) == len(drawn):
            break
    else:
        return None
    lines = [f"<<{_text(tree, drawn, found)}={_numeral(result)}>>" for tree, result in zip(trees, found, strict=True)]
    return _with_other_names(_with(question, drawn), chance), "\n".join([*lines, f"#### {_numeral(found[-1])}"])


def _sums(question: str, answer: str) -> tuple[list[_Tree], list[Fraction]] | None:
    """The solution's sums, each number traced to where it comes from, and their results; None where one cannot be."""
    changeable, given = _numbers(question)
    trees: list[_Tree] = []
    results: list[Fraction] = []
    try:
        written = [(_tree(left), _fraction(right)) for left, right in _SUM.findall(answer)]
        gold = _fraction(final_answer(answer))
        both = changeable & {result for _, result in written}  # where such a number comes from cannot be told
        changeable, given = changeable - both, given | both
        for tree, result in written:
            traced = _traced(tree, changeable, given, results)
            if traced is None or _value(tree, {}, []) != result:
                return None
            trees.append(traced)
            results.append(result)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError):
        return None
    return (trees, results) if results and results[-1] == gold and gold > 0 else None


def _numbers(question: str) -> tuple[set[Fraction], set[Fraction]]:
    """Numbers of a question that stand there once and can be changed, and those that it gives in any other way."""
    words = set(re.findall(r"[a-z]+", question.lower())) | ({"percent"} if "%" in question else set())
    in_words = {Fraction(value) for word in words for value in _IN_WORDS.get(word, ())}
    counts = Counter(_fraction(match) for match in _NUMERAL.findall(question))
    found = {_fraction(match) for match in _CHANGEABLE.findall(question)}
    changeable = {value for value in found if counts[value] == 1 and value >= 2 and value not in in_words}
    return changeable, in_words | (set(counts) - changeable)


def _tree(text: str) -> _Tree:
    """A sum as it stands.

    Raises:
        ValueError: It has something else than numbers and the four operations.
        SyntaxError: It is no sum.
    """
    return _of(ast.parse(re.sub(r"[\s,$]", "", text), mode="eval").body)


def _of(node: ast.expr) -> _Tree:
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        return _Node(type(node.op), _of(node.left), _of(node.right))
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return _Leaf(Fraction(str(node.value)))
    raise ValueError("not one of the four operations")


def _fraction(text: str) -> Fraction:
    return Fraction(re.sub(r"[\s,$]", "", text))


def _traced(tree: _Tree, changeable: set[Fraction], given: set[Fraction], results: list[Fraction]) -> _Tree | None:
    if isinstance(tree, _Node):
        left, right = (_traced(side, changeable, given, results) for side in (tree.left, tree.right))
        return None if left is None or right is None else _Node(tree.kind, left, right)
    steps = [step for step, result in enumerate(results) if result == tree.value]
    if tree.value in changeable:
        return _Leaf(tree.value, question=True)
    if tree.value in given:
        return None if steps else tree
    return _Leaf(tree.value, step=steps[0]) if len(steps) == 1 else None


def _leaves(tree: _Tree) -> Iterator[_Leaf]:
    if isinstance(tree, _Leaf):
        yield tree
    else:
        yield from _leaves(tree.left)
        yield from _leaves(tree.right)


def _number(leaf: _Leaf, drawn: Mapping[Fraction, Fraction], found: list[Fraction]) -> Fraction:
    if leaf.step is not None and found:
        return found[leaf.step]
    return drawn.get(leaf.value, leaf.value) if leaf.question else leaf.value


def _value(tree: _Tree, drawn: Mapping[Fraction, Fraction], found: list[Fraction]) -> Fraction:
    """What a sum makes with other numbers of the question and other results of earlier sums.

    Raises:
        ValueError: A part of it was positive and is not, or was whole and is not.
    """
    if isinstance(tree, _Leaf):
        return _number(tree, drawn, found)
    value = _OPERATIONS[tree.kind](_value(tree.left, drawn, found), _value(tree.right, drawn, found))
    if drawn:
        before = _value(tree, {}, [])
        if (
            (before > 0) != (value > 0)
            or (before.denominator == 1) != (value.denominator == 1)
            or not _is_near(before, value)
        ):
            raise ValueError("another kind of number")
    return value


def _is_near(before: Fraction, value: Fraction) -> bool:
    """Whether a result is of the same size, and a share of something if it was one; with at most two decimals."""
    ratio = abs(value / before) if before else Fraction(0 if value else 1)
    of_a_size = Fraction(1, _LARGEST_CHANGE) <= ratio <= _LARGEST_CHANGE
    return of_a_size and (before > 1 or value <= 1) and (100 % value.denominator == 0)


def _computed(trees: list[_Tree], results: list[Fraction], drawn: Mapping[Fraction, Fraction]) -> list[Fraction] | None:
    found: list[Fraction] = []
    try:
        for tree in trees:
            found.append(_value(tree, drawn, found))
    except (ValueError, ZeroDivisionError):
        return None
    return found if found[-1] > 0 and len(found) == len(results) else None


def _another(value: Fraction, chance: random.Random) -> Fraction:
    """A number of about the same size that is as round."""
    number = int(value)
    unit = 1
    while number % (10 * unit) == 0 and number // (10 * unit) >= 2:
        unit *= 10
    low, high = max(2, math.ceil(number / unit / 2)), number // unit * 3 // 2 + 2
    return Fraction(unit * chance.randint(low, high))


def _with(question: str, drawn: Mapping[Fraction, Fraction]) -> str:
    """The question with its numbers exchanged; thousands are separated where they were."""

    def exchanged(match: re.Match[str]) -> str:
        value = drawn.get(_fraction(match[0]))
        if value is None:
            return match[0]
        return f"{int(value):,}" if "," in match[0] else str(int(value))

    return _CHANGEABLE.sub(exchanged, question)


def _with_other_names(question: str, chance: random.Random) -> str:
    there = dict.fromkeys(_NAME.findall(question))
    others: dict[str, str] = {}
    for names in _NAMES:
        mine = [name for name in there if name in names]
        others |= dict(zip(mine, chance.sample(sorted(names - there.keys()), len(mine)), strict=True))
    return _NAME.sub(lambda match: others.get(match[0], match[0]), question)


def _text(tree: _Tree, drawn: Mapping[Fraction, Fraction], found: list[Fraction]) -> str:
    if isinstance(tree, _Leaf):
        return _numeral(_number(tree, drawn, found))
    left, right = (_text(side, drawn, found) for side in (tree.left, tree.right))
    right = f"({right})" if isinstance(tree.right, _Node) else right
    left = f"({left})" if isinstance(tree.left, _Node) else left
    return f"{left}{_SIGNS[tree.kind]}{right}"


def _numeral(value: Fraction) -> str:
    return str(value) if value.denominator == 1 else f"{float(value):.2f}".rstrip("0")
