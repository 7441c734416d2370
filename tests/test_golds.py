"""Final answers as people write them into files, and rows that no number would match, or two would."""

import json
import logging
import time
from pathlib import Path

import pytest

from motif_lite.errors import DataError
from motif_lite.grading.answers import equivalent
from motif_lite.jobs import checking
from motif_lite.nouns import Problem
from motif_lite.recipe.data import SourceSection
from motif_lite.tasks import golds, sources

ROOT = Path(__file__).parents[1]


def rows(path: Path, *answers: object) -> Path:
    path.write_text(
        "".join(json.dumps({"question": f"Question {n}?", "answer": each}) + "\n" for n, each in enumerate(answers))
    )
    return path


def read(path: Path) -> list[str]:
    return [problem.gold for problem in sources.load(SourceSection(source=str(path)), role="train", seed=1)]


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("18", "18"),
        ("She has 3.\n#### 1,234", "1,234"),
        (r"It is $\boxed{2}$.", "2"),
        (r"First $\boxed{3}$, so the answer is $\boxed{\frac{1}{2}}$.", r"\frac{1}{2}"),
        (r"#### \boxed{7}", "7"),
        (r"We get $x = \boxed 5$ since 3+2=5.", "5"),
        (r"Hence \fbox{5} eggs.", "5"),
        (r"\fbox{\boxed{3}}", "3"),
        (r"It is $\boxed\frac{1}{2}$.", r"\frac{1}{2}"),
        ("\uff11\uff12", "12"),
        ("٣", "3"),
        ("1e-05", "0.00001"),
        ("2.5e3", "2500"),
        (0.00001, "0.00001"),
        (1e21, "1000000000000000000000"),
        (18.5, "18.5"),
        (7, "7"),
        ("x^2", "x^2"),
    ],
)
def test_the_final_answer_of_a_row(tmp_path: Path, answer: object, gold: str) -> None:
    assert read(rows(tmp_path / "a.jsonl", answer)) == [gold]


def test_a_worked_solution_longer_than_an_answer_counts_by_its_box(tmp_path: Path) -> None:
    assert read(rows(tmp_path / "a.jsonl", "We compute. " * 300 + r"Hence $\boxed{18}$.")) == ["18"]
    with pytest.raises(DataError, match="or follow '####' or stand in a box at the end"):
        read(rows(tmp_path / "a.jsonl", "We compute. " * 300))


NUMBERS = {
    "18 eggs": "18", "1/3 cup": "1/3", "3 km/h": "3", "€5": "5", "1.5 million": "1500000", "The answer is 9.": "9",
    "\uff15 kg": "5", "½": "1/2", "18 dollars": "18", "2 hours": "2",
}  # fmt: skip


@pytest.mark.parametrize("answer", NUMBERS)
def test_either_the_number_alone_is_right_or_the_row_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, answer: str
) -> None:
    [_, gold] = read(rows(tmp_path / "a.jsonl", 1, answer))
    assert equivalent(gold, NUMBERS[answer]) or f"row 2 ({gold[:40]!r})" in caplog.text


@pytest.mark.parametrize(
    "gold",
    [
        "18", "-3", "1,000", "$18", r"\frac{1}{2}", "x^2+1", r"2\sqrt{3}", "Monday", "2 and 3", r"2\pi", "(1, 2)",
        "0.5", "H2O", "2:30", "3:4", "52_8", "2xy+3ab", "n 2^n", "1,2,3", "(1,2),(2,1)", r"x<1 \text{ or } x>4",
        r"12\sqrt3\text{ cm}^2", r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"1 \pm \sqrt{2}",
        r"(0,9) \cup (9,36)", r"5\times 10^3", "5!",
    ],
)  # fmt: skip
def test_answers_that_say_what_they_mean_cause_no_remark(gold: str) -> None:
    assert golds.odd_golds([Problem("a/1", "?", gold)]) == []


def test_an_answer_that_two_numbers_match_is_named() -> None:
    odd = [golds.OddGold(4, "50%", ("50", "0.5")), golds.OddGold(9, "18 eggs", ())]
    none, two = golds.remarks(odd, "a.jsonl")
    assert two.startswith("a.jsonl: final answers that match two different numbers: row 4 ('50%')")
    assert none.startswith("a.jsonl: final answers that match no plain number")


