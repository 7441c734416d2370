r"""Whether two answers mean the same, given who can say so of two single values.

What the parts of lists, sets, tuples and equations are, and which must be the same, is decided here; a `Leaf` compares
what is in them. The caller's process passes one that knows numbers (`rules`), the judge's one that knows algebra
(`comparing`).
"""

import re
from collections.abc import Callable, Sequence

from motif_lite.grading import shapes, values
from motif_lite.grading.notation import normalized
from motif_lite.grading.rulings import Ruling
from motif_lite.grading.shapes import Part, Shape

Leaf = Callable[[str, str], Ruling]
"""A gold value and an answer's, both normalized."""

UNKNOWN = Ruling(None, "asked of math-verify")

_HEDGES = re.compile(
    r"\\(?:ne|neg|not|notin|sim|Rightarrow|Leftrightarrow|iff|to|x?cancel|bcancel|sout|lor|land|cong|propto|because|therefore)"
    r"(?![A-Za-z])|\?"
)
_COMMANDS = re.compile(r"\\(?:text\{[^{}]*\}|[A-Za-z]+)")
_GREEK = re.compile(r"\\(?:alpha|beta|gamma|delta|epsilon|theta|lambda|mu|rho|sigma|tau|phi|omega|angle)(?![A-Za-z])")
_ANY_LETTER, _CONSTANT_LETTERS = re.compile("[A-Za-z]"), re.compile(r"(?<![A-Za-z])[ei](?![A-Za-z])")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_MULTIPLE = re.compile(r"[-+]?\s*[0-9][0-9.,]*\s*(?:\\cdot\s*|\\times\s*)?[A-Za-z](?:_(?:[A-Za-z0-9]|\{[^{}]*\}))?")
_LONGEST = 2000
"""Characters; more than twice as many as a gold answer of a data set may have."""

_MOST_PARTS = 60


def match(gold: str, answer: str, leaf: Leaf) -> Ruling:
    """The verdict on two answers as they were written."""
    try:
        return _matched(gold, answer, leaf)
    except RecursionError:
        return Ruling(False, "brackets too deep")


def _matched(gold: str, answer: str, leaf: Leaf) -> Ruling:
    if max(len(gold), len(answer)) > _LONGEST:
        return Ruling(gold.strip() == answer.strip(), "compared as text")
    if _CONTROL.search(answer):
        return Ruling(gold == answer, "the same text" if gold == answer else "a control character")
    own, other = (shapes.with_intervals(normalized(text)) for text in (gold, answer))
    if not other:
        return Ruling(False, "the box is empty")
    if shapes.compact(own) == shapes.compact(other):
        return Ruling(True, "the same text")
    if shapes.region(other) is None and (
        hedge := next((sign for sign in _HEDGES.findall(other) if sign not in own), None)
    ):
        return Ruling(False, f"{hedge} is no part of the answer")
    return _compared(own, other, leaf)


def _compared(own: str, other: str, leaf: Leaf) -> Ruling:
    """Two normalized texts, which may be conditions, lists or single values."""
    regions = shapes.region(own), shapes.region(other)
    if regions[0] or regions[1]:
        return _regions(own, other, regions, leaf)
    if shapes.has_inequality(other) and not shapes.has_inequality(own):
        return _unsolved(own, other, leaf)
    mine, theirs = shapes.shape(own), shapes.shape(other)
    if mine.kind == theirs.kind == "one":
        return _single(mine.parts[0], theirs.parts[0], leaf)
    if theirs.kind == "one" and mine.kind in ("list", "set"):
        theirs = shapes.shape(other, thousands=False)  # where a list is asked for, 100,200 is one
    return _several(mine, theirs, leaf)


