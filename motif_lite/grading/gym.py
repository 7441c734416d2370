"""Problems of the package reasoning_gym, and its own verdicts on answers to them.

The package is imported in processes apart only. The judge's (`server`) forks one for every verdict, with limits of
time and memory, for it runs another's code on what a model wrote. As a script this file makes problems: some of the
package's generators hang on the order of Python's sets, so both processes are started with ``PYTHONHASHSEED=0``.

A problem is named by its task, options, seed and index; the judge makes it again from these, so that its verifier gets
the very objects that it expects, which JSON would not keep.

Requests to the script come as lines of JSON on standard input, its answers as lines on standard output. To ``{"task",
"options", "by_level"}`` it says ``{"levels": [options, ...]}``, or what is wrong: ``tasks`` (the known ones),
``unknown`` and ``known`` (options), ``refused`` (a reason), ``has_no_levels``. To ``{"task", "options", "seed",
"first", "count"}`` it says ``[index, question, answer]`` for each problem.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from motif_lite.grading.rulings import Ruling

SIZE = 10_000
"""Problems of a generator: the same wherever one is made, for a few depend on it."""

_SIZES = {"word_ladder": 1000}
"""Of generators that refuse so many."""

NOT_OFFERED = {
    "composite": "it is made of other tasks; name one of them",
    "acre": "its problems depend on how many are made",
    "game_of_life_halting": "its verifier takes every answer for right",
    "coin_flip": "its verifier takes 0 for right where the answer begins with 0",
    "number_format": "its verifier takes any number for right that is less than 0.01 off, and its hard problems choose "
    "among such",
    "propositional_logic": "its verifier takes a premise for a conclusion, and P or Q for one of most problems",
    "puzzle24": "its verifier does not look at the numbers that a problem gives",
}
"""Tasks of the package that are none here, and why."""

_OWN_OPTIONS = ("seed", "size")
"""Options that the recipe has keys of its own for."""

_WORDS = r"[A-Za-z0-9_ \n-]*"
_SUMS = r"[0-9+*/(). -]*"
_FUNCTIONS = "sin|cos|tan|sec|csc|cot|asin|acos|atan|sinh|cosh|tanh|exp|log|ln|sqrt|Abs|pi"
_ROOT = r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)\s*"
_LETTERS = r"(?<![A-Za-z0-9_.])[A-Za-z](?![A-Za-z0-9_.])"
_FORMULA = rf"(?:{_LETTERS}|(?<![A-Za-z0-9_.])(?:{_FUNCTIONS})(?![A-Za-z0-9_.])|[0-9]++(?:\.[0-9]++)?|[+*/()^, -])*+"
FORMS: dict[str, str] = {
    "string_insertion": _WORDS, "spiral_matrix": _WORDS, "binary_matrix": _WORDS, "n_queens": _WORDS,
    "countdown": _SUMS,
    "polynomial_multiplication": _FORMULA, "simple_integration": _FORMULA, "intermediate_integration": _FORMULA,
}  # fmt: skip
"""Tasks whose verifier evaluates the answer as Python, with all that it may get to see: nothing that could call
something else than a function of mathematics, nor an Integral, which states the question and is differentiated back."""

_SHAPES: dict[str, str] = {
    "complex_arithmetic": r"[0-9ijIJ.()+ -]*",  # nan is nearer than any number
    "number_sorting": r"[\[\]0-9.,'\"eE+\s-]*",
    "polynomial_equations": f"{_ROOT}(?:,{_ROOT})*",  # what is no number is passed over
    "gsm_symbolic": r"[^0-9-]*[0-9]+(?:\.[0-9]+)?[^0-9]*",  # so are a sign and all numbers but the first
}
"""Tasks whose verifier takes wrong answers for right, with a form that these do not have."""

_PARTED_BY: dict[str, str | None] = {"word_sorting": ",", "letter_jumble": None}
"""Tasks whose verifier passes over what follows the right answer, with what stands between its parts; None: spaces."""

MANY_ARE_RIGHT = frozenset({"boxnet", "graph_color", "rubiks_cube", "rush_hour"})
"""Tasks whose problems come without an answer. In all others an empty one is the answer, which no box can hold."""

_DRESS = re.compile(r"\s*\$?\s*\\(?:text|texttt|textbf|mathrm|mathtt)\s*\{(.*)\}\s*\$?\s*", re.DOTALL)


def warm_up() -> None:
    """Import the package, so that no fork has to."""
    with redirect_stdout(sys.stderr):
        import reasoning_gym  # noqa: F401


def prepare(gold: str) -> None:
    """Make a problem before its answers are judged, so that no fork has to."""
    with redirect_stdout(sys.stderr):
        _entry(gold)


def compare(gold: str, answer: str) -> "Ruling":
    """The package's verdict: right where its score is full."""
    from motif_lite.grading.rulings import Ruling

    facts = _facts(gold)
    task, entry = facts["task"], _entry(gold)
    if _as_text(entry["answer"]) != facts["answer"]:
        return Ruling(None, "the installed reasoning_gym makes another problem of this name; install the pinned one")
    dressed = _DRESS.fullmatch(answer)
    for text in dict.fromkeys((answer, answer.strip(), *([dressed[1].strip()] if dressed else []))):
        if _may_be_scored(task, text, facts["answer"]) and _score(facts, text, entry) >= 1:
            return Ruling(True, f"right by reasoning_gym's verifier for {task}")
    return Ruling(False, f"not right by reasoning_gym's verifier for {task}")


