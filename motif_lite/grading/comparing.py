"""What the judge's forked process runs: whether math-verify takes two answers for the same, and by which rule.

Imports nothing but the standard library and modules of this folder that do the same; math-verify is imported on first
use, as the caller's process never needs it.
"""

import re
from typing import Any

from motif_lite.grading.rulings import Ruling

_EQUALS = re.compile(r"(?<![<>:!])=+")
_LIST_SIGN = re.compile(r"[,;]|\\text\{ *(?:and|or) *\}")


def compare(gold: str, answer: str) -> Ruling:
    """Whether two answers in LaTeX mean the same; takes as long as it takes."""
    from math_verify import verify

    golds, answers = _parsed(gold), _parsed(answer)
    same = golds and answers and verify(golds, answers, allow_set_relation_comp=True, timeout_seconds=None)
    if same and _contradicts_itself(answer):
        return Ruling(False, "the sides of an equation differ")
    return Ruling(True, "equivalent by math-verify") if same else Ruling(False, "not equivalent by math-verify")


def warm_up() -> None:
    """Pay for the first parse of a process, which is slow, so that no fork has to."""
    compare("\\frac{1}{2}", "0.5 \\text{ cm}")
    compare("x^2+1", "\\{1, \\sqrt{2}\\}")


def _parsed(text: str) -> list[Any]:
    from math_verify import LatexExtractionConfig, parse

    extraction = (LatexExtractionConfig(boxed_match_priority=0),)
    found: list[Any] = parse(f"\\boxed{{{text}}}", extraction_config=extraction, parsing_timeout=None)
    return found


def _contradicts_itself(answer: str) -> bool:
    r"""Whether the answer is an equation, or a list with one, whose constant sides differ: ``4=3``, ``x=4=3``.

    math-verify takes the last side of an equation for its value, so the others could hold any guess.
    """
    from math_verify import verify

    for equation in _outside_brackets(_LIST_SIGN, answer):
        sides = [_parsed(side) for side in _outside_brackets(_EQUALS, equation)]
        constants = [side for side in sides if side and getattr(side[0], "is_number", False)]
        if not all(verify(constants[-1], side, timeout_seconds=None) for side in constants[:-1]):
            return True
    return False


def _outside_brackets(sign: re.Pattern[str], text: str) -> list[str]:
    """The parts of a text between those occurrences of a sign that stand in no brackets."""
    parts, depth, start = [], 0, 0
    for match in re.finditer(rf"{sign.pattern}|\\?[(\[{{]|\\?[)\]}}]", text):
        bracket = match[0][-1]
        depth += (bracket in "([{") - (bracket in ")]}")
        if depth <= 0 and sign.fullmatch(match[0]):
            parts.append(text[start : match.start()])
            start = match.end()
    return [*parts, text[start:]]
