"""Sums as GSM8K writes them, as trees that can be computed again with other numbers."""

import ast
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

_OPERATIONS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip
_SIGNS: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}

_LARGEST_CHANGE = 10
"""A new result is at most so many times as large or small as the old one."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A number in a sum.

    Attributes:
        question: It is one of the question's.
        step: It is the result of the earlier sum at this place. Neither of both: it stays what it is.
    """

    value: Fraction
    question: bool = False
    step: int | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """An operation."""

    kind: type[ast.operator]
    left: "Node | Leaf"
    right: "Node | Leaf"


Tree = Node | Leaf


def tree_of(text: str) -> Tree:
    """A sum as it stands.

    Raises:
        ValueError: It has something else than numbers and the four operations.
        SyntaxError: It is no sum.
    """
    return _of(ast.parse(re.sub(r"[\s,$]", "", text), mode="eval").body)


def _of(node: ast.expr) -> Tree:
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        return Node(type(node.op), _of(node.left), _of(node.right))
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return Leaf(Fraction(str(node.value)))
    raise ValueError("not one of the four operations")


def fraction(text: str) -> Fraction:
    """A number as people write it, with commas and dollar signs.

    Raises:
        ValueError: It is something else, or in a form that could be longer than memory (``1e999999999``).
    """
    plain = re.sub(r"[\s,$]", "", text)
    if not re.fullmatch(r"\d*\.?\d+", plain):
        raise ValueError("not a plain number")
    return Fraction(plain)


def leaves_of(tree: Tree) -> Iterator[Leaf]:
    """The numbers of a sum, from left to right."""
    if isinstance(tree, Leaf):
        yield tree
    else:
        yield from leaves_of(tree.left)
        yield from leaves_of(tree.right)


def _number(leaf: Leaf, drawn: Mapping[Fraction, Fraction], found: list[Fraction]) -> Fraction:
    if leaf.step is not None and found:
        return found[leaf.step]
    return drawn.get(leaf.value, leaf.value) if leaf.question else leaf.value


def value_of(tree: Tree, drawn: Mapping[Fraction, Fraction], found: list[Fraction]) -> Fraction:
    """What a sum makes.

    Args:
        drawn: Other numbers for those of the question.
        found: The results of the sums before it; none for those that it was written with.

    Raises:
        ValueError: A part of it was positive and is not, or was whole and is not.
    """
    if isinstance(tree, Leaf):
        return _number(tree, drawn, found)
    value = _OPERATIONS[tree.kind](value_of(tree.left, drawn, found), value_of(tree.right, drawn, found))
    if drawn:
        before = value_of(tree, {}, [])
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


def text_of(tree: Tree, drawn: Mapping[Fraction, Fraction], found: list[Fraction]) -> str:
    """The sum with the numbers that `value_of` takes."""
    if isinstance(tree, Leaf):
        return numeral(_number(tree, drawn, found))
    left, right = (text_of(side, drawn, found) for side in (tree.left, tree.right))
    right = f"({right})" if isinstance(tree.right, Node) else right
    left = f"({left})" if isinstance(tree.left, Node) else left
    return f"{left}{_SIGNS[tree.kind]}{right}"


def numeral(value: Fraction) -> str:
    """A number that has an end, with all of its decimals."""
    return str(value) if value.denominator == 1 else f"{Decimal(value.numerator) / Decimal(value.denominator):f}"