def _may_be_scored(task: str, text: str, gold: str) -> bool:
    """Whether the package's verifier can be trusted with an answer."""
    if task in _PARTED_BY and len(text.split(_PARTED_BY[task])) != len(gold.split(_PARTED_BY[task])):
        return False
    return all(re.fullmatch(forms[task], text) for forms in (FORMS, _SHAPES) if task in forms)


def _score(facts: Mapping[str, Any], text: str, entry: dict[str, Any]) -> float:
    try:
        return float(_generator(facts["task"], json.dumps(facts["options"]), facts["seed"]).score_answer(text, entry))
    except Exception as error:  # what a verifier cannot read is no answer
        if isinstance(error, MemoryError):
            raise
        return 0.0


def _facts(gold: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gold.partition(" ")[2])
    return found


@lru_cache(maxsize=500)
def _entry(gold: str) -> dict[str, Any]:
    facts = _facts(gold)
    found: dict[str, Any] = _generator(facts["task"], json.dumps(facts["options"]), facts["seed"])[facts["index"]]
    return found


@lru_cache(maxsize=50)
def _generator(task: str, options: str, seed: int) -> Any:
    from reasoning_gym import create_dataset

    return create_dataset(task, **json.loads(options), seed=seed, size=_SIZES.get(task, SIZE))


def _as_text(answer: object) -> str:
    return "" if answer is None else str(answer)


# ------------------------------------------------------------------------------------- as a script: what makes problems


def _serve() -> None:
    """Answer requests until standard input closes."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what a generator prints is no answer
    for line in sys.stdin:
        request = json.loads(line)
        try:
            said = _made(request) if "count" in request else [_about(**request)]
            for each in said:
                print(json.dumps(each), file=answers)
        except Exception as error:  # the package refuses options by all kinds of exceptions
            print(json.dumps({"refused": f"{type(error).__name__}: {error}"[:300]}), file=answers)
        answers.flush()


def _about(task: str, options: dict[str, Any], by_level: bool) -> dict[str, Any]:
    """With which options each level's problems are made, easiest first; one level unless there is a curriculum."""
    from reasoning_gym.factory import CURRICULA, DATASETS

    offered = sorted(set(DATASETS) - set(NOT_OFFERED))
    if task not in offered:
        return {"tasks": offered}
    known = sorted({field.name for field in fields(DATASETS[task][1])} - set(_OWN_OPTIONS))
    if unknown := [name for name in options if name not in known]:
        return {"unknown": unknown, "known": known}
    _checked(task, options)
    if not by_level:
        return {"levels": [options]}
    if task not in CURRICULA:
        return {"has_no_levels": sorted(set(CURRICULA) & set(offered))}
    return {"levels": list(_levels(task, options))}


def _levels(task: str, options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The levels of the package's curriculum, up to the first that its generator refuses."""
    from reasoning_gym.factory import create_curriculum

    for level in range(max(len(attribute.levels) for attribute in create_curriculum(task).attributes.values())):
        curriculum = create_curriculum(task)
        curriculum.set_global_level(level)
        config = curriculum.generate_configuration({"seed": 0, "size": SIZE})
        names = [name for attribute in curriculum.attributes.values() for name in _names_of(attribute)]
        if both := sorted(set(names) & set(options)):
            raise ValueError(f"{', '.join(both)}: the curriculum sets it; leave it out of options")
        found = options | {name: getattr(config, name) for name in names}
        try:
            json.dumps(found)
            _checked(task, found)
        except Exception:
            if not level:
                raise
            return
        yield found


def _names_of(attribute: Any) -> list[str]:
    """The options that an attribute of a curriculum sets."""
    names = ("field_name", "lower_field_name", "upper_field_name")
    return [getattr(attribute, name) for name in names if hasattr(attribute, name)]


def _checked(task: str, options: dict[str, Any]) -> None:
    """Make a problem: generators find out late what they cannot do."""
    _generator(task, json.dumps(options), 0)[0]


def _made(request: Mapping[str, Any]) -> Iterator[list[Any]]:
    generator = _generator(request["task"], json.dumps(request["options"]), request["seed"])
    for index in range(request["first"], request["first"] + request["count"]):
        entry = generator[index]
        yield [index, entry["question"], _as_text(entry["answer"])]


if __name__ == "__main__":
    _serve()
