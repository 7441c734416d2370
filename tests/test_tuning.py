"""Successive halving: which values go on, what it costs, and that stopping and going on changes neither."""

import os
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from motif_lite.errors import StudyError
from motif_lite.jobs import checking
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.giving_up import MOST_SKIPPED
from motif_lite.runs.records import StepMetrics
from motif_lite.study import finished, schedule, tuning
from motif_lite.study import plan as study_plan
from motif_lite.study import results as study_results
from motif_lite.study import runs as study_runs
from motif_lite.study.file import Rung, Tuning
from motif_lite.study.plan import Run, StudyPlan
from motif_lite.study.table import cost_table, table
from tests import records
from tests.faults.nursery import Nursery
from tests.records import repeatable
from tests.studies import ROOT, TINY, plan, pretend
from tests.test_study import SMALL, Seen, mistakes, pid_of, written

RATES = [1e-4, 2e-4, 5e-4, 1e-3, 2e-3]
MARKS = ['evaluation.validation={source="chain_sum", num_problems=8, num_marks=4}']
HALVED: dict[str, Any] = {
    "seeds": [1], "variants": {"base": {"train": False}, "plain": {}}, "set": MARKS,
    "tune": {"key": "training.learning_rate", "values": RATES, "seeds": [101], "halve_at": 0.25},
}  # fmt: skip


@pytest.mark.parametrize(
    ("num_values", "halve_at", "rungs"),
    [
        (8, None, [(8, 1.0)]),
        (8, 0.25, [(8, 0.25), (4, 0.5), (2, 1.0)]),
        (8, 0.5, [(8, 0.5), (4, 1.0)]),
        (5, 0.125, [(5, 0.125), (3, 0.25), (2, 0.5)]),
        (8, 0.375, [(8, 0.375), (4, 0.75), (2, 1.0)]),
        (2, 0.25, [(2, 0.25)]),
    ],
)
def test_values_are_halved_until_one_is_left_or_the_budget_is_spent(
    num_values: int, halve_at: float | None, rungs: list[tuple[int, float]]
) -> None:
    made = Tuning(key="training.learning_rate", values=[*range(1, num_values + 1)], halve_at=halve_at)
    assert made.rungs == [Rung(*rung) for rung in rungs]


@pytest.mark.parametrize(
    ("values", "said"),
    [("[1, 1.0, 2]", "1 and 1.0 are"), ("[0, false, 1]", "0 and False are"), ("[true, 1, 2]", "True and 1 are")],
)
def test_values_that_are_equal_are_refused_however_they_are_written(tmp_path: Path, values: str, said: str) -> None:
    path = written(tmp_path, **HALVED)
    listed = re.search(r"values = \[[^]]*\]", text := path.read_text())
    assert listed is not None
    found = "\n".join(mistakes(tmp_path, text.replace(listed[0], f"values = {values}")))
    assert f"tune: values: {said} equal; leave one out" in found


def test_values_are_compared_at_marks_alone(tmp_path: Path) -> None:
    ten = ['evaluation.validation={source="chain_sum", num_marks=10}']
    said = "\n".join(mistakes(tmp_path, **HALVED | {"set": ten}))
    assert "tune.halve_at = 0.25 is not at a mark of evaluation.validation.num_marks = 10" in said
    assert "take a multiple of 1/10, e.g. 0.2, or other num_marks" in said


@pytest.mark.parametrize("num_marks", range(2, 17))
def test_the_mark_that_is_advised_is_taken(num_marks: int) -> None:
    def said(halve_at: float) -> str:
        tune = Tuning(key="training.learning_rate", values=[*RATES], halve_at=halve_at)
        return "".join(study_plan._between_marks(tune, num_marks))

    advised = re.search(r"e\.g\. ([\d.]+),", said(0.01))
    assert advised is not None
    assert not said(float(advised[1]))


@pytest.mark.parametrize(
    ("own", "source"), [("", "chain_sum_26"), ('[evaluation.validation]\nsource = "chain_sum"\n', "chain_sum")]
)
def test_rates_are_compared_on_problems_of_the_recipes_own_source(tmp_path: Path, own: str, source: str) -> None:
    recipe = tmp_path / "own.toml"
    recipe.write_text(f'extends = "{ROOT / "recipes" / "tiny_cpu_26.toml"}"\n{own}')
    made = study_plan.load(ROOT / "studies" / "rates.toml", None, recipe)
    validation = made.tuning_runs("recipe")[0].resolved().evaluation.validation
    assert validation is not None
    assert (validation.source, validation.num_problems, validation.num_marks) == (source, 200, 8)
    assert made.out == ROOT / "studies" / "rates" / "own"


