"""Numbers as people write them, compared exactly, and whether anything is left to calculate in them."""

import re
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from motif_lite.grading.syntax import Node, parse, rational

_DECIMAL = re.compile(
    r"[-+]?\s*[0-9,]*\.([0-9]+)(?:\s*\\(?:times|cdot)\s*10\s*\^\s*(?:\{\s*([-+]?[0-9]{1,3})\s*\}|([0-9])))?"
)
_FLOAT = re.compile(r"[-+]?[0-9](?:\.[0-9]{1,20})?e[-+][0-9]{2,3}")
"""As a column of numbers is read: ``1e-05``."""

_INTEGER = re.compile(r"[-+]?(?:[0-9]+|[0-9]{1,3}(?:,[0-9]{3})+)")

_FEWEST_DECIMALS = 6
"""So many places must a decimal have to stand for a number that it only rounds."""


@dataclass(frozen=True, slots=True)
class Value:
    """How a value is written.

    Attributes:
        number: Where it is rational.
        left_to_do: The first operation that could be carried out, as written; empty where none is.
        needs: Which kinds of numbers and operations it is made of: ``root``, ``pi``, ``e``, ``i``, ``sum``, ``letter``.
    """

    tree: Node
    number: Fraction | None
    left_to_do: str
    needs: frozenset[str]


@lru_cache(maxsize=2000)
def read(text: str) -> Value | None:
    """The value in a normalized answer without unit and percent sign; None where it is none of the grammar."""
    if _INTEGER.fullmatch(text) and len(text) <= 1000:
        number = Fraction(int(text.replace(",", "")))
        return Value(Node("number", text, value=number), number, "", frozenset())
    if _FLOAT.fullmatch(text):
        number = Fraction(text)
        return Value(Node("number", text, value=number), number, "", frozenset())
    tree = parse(text)
    if tree is None:
        return None
    needs: set[str] = set()
    return Value(tree, rational(tree), _left_to_do(tree, needs), frozenset(needs))


def is_finished(value: Value) -> bool:
    """Whether it is a value, and not an expression: no letters, nothing left to do."""
    return not value.left_to_do and "letter" not in value.needs


def is_linear(text: str) -> bool:
    """Whether a single letter stands there once with numbers around it: ``-x``, ``2x+1``, ``x/3``; not a bare one."""
    value = read(text)
    return value is not None and value.tree.kind != "letter" and _num_letters(value.tree) == 1


def _num_letters(node: Node) -> int | None:
    """In a tree of rational numbers and letters; None where there is anything else."""
    if node.kind in ("number", "mixed", "letter"):
        return int(node.kind == "letter")
    if node.kind not in ("sum", "product", "fraction", "negative"):
        return None
    numbers = [_num_letters(arg) for arg in node.args]
    return None if None in numbers else sum(filter(None, numbers))


def equal(own: Fraction, other: Fraction, own_text: str, other_text: str) -> bool:
    """Whether two numbers are the same, exactly or because one side rounds the other to six places or more."""
    if own == other:
        return True
    mine, theirs = places(own_text), places(other_text)
    if (mine is None) == (theirs is None):
        return False
    decimal, number, digits = (own, other, mine) if theirs is None else (other, own, theirs)
    return not _terminates(number) and digits is not None and _rounds(decimal, number, digits)


def is_near(own: str, other: str) -> bool:
    """Whether one number is close to another, to 5 %; what is no rational number is taken to be."""
    mine, theirs = read(own), read(other)
    if not mine or not theirs or mine.number is None or theirs.number is None:
        return True
    return abs(mine.number - theirs.number) <= abs(mine.number) / 20


def places(text: str) -> int | None:
    """Decimal places of a plain decimal that has enough of them to stand for what it rounds; None for anything else."""
    match = _DECIMAL.fullmatch(text)
    if not match or len(match[1]) < _FEWEST_DECIMALS:
        return None
    return len(match[1]) - int(match[2] or match[3] or 0)


def _rounds(decimal: Fraction, number: Fraction, digits: int) -> bool:
    """Whether a decimal is a number rounded, or cut off, to so many places."""
    unit = Fraction(10) ** -digits
    cut_off = abs(decimal) <= abs(number) < abs(decimal) + unit and decimal * number > 0
    margin = max(unit / 2, abs(number) / 10**15)  # 16 digits are as many as a computer's numbers have
    return abs(number) >= unit * 1000 and (abs(decimal - number) <= margin or cut_off)


