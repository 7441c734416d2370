r"""Units: which words behind or before a number say what it counts, and which change it.

`split` takes a unit off a quantity: ``18\text{ eggs}``, ``9~\text{cm}^2``, ``\$460 per week``, ``240€``. A unit is one
of the table (SI, everyday measures, currencies), or a plural noun, since whatever can be counted is one in English.
Number words, operators and words of doubt never are, and letters of algebra are none: ``5xy``, ``6t``.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from motif_lite.grading import unit_words

_FRACTION_WORD = re.compile(r".*(?:th|ths|illions?|fold|teen|ty)$")
_SQUARE = {"square": "^2", "sq": "^2", "squared": "^2", "cubic": "^3", "cu": "^3", "cubed": "^3"}
_FIRST_WORD = re.compile(r"\\text\{\s*")
_POWERS_OF_TEN = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}

_PIECE = re.compile(
    r"(?P<frac>\\frac\{\\text\{(?P<above>[^{}]*)\}\}\{\\text\{(?P<below>[^{}]*)\}\})|\\text\{(?P<text>[^{}]*)\}"
    r"|(?P<degree>\^\\circ)|(?P<power>\^(?:\{-?[0-9]\}|[0-9]))|(?P<currency>[$€£¥₹¢₩₽₪])|(?P<space>\s+)"
    r"|(?P<command>\\[A-Za-z]+)|(?P<word>[A-Za-zμ]+(?:'s)?\.?)|(?P<chinese>[\u4e00-\u9fff]+)|(?P<slash>/)|(?P<other>.)",
    re.DOTALL,
)
_FRONT = re.compile(
    r"([-+]?)\s*(?:\\text\{\s*)?(US\$|C\$|A\$|[$€£¥₹₩]|(?:Rs|USD|EUR|GBP|INR|CAD|AUD)\b\.?)(?:\s*\})?\s*([-+]?[0-9.\\].*)$"
)
_SCALE = re.compile(r"\^\\circ\s*(?:\\text\{\s*)?([CF])\s*\}?$")
_ORDINAL = re.compile(r"(?<=[0-9])\s*(?:\^\s*\{?\s*)?(?:\\text\{\s*)?(?:st|nd|rd|th)\s*\}?\s*\}?$")


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number, or an expression, and what it counts.

    Attributes:
        unit: In one spelling; empty where there is none.
        unknown: What follows the number and is no unit; empty where all is understood.
    """

    core: str
    unit: str = ""
    unknown: str = ""


def _table() -> dict[str, str]:
    groups = [group.split() for group in unit_words.UNITS.replace("\n", "|").split("|")]
    return {spelling: names[0] for names in groups for spelling in names}


_TABLE = _table()
_CHANGES_VALUE, _NO_FRACTIONS, _TAILS, _ALONE = (
    frozenset(words.split())
    for words in (unit_words.CHANGES_VALUE, unit_words.NO_FRACTIONS, unit_words.TAILS, unit_words.ALONE)
)


@lru_cache(maxsize=2000)
def split(text: str) -> Quantity:
    """The quantity in a normalized answer; the core is all of it where no unit follows or precedes."""
    if front := _FRONT.match(text):
        inner = split(front[1] + front[3])
        currency = _TABLE.get(front[2].strip(".").lower(), _TABLE["$"])
        rate = named(f"{currency} {inner.unknown}") if inner.unknown.startswith(("per ", "a ", "/")) else ""
        return Quantity(inner.core, rate or inner.unit or currency, "" if rate else inner.unknown)
    text = _SCALE.sub(r"\\text{ degree \1}", text)
    if ordinal := _ORDINAL.search(text):
        return Quantity(text[: ordinal.start()], "", "")
    pieces = list(_PIECE.finditer(text))
    start = len(pieces)
    while start and _may_belong(pieces, start - 1):
        start -= 1
    while start < len(pieces) and pieces[start].lastgroup in ("power", "slash", "space"):
        start += 1
    tail = pieces[start:]
    if not start or not tail:
        return Quantity(text)
    core = text[: tail[0].start()].rstrip()
    if not core:
        return Quantity(text)
    unit = _unit(tail)
    if not unit and _FIRST_WORD.sub("", tail[0][0]).strip("} ").partition(" ")[0] in _POWERS_OF_TEN:
        return _multiplied(core, text[tail[0].start() :])
    return Quantity(core, unit) if unit else Quantity(core, "", text[tail[0].start() :])


def _multiplied(core: str, words: str) -> Quantity:
    r"""``5 million dollars`` is ``5\cdot 10^{6}`` dollars."""
    first, _, rest = re.sub(r"\\text\{([^{}]*)\}", r"\1", words).strip().partition(" ")
    unit = named(rest) if rest.strip() else ""
    known = first in _POWERS_OF_TEN and (bool(unit) or not rest.strip())
    return Quantity(rf"{core}\cdot 10^{{{_POWERS_OF_TEN[first]}}}", unit) if known else Quantity(core, "", words)