@pytest.mark.parametrize("given", ["", ', source="data.train"'])
def test_validation_without_a_source_has_all_that_tells_the_training_problems(given: str) -> None:
    changes = [
        'data={train="reasoning_gym:chain_sum", options={min_terms=3}}',
        f"evaluation.validation={{num_problems=9{given}}}",
    ]
    validation = checking.check(TINY, changes).evaluation.validation
    assert validation is not None
    assert (validation.source, validation.options) == ("reasoning_gym:chain_sum", {"min_terms": 3})


def reach(made: StudyPlan, run: Run, accuracy: float) -> None:
    """Leave what a run leaves that came so far: a step and a mark for each quarter, the last one of this accuracy."""
    if not run.root.exists():
        run.root.mkdir(parents=True)
        RunDirectory.create(run.root, run.resolved(), "").append_mark(records.mark(0, 0.99))
    directory = RunDirectory(run.root)
    for step in range(len(directory.metrics()) + 1, round(4 * run.share) + 1):
        directory.append_metrics(records.step(step, tokens={"openings": 100}, share_done=step / 4))
        directory.append_mark(records.mark(step, accuracy if step == 4 * run.share else 0.99, tokens=100 * step))
    if run.share == 1:
        directory.adapter.mkdir()
        directory.write_report("")


def test_the_less_accurate_half_is_dropped_at_equal_shares_of_the_budget(tmp_path: Path) -> None:
    made = plan(tmp_path, **HALVED)
    assert made.num_runs == (5 + 3 + 2) + 2
    for shares, accuracies in ((0.25, (0.1, 0.3, 0.5, 0.4, 0.3)), (0.5, (0.7, 0.6, 0.7)), (1.0, (0.8, 0.9))):
        runs = [run for run in schedule.missing(made) if run.candidate]
        assert {run.share for run in runs} == {shares}
        assert len(runs) == len(accuracies)
        assert tuning.cost(made, "plain").saved == 0, "each of them may go on"
        for run, accuracy in zip(runs, accuracies, strict=True):
            assert schedule.known_run(made, "plain", 1) is None
            reach(made, run, accuracy)
    assert runs[0].name == "tuning plain, 0.0002, seed 101"
    assert runs[1].candidate == 1e-3, "of the three the middle one fell behind, and of equals the first is kept"
    assert schedule.known_run(made, "plain", 1) == made.final_run("plain", 1, 1e-3)
    assert schedule.num_left(made) == 2
    # 0.0001 and 0.002 spent 100 of 400 tokens, 0.0005 spent 200
    tokens, num_steps, num_runs = 100 + 400 + 200 + 400 + 100, 1 + 4 + 2 + 4 + 1, 5
    seconds = 1.0 * num_steps, 1.5 * (num_steps + num_runs)  # a mark after each step, and one before the first
    assert tuning.cost(made, "plain") == tuning.Cost(tokens, 300 + 200 + 300, *seconds)
    page = table(study_results.results(made))
    assert "| plain | 10.0 at 25 % | 80.0 | 60.0 at 50 % | 90.0 | 30.0 at 25 % | 0.001 |" in page
    assert "a part of the budget spent, after which the less accurate half is dropped" in page
    assert "| plain | 1,200 | 800 | 12 | 26 |" in cost_table(study_results.costs(made))


def test_lines_are_read_again_only_where_some_were_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan(tmp_path, **HALVED)
    runs = made.tuning_runs("plain")
    for run in runs:
        reach(made, replace(run, share=0.25), 0.5)
    read: list[Path] = []
    metrics = RunDirectory.metrics

    def counted(directory: RunDirectory) -> list[StepMetrics]:
        read.append(directory.root)
        return metrics(directory)

    monkeypatch.setattr(RunDirectory, "metrics", counted)
    for _ in range(2):
        list(schedule.missing(made))
    assert len(read) == 5 + 3, "once for each rung, and not the second time"
    read.clear()
    reach(made, replace(runs[2], share=0.5), 0.75)
    list(schedule.missing(made))
    assert set(read) == {runs[2].root}


def give_up(run: Run) -> None:
    """Leave what a run leaves whose gradients are no numbers any more, after what it has."""
    if not run.root.exists():
        run.root.mkdir(parents=True)
        RunDirectory.create(run.root, run.resolved(), "").append_mark(records.mark(0, 0.99))
    directory = RunDirectory(run.root)
    first = len(directory.metrics()) + 1
    for step in range(first, first + MOST_SKIPPED):
        directory.append_metrics(records.step(step, tokens={"openings": 10}, share_done=0.26, update_skipped=True))