def _regions(
    own: str, other: str, regions: tuple[tuple[str, str] | None, tuple[str, str] | None], leaf: Leaf
) -> Ruling:
    """Conditions on a variable against conditions or an interval."""
    mine, theirs = regions
    if mine and theirs is None and shapes.has_inequality(other):
        return _unsolved(mine[1], other, leaf)
    if mine and theirs:
        if mine[0] != theirs[0]:
            return Ruling(False, f"a condition on {theirs[0]}, not {mine[0]}")
        return _interval_texts(mine[1], theirs[1], leaf)
    set_ = shapes.part(other if mine else own).value
    return _interval_texts(mine[1], set_, leaf) if mine else _interval_texts(set_, theirs[1] if theirs else "", leaf)


def _unsolved(own: str, other: str, leaf: Leaf) -> Ruling:
    """An inequality that is not solved for its variable, where the gold answer is."""
    ruling = leaf(shapes.part(own).value, other)
    return Ruling(False, "an inequality is left to solve", undone=True) if ruling.correct else ruling


def _interval_texts(own: str, other: str, leaf: Leaf) -> Ruling:
    mine, theirs = shapes.shape(own), shapes.shape(other)
    if mine.kind == theirs.kind == "tuple":
        return _several(mine, theirs, leaf)
    if "one" in (mine.kind, theirs.kind) and not re.search(r"\\c[ua]p|\\setminus|\\mathbb|\\infty|[(\[{]", own):
        return Ruling(False, "a condition, not a value")
    return leaf(own, other)


def _single(own: str, other: str, leaf: Leaf) -> Ruling:
    """One value each, perhaps with names and steps."""
    mine, theirs = shapes.part(own), shapes.part(other)
    of_tuples = len(shapes.names(mine.name)) > 1 or len(shapes.names(theirs.name)) > 1
    if mine.name and theirs.name and not of_tuples and not _same_name(mine.name, theirs.name):
        return Ruling(False, f"the name differs: {theirs.name}, not {mine.name}")
    if not mine.name and len(mine.sides) > 1 and not _is_chain(mine):
        return leaf(own, other)  # an equation: no side of it is a value
    if any(_MULTIPLE.fullmatch(side) for side in theirs.sides[:-1]) and len(mine.sides) == 1:
        return Ruling(False, f"a multiple of a variable, not its value: {theirs.sides[0]}={theirs.value}")
    if len(mine.sides) == 1 and _is_constant(theirs.value) and any(map(values.is_linear, theirs.sides[:-1])):
        return Ruling(False, f"an equation is left to solve: {theirs.sides[0]}={theirs.value}")
    if mine.name and len(theirs.sides) > 1 and not theirs.name and not _is_chain(theirs):
        return leaf(own, other)
    return _values(mine, theirs, leaf)


def _is_chain(part: Part) -> bool:
    r"""Whether its sides are steps to a value, as in ``6 \times 7 = 42``, and not an equation in a variable."""
    return not re.search(
        r"(?<![A-Za-z\\])(?![eid](?![A-Za-z]))[A-Za-z](?![A-Za-z]*\})", re.sub(r"\\[A-Za-z]+", "", "".join(part.sides))
    )


def _values(mine: Part, theirs: Part, leaf: Leaf) -> Ruling:
    """The values of two parts, and whether the steps to the answer's agree with it."""
    ruling = _compared_values(_in_order(mine), _in_order(theirs), leaf)
    if ruling.correct is False and not ruling.undone:
        return ruling
    for side in theirs.sides[:-1]:
        step = leaf(theirs.value, side)
        if step.correct is None:
            return UNKNOWN
        if not step.correct and not step.undone and _is_constant(side):
            return Ruling(False, f"the sides of an equation differ: {side} and {theirs.value}")
        if ruling.undone and (step.correct or step.undone):
            ruling = leaf(mine.value, side)
    far = next((each for each in theirs.approximations if not values.is_near(theirs.value, each)), "")
    if far and len(theirs.sides) == 1 and not theirs.name:
        return Ruling(False, f"{theirs.value} is not nearly {far}")
    return ruling


def _compared_values(own: str, other: str, leaf: Leaf) -> Ruling:
    mine, theirs = shapes.shape(own), shapes.shape(other)
    return leaf(own, other) if mine.kind == theirs.kind == "one" else _several(mine, theirs, leaf)