@pytest.mark.parametrize("gold", ["50%", "50 percent", "50 pct", "50 per cent", r"50\%", r"50\text{ percent}"])
def test_a_percentage_that_takes_its_share_too_is_named(gold: str) -> None:
    assert [each.matches for each in golds.odd_golds([Problem("a/1", "?", gold)])] == [("50", "0.5")]


def test_half_a_percent_is_named() -> None:
    assert [each.matches for each in golds.odd_golds([Problem("a/1", "?", r"\frac{1}{2}\%")])] == [("0.5", "0.005")]


@pytest.mark.parametrize(
    "gold",
    [
        "### 1234", "5+", "'18'", "['18']", "1,23", "0,5", "1.234,5", "12,34,567", "1_000", "0_123", "1.5M", "5k",
        "5 x 10^3", "0,123", "1234,567", "10**3", "0x10", "2 hours 30 minutes",
        "7 R 2", "5 or 6", "0.75 (or 3/4)", "1 and 1/2", "5 ft 6 in", "<5",
        "She has 3 apples and 4 oranges so 7 in all.", "about 5", "5 (five)", "1.000.000",
    ],
)  # fmt: skip
def test_an_answer_that_none_of_its_numbers_matches_is_named(gold: str) -> None:
    assert golds.odd_golds([Problem("a/1", "How many?", gold)]) == [golds.OddGold(1, gold, ())]


@pytest.mark.parametrize("gold", ["A. 42", "D) 12", r"\textbf{(C)}\ 42", "C: Paris", "(a) 5"])
def test_a_choice_that_neither_its_letter_nor_its_text_matches_is_named(gold: str) -> None:
    [remark] = golds.remarks(golds.odd_golds([Problem("a/1", "Which?", gold)]), "a.jsonl")
    assert remark.startswith("a.jsonl: final answers that hold a choice's letter and its text")
    assert remark.endswith("write the letter alone, or the text alone, as the question asks for it")


@pytest.mark.parametrize(
    ("question", "gold"),
    [("Give the roots, separated by commas.", "1,23"), ("Simplify $3k-k$.", "2k"), ("Whose is it?", "J. K. Rowling")],
)
def test_the_question_tells_that_algebra_or_a_list_is_asked_for(question: str, gold: str) -> None:
    assert golds.odd_golds([Problem("a/1", question, gold)]) == []


def test_rows_that_were_not_tried_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golds, "_ALLOWANCE", 3)
    problems = [Problem(f"a/{n}", "?", f"{n} boxes") for n in range(1, 10)]
    [remark] = golds.remarks(golds.odd_golds(problems), "a.jsonl")
    assert remark.startswith("a.jsonl: final answers that were not tried")
    assert "row 4 ('4 boxes')" in remark
    assert "and 1 more" in remark


def test_reading_many_rows_tells_how_far_it_is_and_takes_its_time_for_the_rows_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("question,answer\n" + "".join(f"q{n},{n}\n" for n in range(20_000)))
    told: list[tuple[int, int]] = []
    began = time.process_time()
    source = SourceSection(source=str(path))
    sources.load(source, role="train", seed=1, on_progress=lambda done, total: told.append((done, total)))
    assert time.process_time() - began < 4
    assert [done for done, _ in told] == list(range(1000, 20_001, 1000))
    assert {total for _, total in told} == {20_001}, "lines, with the header"


# --------------------------------------------------------------------------------------------- keys, and overlaps


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ('data.train="no_such"', "data.train: no_such: is neither"),
        ('evaluation.benchmarks.x.source="no_such"', "evaluation.benchmarks.x.source: no_such: is neither"),
        ('evaluation.validation={source="no_such"}', "evaluation.validation.source: no_such: is neither"),
        ('data.train="gsm9k"', "(did you mean 'gsm8k'?)"),
        ('data.train="math500"', "data.train: math500: is for the final evaluation only"),
    ],
)
def test_a_source_that_is_none_is_named_with_its_key(change: str, key: str) -> None:
    with pytest.raises(DataError) as caught:
        checking.check(ROOT / "recipes" / "tiny_cpu.toml", [change])
    assert key in str(caught.value)


def test_a_remark_reaches_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    read(rows(tmp_path / "a.jsonl", "July 4"))
    assert "a.jsonl: final answers that match no plain number" in caplog.text


@pytest.mark.parametrize(
    "gold", ["9" * 5000 + " m", "1," * 3000 + "000 m", "0x" + "f" * 5000, "1/" + "9" * 5000 + " m"]
)
def test_a_number_without_end_is_not_tried(gold: str) -> None:
    assert golds.odd_golds([Problem("", "", gold)]) == []