def _terminates(number: Fraction) -> bool:
    """Whether it is a decimal itself, which none of fewer places stands for."""
    below = number.denominator
    for prime in (2, 5):
        while below % prime == 0:
            below //= prime
    return below == 1


def _left_to_do(node: Node, needs: set[str]) -> str:
    """What could be calculated in a tree; notes what it is made of."""
    if node.kind in ("number", "mixed"):
        return ""
    if node.kind in ("constant", "letter"):
        needs.add(node.text if node.kind == "constant" else "letter")
        return ""
    inner = next(filter(None, (_left_to_do(arg, needs) for arg in node.args)), "") if node.kind != "power" else ""
    check = _CHECKS.get(node.kind)
    return inner or (check(node, needs) if check else node.text)


def _sum(node: Node, needs: set[str]) -> str:
    needs.add("sum")
    terms = [_without_sign(term) for term in node.args]
    if sum(rational(term) is not None for term in terms) > 1 or any(map(_holds_sum, terms)):
        return node.text
    likes = Counter(_irrational_part(term) for term in terms)
    return node.text if likes and max(likes.values()) > 1 else ""


def _product(node: Node, needs: set[str]) -> str:
    if _scientific(node):
        return ""
    numbers = sum(rational(factor) is not None for factor in node.args)
    sums = sum(_holds_sum(factor) for factor in node.args)
    roots = sum(_without_sign(factor).kind == "root" for factor in node.args)
    units = sum(factor.text == "i" for factor in node.args if factor.kind == "constant")
    return node.text if max(numbers, sums, roots, units) > 1 else ""


def _fraction(node: Node, needs: set[str]) -> str:
    above, below = node.args
    if _is_plain(above) and _is_plain(below):
        return ""
    both_numbers = rational(above) is not None and rational(below) is not None
    return node.text if both_numbers or _holds_sum(below) else ""


def _power(node: Node, needs: set[str]) -> str:
    base, exponent = node.args
    power, number = rational(exponent), rational(base)
    inner: set[str] = set()
    if base.kind == "constant" and base.text != "i":
        left = _left_to_do(exponent, inner)
        needs |= inner | {base.text}
        return left
    if number is not None and power is not None and power.denominator > 1 and _is_plain(base):
        needs.add("root")
        return ""
    if base.kind == "letter":
        needs.add("letter")
        return ""
    if number == 10 and power is not None and power.denominator == 1 and _is_plain(exponent):
        return ""
    _left_to_do(base, needs)
    _left_to_do(exponent, needs)
    return node.text


def _rooted(node: Node, needs: set[str]) -> str:
    needs.add("root")
    radicand = node.args[0]
    return node.text if rational(node) is not None or radicand.kind in ("root", "power") else ""


def _nothing(node: Node, needs: set[str]) -> str:
    return ""


_CHECKS = {
    "sum": _sum, "product": _product, "fraction": _fraction, "power": _power, "root": _rooted, "negative": _nothing,
    "percent": _nothing,
}  # fmt: skip


def _without_sign(node: Node) -> Node:
    return node.args[0] if node.kind == "negative" else node


def _is_plain(node: Node) -> bool:
    return _without_sign(node).kind == "number"


def _scientific(node: Node) -> bool:
    r"""``6.72\times 10^{-5}``."""
    if len(node.args) != 2 or not _is_plain(node.args[0]) or node.args[1].kind != "power":
        return False
    base, exponent = node.args[1].args
    return base.value == 10 and _is_plain(exponent)


def _holds_sum(node: Node) -> bool:
    """Whether a sum stands in it outside roots and exponents."""
    return node.kind == "sum" or (
        node.kind in ("product", "fraction", "negative") and any(_holds_sum(arg) for arg in node.args)
    )


def _irrational_part(node: Node) -> str:
    """What is left of a term without its rational factors: terms with the same can be added up."""
    node = _without_sign(node)
    if rational(node) is not None:
        return ""
    if node.kind == "product":
        return "*".join(sorted(filter(None, map(_irrational_part, node.args))))
    if node.kind == "fraction" and rational(node.args[1]) is not None:
        return _irrational_part(node.args[0])
    return node.text.replace(" ", "")
