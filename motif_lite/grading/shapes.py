r"""How an answer is made up: one value, a list, a set, a tuple, named parts, conditions on a variable.

Works on texts in the spelling of `notation.normalized`, and on nothing inside brackets unless told to.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Kind = Literal["one", "list", "set", "tuple"]

_OPEN, _CLOSE = "([{", ")]}"
_MARKS = re.compile(
    r"\\[{}]|\\(?:langle|lfloor|lceil)(?![A-Za-z])|\\(?:rangle|rfloor|rceil)(?![A-Za-z])|[(\[{)\]}]"
    r"|\\text\{[^{}]*\}|\\(?:lor|land|quad|ldots|Rightarrow|iff|begin|end|cup|cap|setminus|approx|ne|le|ge|in)(?![A-Za-z])"
    r"|\\\\|\\.|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])|[,;=<>|]|\\[A-Za-z]+"
)
_JOINS = frozenset({",", ";", "\\lor", "\\land", "\\quad", "\\\\", "and", "or"})
_TEXT_JOIN = re.compile(r"\\text\{\s*[,;]?\s*(and|or|and also|or else)\s*[,;]?\s*\}")
_RELATION_SIGNS = frozenset({"<", ">", "\\le", "\\ge", "\\ne", "="})
_FLIPPED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le"}
_THOUSANDS = re.compile(r"(?<![0-9.,])[1-9][0-9]{0,2}(?:,[0-9]{3})+(?![0-9,])")
_BRACKET = re.compile(r"[(\[]|\\[{]|\\langle")
_CONDITION = re.compile(r"[<>|:]|\\(?:[lg]e|ne)(?![A-Za-z])")
_PLAIN = re.compile(r"(?:[-+0-9./ ]|\\(?:frac|sqrt|pi)(?![A-Za-z])|[{}])*")
_LOOSE_GAP = re.compile(r"(?<![0-9A-Za-z])\s+|\s+(?![0-9A-Za-z])")
_UNLIKE_GAP = re.compile(r"(?<=[0-9])\s+(?=[A-Za-z])|(?<![A-Za-z\\])(?<=[A-Za-z])\s+(?=[0-9])")
_SINGLE_SCRIPT = re.compile(r"([_^])\{([A-Za-z0-9])\}")
_INEQUALITY = re.compile(r"[<>]|\\[lg]e(?![A-Za-z])")
_BUILDER = re.compile(r"\\\{[^{}|]*\|(?:[^{}\\]|\\[A-Za-z]|\{[^{}]*\})*\\\}")
_WITHOUT = re.compile(r"-\s*(?=\\\{)")
_TEXT = re.compile(r"\\text\{([^{}]*)\}")
_JOIN_IN_TEXT = re.compile(r"\\text\{[^{}]*(?:,|\b(?:and|or)\b)[^{}]*\}")
_PROSE = re.compile(r"[A-Za-z ,;'-]+")
_OUTWARD = re.compile(r"\](?P<inner>[^\[\]()]*,[^\[\]()]*)(?P<end>[\[\]])")
_QUALIFIED = re.compile(r",?\s*\\text\{\s*,?\s*for (?:all|any|every|each)\b.*$", re.DOTALL)
_SUBSCRIPT = r"(?:_(?:\{[^{}]*\}|[A-Za-z0-9]|\\[a-z]+))?"
_NO_LETTER = r"(?!(?:in|infty|pi|pm|mp|sqrt|frac|text|sin|cos|tan|log|ln)(?![A-Za-z]))"
_LETTER = rf"(?:[A-Za-z]|\\{_NO_LETTER}[A-Za-z]+){_SUBSCRIPT}'*"
_WORDS = r"(?:\\text\{[^{}]*\}|[A-Za-z]{2,}(?:\s+[A-Za-z]+)*)" + _SUBSCRIPT
_NAME = re.compile(
    rf"(?:{_LETTER}|{_WORDS}|(?:\\angle|\\triangle|\\overline|\\vec)\s*\{{?\s*[A-Za-z]+\s*\}}?"
    rf"|(?:{_LETTER}|[A-Za-z]+)\s*\(\s*[-A-Za-z0-9,\s\\]+\s*\)|\|\s*[A-Z]{{2}}\s*\||[A-Z]+{_SUBSCRIPT}\s*:\s*[A-Z]+{_SUBSCRIPT})"
)
_NAMES = re.compile(rf"\(\s*{_NAME.pattern}(?:\s*,\s*{_NAME.pattern})+\s*\)")


@dataclass(frozen=True, slots=True)
class Part:
    r"""One value with its names: ``x=3`` and ``x=6/2=3`` have one, ``(x,y)=(1,2)`` has ``(x,y)``.

    Attributes:
        name: Empty where there is none.
        value: The last side of the equations, or the first before ``\approx``.
        sides: All of them but names.
        approximations: What follows ``\approx``.
    """

    name: str
    value: str
    sides: tuple[str, ...]
    approximations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Shape:
    """What an answer is made up of.

    Attributes:
        brackets: Of a tuple, as written: ``()``, ``[)``.
        joined: The signs between the parts: ``,``, ``and``, ``or``.
    """

    kind: Kind
    parts: tuple[str, ...]
    brackets: str = ""
    joined: tuple[str, ...] = ()


def pieces(text: str, signs: frozenset[str]) -> tuple[list[str], list[str]]:
    """The parts of a text between signs that stand in no brackets, and those signs."""
    found, between, depth, start = [], [], 0, 0
    for match in _MARKS.finditer(text):
        mark = match[0]
        if mark in ("{", "(", "[", "\\{", "\\langle", "\\lfloor", "\\lceil", "\\begin"):
            depth += 1
        elif mark in ("}", ")", "]", "\\}", "\\rangle", "\\rfloor", "\\rceil", "\\end"):
            depth -= 1
        elif depth <= 0:
            join = _TEXT_JOIN.fullmatch(mark)
            sign = join[1].split()[0] if join else mark
            if sign in signs:
                found.append(text[start : match.start()].strip())
                between.append(sign)
                start = match.end()
    return [*found, text[start:].strip()], between


def enclosed(text: str) -> tuple[str, str, str] | None:
    """The brackets around a whole text, and what they hold; None where none or several surround it."""
    for left in ("\\{", "\\langle", "(", "["):
        if text.startswith(left):
            break
    else:
        return None
    depth = 0
    for match in _MARKS.finditer(text):
        mark = match[0]
        if mark in ("{", "(", "[", "\\{", "\\langle"):
            depth += 1
        elif mark in ("}", ")", "]", "\\}", "\\rangle"):
            depth -= 1
            if not depth:
                return (left, text[len(left) : match.start()].strip(), mark) if match.end() == len(text) else None
    return None


@lru_cache(maxsize=2000)
def shape(text: str, *, thousands: bool = True) -> Shape:
    """How a normalized answer is made up.

    Args:
        thousands: ``1,234`` outside brackets is a number; otherwise it is a list of two.
    """
    if _PLAIN.fullmatch(text):
        return Shape("one", (text,))
    text = _OUTWARD.sub(_inward, text)
    around = enclosed(text)
    if around is None:
        if _JOIN_IN_TEXT.search(text) and _PROSE.fullmatch(bare := _TEXT.sub(r" \1 ", text)):
            text = bare  # "and" inside a text command joins words, too
        values, signs = _joined(_without_thousands(text) if thousands else text)
        return Shape("list", values, "", signs) if len(values) > 1 else Shape("one", values or (text,))
    left, inner, right = around
    if left == "\\{":
        if _is_builder(inner):
            return Shape("one", (text,))
        return Shape("set", tuple(part for part in _joined(inner)[0] if part))
    parts, _ = pieces(inner, frozenset(",;"))
    if len(parts) > 1:
        brackets = (left + right).replace("\\langle", "(").replace("\\rangle", ")")
        return Shape("tuple", tuple(parts), brackets)
    return shape(inner) if left == "(" and right == ")" and inner else Shape("one", (text,))


def _inward(interval: re.Match[str]) -> str:
    """``]a,b[`` in the usual brackets."""
    return f"({interval['inner']}{')' if interval['end'] == '[' else ']'}"


def _without_thousands(text: str) -> str:
    return _THOUSANDS.sub(lambda match: match[0].replace(",", ""), text) if not _BRACKET.search(text) else text


def _joined(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    found, signs = pieces(text, _JOINS)
    kept = [part for part in found if part]
    if len(kept) < len(found):  # ", and" leaves a gap
        signs = [sign for sign, part in zip(signs, found[1:], strict=True) if part]
    return tuple(expanded for part in kept for expanded in _both_signs(part)), tuple(signs)


def _both_signs(text: str) -> tuple[str, ...]:
    r"""``1 \pm \sqrt{2}`` is two values."""
    if "\\pm" not in text and "\\mp" not in text:
        return (text,)
    upper, lower = (text.replace("\\pm", sign).replace("\\mp", other) for sign, other in ("+-", "-+"))
    return (upper, lower) if enclosed(text) is None else (text,)


@lru_cache(maxsize=2000)
def part(text: str) -> Part:
    """The names and the value of one part."""
    if "=" not in text and "\\approx" not in text and "\\in" not in text and "\\text" not in text:
        return Part("", text, (text,))
    exact, *approximations = pieces(_QUALIFIED.sub("", text), frozenset({"\\approx"}))[0]
    sides, _ = pieces(exact, frozenset("="))
    if approximations and (not sides[-1] or (len(sides) == 1 and is_name(sides[0]))):
        sides = [*sides, approximations.pop(0)]
    member, _ = pieces(sides[-1], frozenset({"\\in"}))
    if len(sides) == 1 and len(member) == 2 and is_name(member[0]):
        sides = member
    sides, rest = [side for side in sides if side] or [text], tuple(approximations)
    if len(sides) > 1 and is_name(sides[0]):
        return Part(compact(sides[0]), sides[-1], tuple(sides[1:]), rest)
    if len(sides) == 2 and is_name(sides[1]):
        return Part(compact(sides[1]), sides[0], (sides[0],), rest)
    return Part("", sides[-1], tuple(sides), rest)


def is_name(text: str) -> bool:
    """Whether a text names a value: ``x``, ``a_3``, ``f(2)``, ``S_{10}``, ``|AB|``, ``Maximum``, ``(x,y)``."""
    return bool(_NAME.fullmatch(text.strip()) or _NAMES.fullmatch(text.strip()))


def has_inequality(text: str) -> bool:
    r"""Whether a text states an inequality, other than behind ``for all``."""
    return bool(_INEQUALITY.search(text)) and bool(_INEQUALITY.search(_QUALIFIED.sub("", text)))


def names(text: str) -> tuple[str, ...]:
    """The names in ``(x,y)``; a single one in any other name."""
    around = enclosed(text) if text.startswith("(") else None
    return tuple(map(compact, pieces(around[1], frozenset(","))[0])) if around else (text,)


@lru_cache(maxsize=2000)
def compact(text: str) -> str:
    """A text without spaces and needless braces, but for spaces that part two numbers or letters from a command."""
    if " " in text or "\n" in text:
        text = _UNLIKE_GAP.sub("", _LOOSE_GAP.sub("", text))
    return _SINGLE_SCRIPT.sub(r"\1\2", text) if "{" in text else text


def _is_builder(inner: str) -> bool:
    return "|" in pieces(inner, frozenset("|"))[1] or bool(re.match(rf"{_LETTER}\s*:", inner))


@lru_cache(maxsize=2000)
def region(text: str) -> tuple[str, str] | None:
    r"""The variable that conditions are about and the set of its values in LaTeX; None where they are no such.

    ``x<1 \text{ or } x>4`` is ``x`` and ``(-\infty,1)\cup(4,\infty)``; a set builder is what its condition says.
    """
    if not _CONDITION.search(text):
        return None
    around = enclosed(text)
    if around and around[0] == "\\{" and _is_builder(around[1]):
        head, *after = re.split(r"\||:", around[1], maxsplit=1)
        return region(after[0].strip()) if after and is_name(head.split("\\in")[0]) else None
    conditions, signs = pieces(text, _JOINS)
    sets = [_interval(condition) for condition in conditions]
    if not any(found and found[2] for found in sets) or any(found is None for found in sets):
        return None
    variables = {found[0] for found in sets if found}
    if len(variables) > 1:
        return None
    join = r"\cup" if any(sign in ("or", "\\lor") for sign in signs) else r"\cap"
    texts = [found[1] for found in sets if found]
    below, above = (next((text for text in texts if mark in text), "") for mark in (r",\infty)", r"(-\infty,"))
    if join == r"\cap" and len(texts) == 2 and below and above:
        return variables.pop(), below.removesuffix(r"\infty)") + above.removeprefix(r"(-\infty,")
    return variables.pop(), join.join(texts)


def with_intervals(text: str) -> str:
    r"""A text with its set builders as intervals: ``\{x | x<2\} - \{0\}`` is ``(-\infty,2)\setminus\{0\}``."""
    if "\\{" not in text or "|" not in text:
        return text
    found = _BUILDER.sub(lambda match: (region(match[0]) or ("", match[0]))[1], text)
    return _WITHOUT.sub(r"\\setminus ", found) if found != text else text


def _interval(condition: str) -> tuple[str, str, bool] | None:
    """The variable, the interval, and whether it is one, of ``a<x<=b``, ``x>a``, ``x=a``."""
    sides, signs = pieces(condition, _RELATION_SIGNS)
    if len(sides) == 2:
        if is_name(sides[1]) and not is_name(sides[0]):
            sides, signs = sides[::-1], [_FLIPPED.get(signs[0], signs[0])]
        elif re.fullmatch(rf"-\s*{_LETTER}", sides[0]):
            sides, signs = [sides[0].strip(" -"), f"-({sides[1]})"], [_FLIPPED.get(signs[0], signs[0])]
        if not is_name(sides[0]) or is_name(sides[1]) or not sides[1]:
            return None
        name, bound = compact(sides[0]), sides[1]
        if signs[0] == "=":
            return name, rf"\{{{bound}\}}", False
        if signs[0] == "\\ne":
            return name, rf"\mathbb{{R}}\setminus\{{{bound}\}}", True
        bracket = {"<": ")", "\\le": "]", ">": "(", "\\ge": "["}[signs[0]]
        below = signs[0] in ("<", "\\le")
        return name, rf"(-\infty,{bound}{bracket}" if below else rf"{bracket}{bound},\infty)", True
    if len(sides) == 3 and "=" not in signs and is_name(sides[1]) and not is_name(sides[0]) and not is_name(sides[2]):
        first, second = signs
        if first in (">", "\\ge") and second in (">", "\\ge"):
            sides, (first, second) = sides[::-1], (_FLIPPED[second], _FLIPPED[first])
        if first in ("<", "\\le") and second in ("<", "\\le"):
            left, right = "(" if first == "<" else "[", ")" if second == "<" else "]"
            return compact(sides[1]), f"{left}{sides[0]},{sides[2]}{right}", True
    return None