def test_a_value_whose_run_is_given_up_is_worse_than_all_others_of_its_rung(tmp_path: Path) -> None:
    made = plan(tmp_path, **HALVED)

    def rung(*outcomes: float | None) -> list[Run]:
        runs = [run for run in schedule.missing(made) if run.candidate]
        for run, accuracy in zip(runs, outcomes, strict=True):
            if accuracy is None:
                give_up(run)
            else:
                reach(made, run, accuracy)
        return runs

    first = rung(0.0, 0.3, 0.5, 0.4, None)
    assert finished.figure(made, first[-1]) == "failed, its gradients were not numbers"
    second = rung(None, 0.1, 0.2)
    assert [run.candidate for run in second] == [2e-4, 5e-4, 1e-3]
    assert finished.accuracy(replace(second[0], share=0.25)) == 0.3, "so far it had got"
    assert [run.candidate for run in rung(0.1, 0.2)] == [5e-4, 1e-3]
    assert schedule.known_run(made, "plain", 1) == made.final_run("plain", 1, 1e-3)
    assert tuning.cost(made, "plain").saved == 300, "of the value that was dropped, not of those that failed"
    page = table(study_results.results(made))
    assert "| plain | 0.0 at 25 % | failed | 10.0 | 20.0 | failed | 0.001 |" in page
    assert "*Failed*: the run was given up" in page


def test_where_all_values_fail_none_is_picked(tmp_path: Path) -> None:
    made = plan(tmp_path, **HALVED)
    for run in made.tuning_runs("plain"):
        give_up(run)
    with pytest.raises(StudyError, match=r"(?s)gradients of all that were left \(0\.0001, 0\.0002\).*tune\.values"):
        list(schedule.missing(made))


def test_a_study_in_which_all_values_run_to_the_end_says_nothing_of_it(tmp_path: Path) -> None:
    tune = {key: value for key, value in HALVED["tune"].items() if key != "halve_at"}
    made = plan(tmp_path, **HALVED | {"tune": tune})
    for run in made.tuning_runs("plain"):
        pretend(made, run, marks=[(0, 0.5)])
    pages = cost_table(study_results.costs(made)), table(study_results.results(made))
    assert not any("halving" in page or "less accurate half" in page for page in pages)


class Killing(Seen):
    """Stops when a run that counts begins, and meanwhile kills one that goes on after the first rung."""

    def __init__(self, victim: Run | None = None) -> None:
        super().__init__()
        self._victim = victim

    def started(self, name: str, num_done: int, num_runs: int) -> None:
        super().started(name, num_done, num_runs)
        if not name.startswith("tuning"):
            raise KeyboardInterrupt

    def line(self, text: str) -> None:
        if self._victim and len(RunDirectory(self._victim.root).metrics()) == 2:
            os.kill(pid_of(self._victim), signal.SIGKILL)
            self._victim = None


def test_a_halving_that_was_killed_makes_the_same_choice(tiny_folder: Path, nursery: Nursery, tmp_path: Path) -> None:
    """On the tiny model."""
    small = [f'model.name="{tiny_folder}"', *SMALL, "training.max_steps=4", *MARKS]
    tune = HALVED["tune"] | {"values": [1e-5, 1e-3, 2e-3]}
    made = study_plan.load(written(tmp_path, **HALVED | {"set": small, "tune": tune, "variants": {"plain": {}}}))
    program = [str(nursery.python), "-m", "motif_lite"]

    def perform(watcher: Seen) -> list[str]:
        with pytest.raises((KeyboardInterrupt, StudyError)) as ended:
            study_runs.perform(made, program, watcher, lambda: None)
        return [*watcher.begun, str(ended.value)]

    *_, last, _ = perform(Killing())
    assert last == "plain, seed 1: 5 of 6"
    steps = {run.candidate: len(RunDirectory(run.root).metrics()) for run in made.tuning_runs("plain")}
    assert sorted(steps.values()) == [1, 2, 2]
    found = tuning.candidates(made, "plain")

    *_, again = (run for run in made.tuning_runs("plain") if steps[run.candidate] == 2)
    whole = repeatable(RunDirectory(again.root).metrics())
    shutil.rmtree(again.root)
    assert "was killed by signal 9" in perform(Killing(again))[-1]
    begun = perform(Killing())[:-1]
    assert begun[-1] == last
    assert repeatable(RunDirectory(again.root).metrics()) == whole
    assert tuning.candidates(made, "plain") == found
