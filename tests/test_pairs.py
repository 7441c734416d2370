"""Pairs of a gold answer and another one with their verdicts: public graders' test suites, and kinds of our own.

`data/pairs.jsonl` holds facts: source, gold, the content of the box (``answer``) or a whole ``reply``, and whether
the suite takes them for equal. Where this project differs, ``exception`` names the reason. `data/kinds.jsonl` was
written for the kinds of mistakes that graders make, right and wrong variants of each.
"""

import json
from collections import Counter
from pathlib import Path

import pytest

from motif_lite.grading.answers import grade, is_beyond_judging, is_correct, ruling

DATA = Path(__file__).parent / "data"

REASONS = {
    "box": r"no `\boxed{}` with braces that close: no credit",
    "boxes": "several boxes: the last one counts; a box before the end of a think block is not the answer's",
    "prose": "a sentence in the box",
    "knowledge": "needs the question, prose or knowledge of the world",
    "rounding": "equal only if rounded to fewer than six places",
    "damaged": "the gold answer, the answer or its end mark is damaged",
    "percent": r"`50\%` is the number 50 with the unit percent, and is right for 50 and not for 0.5",
    "undone": "an operation is left to do",
    "remark": "a text behind the number that is no unit, or one in parentheses that is a remark",
    "renamed": "a function or parameter of another name",
    "comma": "a decimal comma",
    "order": "the order of a list matters there",
    "form": "the form of a number matters there",
    "units": "units must not be left out there",
    "radians": "degrees for radians",
    "vector": "a list for a matrix",
    "equation": "an expression for an equation that is not solved for a name",
    "chain": "steps that contradict the value",
    "algebra": "beyond the parser or sympy",
    "suite": "the suite's verdict is wrong",
}
"""Why a pair is graded otherwise than its suite expects."""


def lines(name: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def pairs() -> list[tuple[str, str, dict[str, object]]]:
    found = [
        (str(each["gold"]), str(each.get("reply", f"<answer>\n\\boxed{{{each.get('answer')}}}\n</answer>")), each)
        for each in lines("pairs.jsonl")
    ]
    grade((gold, reply) for gold, reply, _ in found)
    return found


@pytest.fixture(scope="module")
def graded() -> list[tuple[bool, dict[str, object]]]:
    return [(is_correct(gold, reply), each) for gold, reply, each in pairs()]


def test_every_pair_is_graded_as_its_suite_expects_but_for_the_exceptions(
    graded: list[tuple[bool, dict[str, object]]],
) -> None:
    assert len(graded) == 1269
    assert [each for verdict, each in graded if "exception" not in each and verdict != each["equal"]] == []


def test_every_exception_is_one_and_has_a_reason(graded: list[tuple[bool, dict[str, object]]]) -> None:
    assert [each for verdict, each in graded if "exception" in each and verdict == each["equal"]] == []
    assert {str(each["exception"]) for _, each in graded if "exception" in each} == set(REASONS)


def test_the_page_on_answers_lists_the_exceptions(graded: list[tuple[bool, dict[str, object]]]) -> None:
    counts = Counter(str(each["exception"]) for _, each in graded if "exception" in each)
    page = (Path(__file__).parents[1] / "docs" / "answers.md").read_text(encoding="utf-8")
    assert [code for code, number in counts.items() if f"| {number} | {REASONS[code]} |" not in page] == []


def test_no_wrong_answer_of_a_suite_passes_unless_a_person_would_pass_it(
    graded: list[tuple[bool, dict[str, object]]],
) -> None:
    passed = [each for verdict, each in graded if verdict and not each["equal"]]
    assert {each["exception"] for each in passed} <= {"order", "form", "units", "boxes", "suite", "damaged"}


KINDS = lines("kinds.jsonl")


@pytest.mark.parametrize("kind", dict.fromkeys(str(each["kind"]) for each in KINDS))
def test_answers_of_a_kind_are_told_apart(kind: str) -> None:
    some = [each for each in KINDS if each["kind"] == kind]
    replies = [(str(each["gold"]), f"\\boxed{{{each['answer']}}}") for each in some]
    grade(replies)
    found = [ruling(*pair) for pair in replies]
    verdicts = ["right" if each.correct else "undone" if each.undone else "wrong" for each in found]
    assert [
        (each, rule) for each, verdict, rule in zip(some, verdicts, found, strict=True) if verdict != each["verdict"]
    ] == []
    assert not any(is_beyond_judging(*pair) for pair in replies)
