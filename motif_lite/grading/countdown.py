"""Countdown: reach a target with given numbers, each used exactly once, by +, -, *, / and parentheses.

Any expression is right that does so; it is read by the grammar of `syntax` and computed in exact fractions, so nothing
that a model writes is ever executed.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from motif_lite.grading.notation import normalized
from motif_lite.grading.rulings import Ruling
from motif_lite.grading.syntax import Node, parse, rational

EXAMPLE = '{"numbers":[44,19,35],"target":98}'

_OPERATIONS = frozenset({"sum", "product", "fraction", "negative"})
_MOST_NUMBERS = 20
_LARGEST = 10**9


class _NotAllowed(Exception):
    """Something else than numbers and the four operations."""


def complaint(facts: Mapping[str, Any]) -> str:
    """What is wrong with the numbers and the target of a problem; empty where nothing is."""
    numbers, target = facts.get("numbers"), facts.get("target")
    if not isinstance(numbers, list) or not 1 <= len(numbers) <= _MOST_NUMBERS or not all(map(_is_number, numbers)):
        return f"needs 'numbers', a list of 1 to {_MOST_NUMBERS} positive whole numbers, as in {EXAMPLE}"
    if not _is_whole(target):
        return f"needs 'target', a whole number, as in {EXAMPLE}"
    return ""


def question(numbers: list[int], target: int) -> str:
    """A problem in words."""
    return (
        f"Use each of the numbers {', '.join(map(str, numbers))} exactly once, with +, -, *, / and parentheses, to "
        f"make {target}. The answer is the expression."
    )


def decide(facts: Mapping[str, Any], answer: str) -> Ruling:
    """Whether an answer, in LaTeX or plain, reaches the target by the rules; ``= 98`` after it does no harm."""
    target = Fraction(facts["target"])
    left, _, right = normalized(answer).partition("=")
    if right.strip():
        stated = parse(right.strip())
        if stated is None or rational(stated) != target:
            return Ruling(False, "what stands after = is not the target")
    tree = parse(left.strip())
    try:
        used = [] if tree is None else list(_numbers(tree))
    except _NotAllowed as error:
        return Ruling(False, str(error))
    if tree is None:
        return Ruling(False, "no expression of numbers with +, -, *, / and parentheses")
    if Counter(used) != Counter(map(Fraction, facts["numbers"])):
        return Ruling(False, "does not use each of the numbers exactly once")
    if rational(tree) != target:
        return Ruling(False, "does not reach the target")
    return Ruling(True, "reaches the target with each number used once")


def _numbers(node: Node) -> Iterator[Fraction]:
    """The numbers that stand in an expression.

    Raises:
        _NotAllowed: There is something else in it.
    """
    if node.kind == "number" and re.fullmatch(r"[0-9,]+", node.text.strip()) and node.value is not None:
        yield node.value
    elif node.kind in _OPERATIONS:
        for arg in node.args:
            yield from _numbers(arg)
    else:
        raise _NotAllowed(f"{node.text[:40]!r} is not one of the numbers, nor one of +, -, *, /")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _is_number(value: object) -> bool:
    return _is_whole(value) and isinstance(value, int) and value > 0