def _is_constant(side: str) -> bool:
    """Whether a side of an equation has no letter that may stand for a number."""
    if value := values.read(side):
        return "letter" not in value.needs
    bare = _COMMANDS.sub("", side)
    return not (_GREEK.search(side) or _ANY_LETTER.search(_CONSTANT_LETTERS.sub("", bare)))


def _in_order(part: Part) -> str:
    """The value, a tuple's parts in the order of their names: ``(y,x)=(5,6)`` is ``(6,5)``."""
    of = shapes.names(part.name) if part.name else ()
    values = shapes.shape(part.value)
    if len(of) < 2 or values.kind != "tuple" or len(values.parts) != len(of) or len(set(of)) < len(of):
        return part.value
    ordered = [value for _, value in sorted(zip(map(_letter, of), values.parts, strict=True))]
    return values.brackets[0] + ",".join(ordered) + values.brackets[1]


def _letter(name: str) -> str:
    return name.lstrip("\\")


def _same_name(own: str, other: str) -> bool:
    """``f(x)`` may be called ``y``."""
    mine, theirs = sorted((_renamed(own), _renamed(other)), key=len)
    return mine == theirs or (mine == "y" and bool(re.fullmatch(r"[A-Za-z]\(x\)", theirs)))


def _renamed(name: str) -> str:
    return re.sub(r"\\text\{\s*([^{}]*?)\s*\}|[{}\s]", r"\1", name)


def _several(mine: Shape, theirs: Shape, leaf: Leaf) -> Ruling:
    """Lists, sets and tuples."""
    if (
        len(mine.parts) == 1
        and mine.kind in ("set", "one")
        and theirs.kind in ("set", "one")
        and len(theirs.parts) == 1
    ):
        return _single(mine.parts[0], theirs.parts[0], leaf)
    if len(mine.parts) != len(theirs.parts):
        if mine.kind == theirs.kind == "one":
            return leaf(mine.parts[0], theirs.parts[0])
        return _of_different_length(mine, theirs, leaf)
    if len(mine.parts) > _MOST_PARTS:
        return Ruling(False, f"more than {_MOST_PARTS} parts, not in the order of the gold answer")
    own, other = list(map(shapes.part, mine.parts)), list(map(shapes.part, theirs.parts))
    if mine.kind == "tuple":
        return _tuple(mine, theirs, own, other, leaf)
    if theirs.kind == "tuple":
        if mine.kind == "set" or theirs.brackets != "()":
            return Ruling(False, "a tuple or an interval, not a list")
        return _in_sequence(own, other, leaf)
    return _list(own, other, leaf)


def _of_different_length(mine: Shape, theirs: Shape, leaf: Leaf) -> Ruling:
    """One side may still hold the other's parts: ``(x,y)=(5,6)`` for ``5,6``, a matrix, a union."""
    if len(theirs.parts) == 1 and theirs.kind == "one":
        part = shapes.part(theirs.parts[0])
        if part.name and part.value != theirs.parts[0]:
            inner = shapes.shape(_in_order(part))
            return _several(mine, inner, leaf) if len(inner.parts) == len(mine.parts) else _wrong_number(mine, theirs)
        if mine.kind == "tuple" or re.search(r"\\(?:begin|c[ua]p|setminus|mathbb)", theirs.parts[0]):
            return leaf(_written(mine), theirs.parts[0])
    if len(mine.parts) == 1 and mine.kind == "one":
        part = shapes.part(mine.parts[0])
        if part.name and part.value != mine.parts[0]:
            inner = shapes.shape(_in_order(part))
            return (
                _several(inner, theirs, leaf) if len(inner.parts) == len(theirs.parts) else _wrong_number(mine, theirs)
            )
        if re.search(r"\\(?:begin|c[ua]p|setminus|mathbb)", mine.parts[0]):
            return leaf(mine.parts[0], _written(theirs))
    return _wrong_number(mine, theirs)


def _wrong_number(mine: Shape, theirs: Shape) -> Ruling:
    return Ruling(False, f"{len(theirs.parts)} values, not {len(mine.parts)}")


