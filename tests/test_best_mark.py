"""The best mark of a run: which it is, and whether it is better than the last one by more than noise."""

import random
from pathlib import Path
from statistics import fmean
from typing import Any, cast

import pytest

from motif_lite.context import RunContext
from motif_lite.errors import ModelError
from motif_lite.evaluation.best_mark import best_mark, is_best
from motif_lite.evaluation.validation import Validation
from motif_lite.jobs import adapter_choice, checking, solve_job
from motif_lite.policies.protocol import ADAPTER_FILE
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.records import Mark
from motif_lite.solving.solver import Effort
from motif_lite.views.formats import best_mark_line
from tests import records
from tests.fakes import RecordingObserver

RECIPE = checking.check(Path(__file__).parents[1] / "recipes" / "tiny_cpu.toml", [])


def mark(step: int, outcomes: str) -> Mark:
    accuracy = outcomes.count("1") / len(outcomes)
    return records.mark(step, accuracy, interval=(0.0, 1.0), outcomes=outcomes)


def test_the_highest_accuracy_is_the_best_and_of_two_equal_ones_the_later() -> None:
    marks = [mark(0, "1000"), mark(5, "1100"), mark(9, "0011"), mark(12, "1000")]
    found = best_mark(marks, 0.95)
    assert found is not None
    assert (found.best.step, found.last.step, found.num_others) == (9, 12, 3)
    assert is_best(0.5, marks)
    assert not is_best(0.49, marks)
    assert is_best(0.0, [])


def test_one_mark_is_not_compared_with_itself() -> None:
    assert best_mark([mark(0, "10")], 0.95) is None
    found = best_mark([mark(0, "10"), mark(3, "11")], 0.95)
    assert found is not None
    assert (found.best is found.last, found.difference, found.is_better) == (True, None, False)
    assert "the last mark is the best one (100.0 %): use adapter/" in best_mark_line(found, 3, is_trained=True)


def test_it_is_better_only_if_its_lead_survives_the_choice_among_all_marks() -> None:
    """Seven problems won and none lost is p = 2 / 2**7 = 0.016 by McNemar's exact test: enough for 1 choice, not 10."""
    low, high = "0" * 20, "1" * 7 + "0" * 13
    few = best_mark([mark(1, low), mark(2, high), mark(3, low)], 0.95)
    many = best_mark([*(mark(step, low) for step in range(9)), mark(9, high), mark(10, low)], 0.95)
    assert few is not None and many is not None
    assert (few.p_value, many.p_value) == (2 / 2**7 * 2, 2 / 2**7 * 10)
    assert few.is_better
    assert not many.is_better
    assert "7 problems won, 0 lost, more than noise (p = 0.031, corrected for the choice from 3 marks): use " in (
        best_mark_line(few, 2, is_trained=True)
    )
    assert best_mark_line(few, 2, is_trained=True).endswith("use adapter_best/")
    assert best_mark_line(few, None, is_trained=True).endswith(
        "its adapter was not kept; use that of a checkpoint near it"
    )
    assert best_mark_line(many, 9, is_trained=True).endswith("use adapter/")


def test_marks_of_an_early_version_are_not_compared() -> None:
    found = best_mark([mark(0, "11"), records.mark(2, 0.1)], 0.95)
    assert found is not None
    assert not found.is_better
    assert "not compared" in best_mark_line(found, 0, is_trained=True)


def test_a_policy_that_does_not_change_is_hardly_ever_better_at_its_best_mark() -> None:
    """300 runs of 11 marks on 100 problems of very different difficulty: at most 5 % may be found better by luck."""
    draw = random.Random(1)

    def run() -> bool:
        chances = [draw.betavariate(0.5, 0.5) for _ in range(100)]
        marks = [mark(step, "".join("01"[draw.random() < chance] for chance in chances)) for step in range(11)]
        found = best_mark(marks, 0.95)
        return found is not None and found.is_better

    assert fmean(run() for _ in range(300)) <= 0.05


def save(folder: Path) -> None:
    folder.mkdir()
    (folder / ADAPTER_FILE).write_bytes(b"weights")
    (folder / "adapter_config.json").write_text("{}")


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory.create(tmp_path / "run", RECIPE, "")
    run.save_adapter(5, save, run.best_adapter)
    return run


def test_an_adapter_of_a_step_that_is_done_again_is_not_kept(run: RunDirectory) -> None:
    validation = Validation(RunContext(RECIPE, cast(Any, None), run, RecordingObserver()), [])
    validation.resume_at(5)
    assert run.best_step() == 5
    validation.resume_at(4)
    assert run.best_step() is None
    assert not run.best_adapter.exists()


def test_solve_takes_it_by_name_and_by_path(run: RunDirectory) -> None:
    for name in ("best", str(run.best_adapter)):
        assert solve_job.job(run.root, None, [], name, Effort()).adapter == str(run.best_adapter)
    assert adapter_choice.named(run, "best") == run.best_adapter
    (run.best_adapter / ADAPTER_FILE).write_bytes(b"weightz")
    with pytest.raises(ModelError, match="differs from what was written"):
        solve_job.job(run.root, None, [], "best", Effort())


def test_a_run_without_it_says_how_to_get_one(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "other", RECIPE, "")
    with pytest.raises(ModelError, match=r"has no adapter_best, .*\[evaluation.validation\] in its recipe"):
        solve_job.job(run.root, None, [], "best", Effort())
    with pytest.raises(ModelError, match="there is no such folder"):
        adapter_choice.named(run, "nowhere")
