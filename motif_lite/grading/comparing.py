"""What the judge's forked process runs: the rules, with math-verify for what needs algebra.

Its "equal" is verified: numbers are compared relatively and 0 exactly, expressions at points as well. Imports nothing
but the standard library and modules of this folder that do the same; math-verify and sympy are imported on first use,
as the caller's process never needs them.
"""

import re
from functools import lru_cache
from typing import Any

from motif_lite.grading import rules, values
from motif_lite.grading.matching import match
from motif_lite.grading.rulings import Ruling

_DIGITS = 40
_IMAGINARY, _EULER = (re.compile(rf"(?<![A-Za-z\\\\_]){letter}(?![A-Za-z=_])") for letter in "ie")
_FUNCTION_OF_LETTER = re.compile(
    r"(\\(?:sin|cos|tan|cot|sec|csc|ln|log)(?:\s*\^\s*(?:[0-9]|\{-?[0-9]+\}))?)\s*([A-Za-z]|\\[a-z]+)(?=\s*\\(?:cdot|times)(?![a-z]))"
)
r"""The parser takes ``\cos t \cdot 2`` for the cosine of all of it."""

_COMMAND = re.compile(r"\\[A-Za-z]+")
_ENOUGH = 4
_POINTS = ((7, 3), (-5, 11), (13, 6), (3, 17), (-9, 4), (19, 5), (8, 23), (-2, 29))
"""Numerators and denominators of the values that letters take where two expressions are compared."""


def compare(gold: str, answer: str) -> Ruling:
    """Whether two answers in LaTeX mean the same; takes as long as it takes."""
    return match(gold, answer, lambda own, other: rules.cores(own, other, _equal))


def warm_up() -> None:
    """Pay for the first parse of a process, and of each usual kind of answer, so that no fork has to: it is slow."""
    compare("\\frac{\\sqrt{2}}{2}", "\\frac{1}{\\sqrt{2}}")
    compare("x^2+1", "1+x^2")
    compare("(2,\\infty)", "x>2")
    compare("(x+1)(2x-3)", "x^2-2x(x+1)+3")
    compare("\\{1,2,3x\\}", "\\{x\\cdot 3,2,1\\}")
    compare("\\sin(x)+\\cos^2 x", "\\log_2 8")
    _parsed.cache_clear()


def prepare(gold: str) -> None:
    """Nothing: what the parser finds in a gold answer depends on the other one."""


def _equal(own: str, other: str) -> bool:
    from math_verify import verify

    has_both = _has_both_cases(own) or _has_both_cases(other)
    gold, answer = _parsed(own, has_both), _parsed(other, has_both)
    if gold is None or answer is None:
        return False
    if _is_matrix(gold) and _is_matrix(answer):
        pairs = zip(gold, answer, strict=False)
        return gold.shape == answer.shape and all(_same_entry(mine, theirs) for mine, theirs in pairs)
    if _is_number(gold) and _is_number(answer):
        return _close(gold, answer) or _rounds(gold, answer, own, other)
    if (agree := _agree_at_points(gold, answer)) is not None:
        return agree
    return bool(verify(gold, answer, allow_set_relation_comp=True, timeout_seconds=None))


def _has_both_cases(text: str) -> bool:
    """Whether ``R`` and ``r`` stand in it, which are then two variables; otherwise either may be meant."""
    letters = set(_COMMAND.sub("", text))
    return any(letter.isupper() and letter.lower() in letters for letter in letters)


@lru_cache(maxsize=200)
def _parsed(text: str, keeps_case: bool) -> Any:
    """What math-verify's parser reads in a text, with decimals as exact fractions; None where it reads nothing."""
    from latex2sympy2_extended import NormalizationConfig, latex2sympy, normalize_latex
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig

    text = _FUNCTION_OF_LETTER.sub(r"\1(\2)", text)
    how = NormalizationConfig(basic_latex=True, units=False, nits=True, boxed="none")
    cases = ConversionConfig(lowercase_symbols=not keeps_case)
    is_real = not _IMAGINARY.search(text)
    try:
        found = latex2sympy(
            normalize_latex(text, how), is_real=is_real, normalization_config=None, conversion_config=cases
        )
        return _done(_exact(found, text))
    except MemoryError:  # the fork's limit: no verdict, which its caller has to know
        raise
    except Exception:  # whatever the parser makes of text that is none of its grammar
        return None