def _written(shape: Shape) -> str:
    inner = ",".join(shape.parts)
    if shape.kind == "tuple":
        return shape.brackets[0] + inner + shape.brackets[1]
    return rf"\{{{inner}\}}" if shape.kind == "set" else inner


def _tuple(mine: Shape, theirs: Shape, own: Sequence[Part], other: Sequence[Part], leaf: Leaf) -> Ruling:
    if theirs.kind == "set":
        return Ruling(False, "a set, not a tuple")
    if theirs.kind == "tuple":
        if mine.brackets != theirs.brackets:
            return Ruling(False, f"the brackets differ: {theirs.brackets}, not {mine.brackets}")
        return _in_sequence(own, other, leaf)
    if mine.brackets != "()" or any("\\infty" in part for part in mine.parts):
        return Ruling(False, "a list, not an interval")
    if {"or", "\\lor"} & set(theirs.joined):
        return Ruling(False, "alternatives, not a tuple")
    if any(len(part.sides) > 1 and not part.name and not _is_chain(part) for part in other):
        return Ruling(False, "equations, not the values of a tuple")
    of = [part.name for part in other]
    if any(of):
        if not all(of) or len(set(of)) < len(of):
            return Ruling(False, "not every part of the tuple is named once")
        other = [part for _, part in sorted(zip(map(_letter, of), other, strict=True), key=lambda pair: pair[0])]
    return _in_sequence(own, other, leaf)


def _list(own: Sequence[Part], other: Sequence[Part], leaf: Leaf) -> Ruling:
    """Values in any order, by their names where both sides name them."""
    mine, theirs = [_renamed(part.name) for part in own], [_renamed(part.name) for part in other]
    if all(mine) and all(theirs) and sorted(mine) == sorted(theirs):
        if len(set(mine)) == len(mine):
            by_name = dict(zip(theirs, other, strict=True))
            return _in_sequence(own, [by_name[name] for name in mine], leaf)
    elif all(mine) and all(theirs) and {_base(name) for name in mine} != {_base(name) for name in theirs}:
        return Ruling(False, "the names differ")
    elif all(mine) and not any(theirs) and len({_base(name) for name in mine}) == len(mine) > 1:
        return _in_sequence(own, other, leaf)  # the gold answer's order says which is which
    return _in_any_order(own, other, leaf)


def _base(name: str) -> str:
    return name.partition("_")[0].rstrip("0123456789")


def _in_sequence(own: Sequence[Part], other: Sequence[Part], leaf: Leaf) -> Ruling:
    return _all([_nested(mine, theirs, leaf) for mine, theirs in zip(own, other, strict=True)])


def _nested(mine: Part, theirs: Part, leaf: Leaf) -> Ruling:
    own, other = shapes.shape(_in_order(mine)), shapes.shape(_in_order(theirs))
    if (own.kind, other.kind) == ("one", "one"):
        return _values(mine, theirs, leaf)
    return _several(own, other, leaf)


def _all(rulings: Sequence[Ruling]) -> Ruling:
    for ruling in rulings:
        if ruling.correct is False and not ruling.undone:
            return ruling
    if unknown := next((ruling for ruling in rulings if ruling.correct is None), None):
        return unknown
    return next((ruling for ruling in rulings if ruling.undone), rulings[0])


def _in_any_order(own: Sequence[Part], other: Sequence[Part], leaf: Leaf) -> Ruling:
    """Multisets: every part of one is a part of the other as often."""
    left, rulings, unknown = list(other), [], False
    for mine in own:
        found = [(_nested(mine, theirs, leaf), index) for index, theirs in enumerate(left)]
        same = next((pair for pair in found if pair[0].correct), None) or next((p for p in found if p[0].undone), None)
        if same:
            rulings.append(same[0])
            left.pop(same[1])
        elif any(ruling.correct is None for ruling, _ in found):
            unknown = True
        else:
            return Ruling(False, f"nothing equals {mine.value}")
    return UNKNOWN if unknown else _all(rulings)
