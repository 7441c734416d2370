"""Counting what was measured in other ways: the reference's rule, and votes at equal tokens."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from motif_lite.evaluation import audit
from motif_lite.evaluation.voting import majority_is_right
from motif_lite.grading import reference
from motif_lite.jobs import checking
from motif_lite.recipe.schema import Recipe
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.records import Evaluation, GradedReply, Measurement, Subject
from motif_lite.views.audit_table import print_audit

RECIPES = Path(__file__).parents[1] / "recipes"
SINGLE, MULTI = Subject("mine", "single_round", "sampled"), Subject("mine", "multi_round", "greedy")


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return checking.check(RECIPES / "tiny_cpu.toml", ["evaluation.benchmarks.mine.source='chain_sum'"])


@pytest.mark.parametrize(
    ("gold", "reply", "source", "expected"),
    [
        ("7", "first \\boxed{7}, then \\boxed{8}", "math500", True),
        ("\\frac12", "\\boxed{\\dfrac12}", "math500", False),
        ("7", "the answer is 7", "math500", False),
        ("025", "in the year 2025 it was 025", "aime24", True),
        ("025", "\\boxed{25}", "aime24", False),
    ],
)
def test_the_reference_looks_for_text_in_text(gold: str, reply: str, source: str, expected: bool) -> None:
    assert reference.is_correct(gold, reply, source=source) is expected


def graded(problem: str, *answers: str, tokens: int) -> list[GradedReply]:
    return [
        GradedReply(
            problem=problem, question="?", gold="1", correct=answer == "\\boxed{1}", tokens=tokens,
            replies=(answer,), finish=("stop",),
        )
        for answer in answers
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        (("2+3", "5", "5"), True), (("5", "2+3", "5"), True), (("2+3", "5"), True), (("2+3", "2+3", "5"), False),
        (("2+3", "6", "6"), False),
    ],
)  # fmt: skip
def test_a_majority_is_judged_by_its_most_common_spelling_whoever_votes_first(
    boxes: tuple[str, ...], expected: bool
) -> None:
    assert majority_is_right(voters("5", *boxes)) is expected


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        (("98", "44+19+35", "35+19+44", "44+19+35"), True), (("44+19+35", "98", "98"), False),
        (("98", "44+19+35", "35+19+44"), False), (("35+19+44", "44+19+35", "98"), True),
    ],
)  # fmt: skip
def test_where_the_gold_answer_is_a_rule_votes_are_counted_by_spelling(boxes: tuple[str, ...], expected: bool) -> None:
    assert majority_is_right(voters('verify:countdown {"numbers":[44,19,35],"target":98}', *boxes)) is expected


def voters(gold: str, *boxes: str) -> list[GradedReply]:
    return [
        GradedReply(
            problem="a", question="?", gold=gold, correct=False, tokens=1, replies=(f"\\boxed{{{box}}}",),
            finish=("stop",),
        )
        for box in boxes
    ]  # fmt: skip


def measured(run: RunDirectory, subject: Subject, replies: list[GradedReply]) -> Measurement:
    run.write_graded(subject, "before", replies)
    return Measurement(
        **subject._asdict(), when="before", num_problems=2, num_samples=len(replies),
        num_correct=sum(each.correct for each in replies), accuracy=0.5, interval=(0, 1),
        generated_tokens=sum(each.tokens for each in replies), seconds=1,
    )  # fmt: skip


def test_votes_are_counted_over_all_samples_and_at_the_tokens_of_a_multi_round_answer(
    tmp_path: Path, recipe: Recipe
) -> None:
    run = RunDirectory.create(tmp_path / "run", recipe, "")
    right, wrong, both = "\\boxed{1}", "\\boxed{2}", "\\boxed{1} or \\boxed{2}"
    samples = [*graded("a", right, wrong, right, right, tokens=10), *graded("b", right, wrong, both, "none", tokens=10)]
    rounds = [*graded("a", right, tokens=31), *graded("b", both, tokens=29)]
    measurements = (measured(run, SINGLE, samples), measured(run, MULTI, rounds))
    run.write_evaluation(Evaluation(measurements=measurements))
    found = audit.of(recipe, run, lambda done, total: None)
    shown = {(count.strategy, count.rule): (count.accuracy, count.tokens) for count in found.counts}
    assert shown == {
        ("single_round", "ours"): (4 / 8, 10), ("single_round", "reference"): (5 / 8, 10),
        ("single_round", "maj@3"): (1 / 2, 30), ("single_round", "maj@4"): (1 / 2, 40),
        ("multi_round", "ours"): (1 / 2, 30), ("multi_round", "reference"): (1.0, 30),
    }  # fmt: skip
    assert [count.rule for count in found.counts if count.is_equal_tokens] == ["maj@3"]
    audit.write(run, found)
    assert audit.kept(run) == found
    file = io.StringIO()
    print_audit(Console(file=file, width=120), recipe, found)
    text = file.getvalue()
    heads = ["thinking", "when", "ours", "reference", "majority", "tokens"]
    assert heads in [line.split() for line in text.splitlines()]
    assert "maj@3 =" in text


def test_a_run_without_an_audit_shows_none(tmp_path: Path, recipe: Recipe) -> None:
    run = RunDirectory.create(tmp_path / "run", recipe, "")
    file = io.StringIO()
    print_audit(Console(file=file), recipe, audit.kept(run))
    assert file.getvalue() == ""


def test_the_shipped_recipe_asks_for_an_audit_of_rounds_and_samples() -> None:
    section = checking.check(RECIPES / "audit_motif.toml", []).evaluation
    assert (section.audit, section.greedy, section.num_samples) == (True, True, 8)
    assert list(section.benchmarks) == ["math500", "aime24"]