def _exact(expression: Any, text: str) -> Any:
    r"""With decimals as fractions, and i and e as what they are where the text has them."""
    from sympy import E, Float, I, Rational, Symbol

    try:
        exact = {each: Rational(str(each)) for each in expression.atoms(Float)}
        for letter, constant, sign in (("i", I, _IMAGINARY), ("e", E, _EULER)):
            if sign.search(text):
                exact |= {each: constant for each in expression.atoms(Symbol) if each.name == letter}
        return expression.xreplace(exact) if exact else expression
    except MemoryError:
        raise
    except Exception:  # the library's own sets and relations need not take it
        return expression


def _done(expression: Any) -> Any:
    try:
        return expression.doit()
    except MemoryError:
        raise
    except Exception:
        return expression


def _is_number(expression: Any) -> bool:
    return bool(getattr(expression, "is_number", False)) and not _is_matrix(expression)


def _is_matrix(expression: Any) -> bool:
    from sympy import MatrixBase

    return isinstance(expression, MatrixBase)


def _same_entry(gold: Any, answer: Any) -> bool:
    from math_verify import verify

    if _is_number(gold) and _is_number(answer):
        return _close(gold, answer)
    agree = _agree_at_points(gold, answer)
    return bool(verify(gold, answer, timeout_seconds=None)) if agree is None else agree


def _close(gold: Any, answer: Any) -> bool:
    """Relatively, to so many digits that no other number passes, and 0 exactly."""
    from sympy import N, nan, zoo

    if gold == answer:
        return not gold.has(nan, zoo)
    if gold.is_Rational and answer.is_Rational:
        return False
    mine, theirs = N(gold, _DIGITS), N(answer, _DIGITS)
    if any(each.has(nan, zoo) or not each.is_finite for each in (mine, theirs)):
        return False
    return _near(mine, theirs)


def _rounds(gold: Any, answer: Any, own: str, other: str) -> bool:
    """Whether one of them is written as a decimal of six places or more that the other rounds to."""
    from sympy import Abs, N, Rational

    mine, theirs = values.places(own), values.places(other)
    digits = theirs if mine is None else mine
    if (mine is None) == (theirs is None) or digits is None:
        return False
    difference = Abs(N(gold - answer, _DIGITS))
    return bool(difference <= max(Rational(10) ** -digits / 2, Abs(N(gold, _DIGITS)) * Rational(10) ** -15))


def _agree_at_points(gold: Any, answer: Any) -> bool | None:
    """Whether two expressions have the same value wherever letters are given numbers.

    No two that anyone writes agree to thirty digits at four points by chance, and it takes a fraction of the time of a
    proof. Points where one is not real are used only where there are no others. None for what has no value at points:
    sets, relations, functions without a rule.
    """
    from sympy import Expr

    if not isinstance(gold, Expr) or not isinstance(answer, Expr):
        return None
    letters = sorted({each.name for each in gold.free_symbols | answer.free_symbols})
    elsewhere, num_agreeing = [], 0
    for start in range(len(_POINTS)):
        point = {name: _POINTS[(start + 3 * n) % len(_POINTS)] for n, name in enumerate(letters)}
        try:
            own, other = _at(gold, point), _at(answer, point)
        except MemoryError:
            raise
        except Exception:  # whatever sympy makes of functions that it does not know
            return None
        if not own.is_number or not other.is_number:
            return None
        if not (own.is_real and other.is_real):
            elsewhere.append((own, other))
        elif not _near(own, other):
            return False
        else:
            num_agreeing += 1
        if num_agreeing == _ENOUGH:
            return True
    finite = [pair for pair in elsewhere if all(each.is_finite for each in pair)]
    return all(_near(*pair) for pair in finite) if len(finite) >= _ENOUGH else None


def _at(expression: Any, point: dict[str, tuple[int, int]]) -> Any:
    from sympy import Rational

    at = {letter: Rational(*point[letter.name]) for letter in expression.free_symbols}
    return expression.evalf(_DIGITS, subs=at)


def _near(own: Any, other: Any) -> bool:
    from sympy import Abs, N

    return bool(Abs(own - other) <= (Abs(own) + Abs(other)) * N(10, _DIGITS) ** (10 - _DIGITS))