def _may_belong(pieces: list[re.Match[str]], index: int) -> bool:
    """Whether a piece can be part of a unit at the end."""
    piece = pieces[index]
    if piece.lastgroup == "word" and len(piece[0].rstrip(".")) == 1:
        before = pieces[index - 1] if index else None
        if index and pieces[index - 1].lastgroup == "slash":
            return True
        return (
            piece[0] in unit_words.BARE_LETTERS
            and before is not None
            and before.lastgroup == "space"
            and index > 1
            and pieces[index - 2][0].isdigit()
        )
    if piece.lastgroup == "power":
        return index > 0 and pieces[index - 1].lastgroup in ("text", "word", "frac") and _may_belong(pieces, index - 1)
    return piece.lastgroup in ("frac", "text", "below", "degree", "currency", "space", "word", "chinese", "slash")


def _unit(pieces: list[re.Match[str]]) -> str:
    """The unit that pieces write, in one spelling; empty where they write none."""
    words: list[str] = []
    for piece in pieces:
        if piece["frac"]:
            words += [piece["above"], "/", piece["below"]]
        elif piece["degree"]:
            words.append("degree")
        elif piece["text"] is not None:
            words.append(piece["text"].replace("^", " ^"))
        elif not piece["space"]:
            words.append(piece[0].replace("{", "").replace("}", ""))
    return named(" ".join(words))


def named(words: str) -> str:
    """The unit of some words, in one spelling; empty where they name none: ``square inches`` is ``in^2``."""
    words = " ".join(unit_words.COMPOUND_UNITS.get(word, word) for word in words.split())
    words = re.sub(r"\b(?:per|an?|every)\b", "/", f" {words} ".replace("/", " / "))
    parts = [part.split() for part in words.split("/")]
    found = [_one(part) for part in parts if part]
    return "/".join(found) if found and all(found) and len(found) == len(parts) else ""


def _one(words: list[str]) -> str:
    """A unit without a fraction."""
    power = ""
    words = [word for word in (word.rstrip(".,") for word in words) if word]
    if words and (match := re.fullmatch(r"\^(-?[0-9])", words[-1])):
        power, words = f"^{match[1]}", words[:-1]
    elif len(words) > 1 and words[-1] in ("2", "3") and words[-2] in _TABLE:
        power, words = f"^{words[-1]}", words[:-1]
    if len(words) > 1 and words[0] == "in" and words[1] in ("total", "all"):
        return "total" if len(words) == 2 else ""
    while len(words) > 1 and words[-1] in _TAILS:
        words = words[:-1]
    for word in (words[:1], words[-1:]):
        if len(words) > 1 and word and word[0].lower() in _SQUARE:
            power = _SQUARE[word[0].lower()]
            words = words[1:] if word == words[:1] else words[:-1]
    if "of" in words[1:-1]:
        at = words.index("of")
        if any(_changes(word) for word in words[at:] if word != "of"):
            return ""
        words = words[:at]
    return _noun(words) and _noun(words) + power


def _noun(words: list[str]) -> str:
    if not words or len(words) > 4:
        return ""
    last = words[-1]
    if (
        len(words) == 2
        and words[0].lower().startswith("degree")
        and last.lower() in ("c", "f", "celsius", "fahrenheit")
    ):
        return f"degree-{last[0].upper()}"
    if any(_changes(word) for word in words[:-1]):
        return ""
    name = _TABLE.get(last) or (_TABLE.get(last.lower(), "") if len(last) > 1 else "")
    if len(last) == 1 and last.isascii() and last not in unit_words.TEXT_LETTERS and last not in "$¢":
        return ""
    if last.lower() in _ALONE and len(words) == 1:
        return "total"
    if name:
        return name if len(words) == 1 else " ".join([*map(str.lower, words[:-1]), name])
    return " ".join(map(str.lower, words)) if _is_plural_noun(last.lower()) else ""


def _is_plural_noun(word: str) -> bool:
    return len(word) > 3 and word.isalpha() and word.endswith("s") and not word.endswith("ss") and not _changes(word)


def _changes(word: str) -> bool:
    """Whether a word changes a number's value, or doubts it."""
    word = word.lower().rstrip(".,")
    singular = word.removesuffix("s") or word
    if word in _CHANGES_VALUE or singular in _CHANGES_VALUE:
        return True
    return bool(_FRACTION_WORD.fullmatch(word)) and singular not in _NO_FRACTIONS and word != "teeth"


def differ(own: str, other: str) -> bool:
    """Whether two units are different ones; a missing one, or ``units``, is any, and so is a missing ``per day``."""
    if not own or not other or own == other:
        return False
    (mine, _, my_rate), (theirs, _, their_rate) = own.partition("/"), other.partition("/")
    if my_rate and their_rate and my_rate != their_rate:
        return True
    heads = {_head(mine), _head(theirs)}
    return len(heads) > 1 and not any(name in ("unit", "item", "total") for name, _ in heads)


def _head(unit: str) -> tuple[str, str]:
    """What is counted, without adjectives and plural, and its power."""
    name, _, power = unit.partition("^")
    return name.split()[-1].removesuffix("s") or name, power


def changes_value(text: str) -> bool:
    """Whether any word of a text changes a number's value, or doubts it."""
    return any(map(_changes, re.findall(r"[A-Za-z']+", text.replace("\\text", " "))))
