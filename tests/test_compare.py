"""Runs compared: paired by problem, recipes by key, and whatever a model wrote is text."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from motif_lite.errors import RunError
from motif_lite.evaluation import across_runs
from motif_lite.evaluation.measuring import settings_of
from motif_lite.jobs import checking, compare_job
from motif_lite.runs import inputs
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.records import Evaluation, Subject
from motif_lite.views import comparison
from tests import records
from tests.fakes import RecordingObserver
from tests.test_report import HOSTILE, Page

RECIPE = Path(__file__).parents[1] / "recipes" / "tiny_cpu.toml"
SUBJECT = Subject("chain_sum", "multi_round", "greedy")


def a_run(root: Path, rights: str, *changes: str, steps: int = 3, **settings: Any) -> RunDirectory:
    """A run that answered so many problems, right where there is a 1."""
    recipe = checking.check(RECIPE, list(changes))
    run = RunDirectory.create(root, recipe, "")
    inputs.keep(root, inputs.Inputs(train="t", validation="v", model={}))
    replies = [
        records.graded(f"id/{place}", right == "1", question=f"question {place}", replies=(f"of {root.name} {place}",))
        for place, right in enumerate(rights)
    ]
    run.write_graded(SUBJECT, "after", replies)
    accuracy = rights.count("1") / len(rights)
    source = recipe.evaluation.benchmarks["chain_sum"]
    measured = settings_of(recipe, SUBJECT, source).model_copy(update=settings)
    run.write_evaluation(
        Evaluation(measurements=(records.measurement(accuracy, interval=(0.0, 1.0), settings=measured),))
    )
    for step in range(1, steps + 1):
        run.append_metrics(records.step(step, share_done=step / steps))
    run.append_mark(records.mark(3, 0.5, outcomes=rights))
    return run


def compared(*runs: RunDirectory) -> comparison.ComparedRuns:
    return compare_job.compared([run.root for run in runs], RecordingObserver())


def page_of(found: comparison.ComparedRuns, file: Path) -> str:
    comparison.write_page(found, file)
    return file.read_text(encoding="utf-8")


def test_problems_are_paired_by_question_and_p_values_are_corrected(tmp_path: Path) -> None:
    first, other = (
        a_run(tmp_path / "a", "0000000011"),
        a_run(tmp_path / "b", "1111111011", "training.learning_rate=1e-3"),
    )
    benchmark, held_out = compared(first, other).tests
    assert benchmark.difference is not None and held_out.difference is not None
    assert (benchmark.difference.num_better, benchmark.difference.num_worse) == (7, 0)
    assert benchmark.difference.difference == pytest.approx(0.7)
    assert benchmark.accuracies == (0.2, 0.9)
    assert (benchmark.difference.p_value, benchmark.p_holm) == (2 / 2**7, 2 * 2 / 2**7), "two tests"


def test_recipes_are_compared_key_by_key(tmp_path: Path) -> None:
    found = compared(a_run(tmp_path / "a", "01"), a_run(tmp_path / "b", "01", "training.learning_rate=1e-3", "seed=2"))
    assert found.keys == [("seed", ["1", "2"]), ("training.learning_rate", ["0.0005", "0.001"])]


def test_what_was_measured_in_another_way_is_not_compared(tmp_path: Path) -> None:
    first, other = a_run(tmp_path / "a", "01"), a_run(tmp_path / "b", "01", max_tokens=(1, 2))
    test = compared(first, other).tests[0]
    assert (test.difference, test.why_not) == (None, "measured with different max_tokens")
    inputs.keep(other.root, inputs.Inputs(train="t", validation="others", model={}))
    assert compared(first, other).tests[1].why_not.startswith("not the same held-out problems")


def test_marks_that_were_decoded_in_another_way_are_not_compared(tmp_path: Path) -> None:
    changes = ("evaluation.num_samples=2", "rollout.futures.max_tokens=7")
    found = compared(a_run(tmp_path / "a", "01"), a_run(tmp_path / "b", "01", *changes)).tests[1]
    assert found.difference is None
    assert found.why_not.startswith("measured with different max_tokens, num_samples")


def test_marks_with_other_prompts_are_not_compared(tmp_path: Path) -> None:
    changes = ('rollout.final_instruction="Put it into a box."', "rollout.num_rounds=4")
    found = compared(a_run(tmp_path / "a", "01"), a_run(tmp_path / "b", "01", *changes)).tests[1]
    assert (found.difference, found.why_not) == (None, "measured with different num_rounds, final_instruction")


def test_keys_that_the_strategy_does_not_read_do_not_matter(tmp_path: Path) -> None:
    found = compared(a_run(tmp_path / "a", "01"), a_run(tmp_path / "b", "01", "rollout.tail_tokens=9")).tests[1]
    assert found.why_not == ""


def test_problems_that_only_some_got_right_come_first_with_the_answers_of_all(tmp_path: Path) -> None:
    found = across_runs.shared_problems([a_run(tmp_path / "a", "1100"), a_run(tmp_path / "b", "1010")], most=3)
    assert [problem.question for problem in found] == ["question 1", "question 2", "question 0"]
    assert [answer.replies for answer in found[0].answers] == [("of a 1",), ("of b 1",)]


def test_the_page_is_whole_and_what_a_model_wrote_is_text_in_it(tmp_path: Path) -> None:
    first, other = a_run(tmp_path / "a <b>", "01"), a_run(tmp_path / "b", "11")
    for run in (first, other):
        run.write_graded(SUBJECT, "after", [records.graded("1", True, question=HOSTILE, replies=(HOSTILE,))])
    text = page_of(compared(first, other), tmp_path / "page.html")
    page = Page(text)
    assert page.open == []
    assert not {"script", "img", "b", "link", "iframe"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("src", "href")]
    assert "\x1b" not in text
    assert page.tags.count("svg") == 7
    for part in ("problems won / lost", "Recipe keys that differ", "held out, last mark"):
        assert part in text


def test_the_tables_fit_and_say_what_there_is(tmp_path: Path) -> None:
    file = io.StringIO()
    found = compared(a_run(tmp_path / "a", "0000000011"), a_run(tmp_path / "b", "1111111011", "seed=2"))
    comparison.print_tables(Console(file=file, width=120), found)
    text = file.getvalue()
    assert "against a, paired by problem" in text
    assert "+70.0 [" in text
    assert "7 / 0 of 10" in text
    assert "seed" in text
    file = io.StringIO()
    bare = [RunDirectory.create(tmp_path / name, checking.check(RECIPE, []), "") for name in ("c", "d")]
    comparison.print_tables(Console(file=file, width=80), compared(*bare))
    assert "no paired test: the runs share no measurement" in file.getvalue()
    assert "the recipes are the same" in file.getvalue()
    assert Page(page_of(compared(*bare), tmp_path / "bare.html")).open == []


def test_three_runs_of_the_same_name_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    runs = [a_run(tmp_path / name / "run", "01") for name in ("x", "y", "z")]
    found = compared(*runs)
    assert [run.name for run in found.runs] == [str(run.root) for run in runs]
    assert [test.run for test in found.tests] == [1, 1, 2, 2]


def test_bad_arguments_are_refused_in_one_line(tmp_path: Path) -> None:
    run = a_run(tmp_path / "a", "01")
    observer = RecordingObserver()
    with pytest.raises(RunError, match="takes two or more"):
        compare_job.compared([run.root], observer)
    with pytest.raises(RunError, match="holds no run"):
        compare_job.compared([run.root, tmp_path], observer)
    with pytest.raises(RunError, match="named twice"):
        compare_job.compared([run.root, tmp_path / "." / "a"], observer)
    with pytest.raises(RunError, match=r"cannot be written .*; choose another --html"):
        page_of(compared(run, a_run(tmp_path / "b", "01")), tmp_path / "no" / "folder" / "page.html")
