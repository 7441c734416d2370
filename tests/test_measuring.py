"""Graded replies of an evaluation."""

from pathlib import Path

import pytest

from motif_lite.context import RunContext
from motif_lite.evaluation.measuring import measure_parts
from motif_lite.grading import answers, judge
from motif_lite.jobs import checking
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.records import Subject
from tests.fakes import RecordingObserver, ScriptedPolicy, problem

RECIPE = checking.check(
    Path(__file__).parents[1] / "recipes" / "tiny_cpu.toml", ["rollout.max_width=2", "evaluation.num_samples=1"]
)
PROBLEMS = [problem(gold=gold, name=f"test/{gold}") for gold in ("2x", "3x", "4x")]


def right_ones(tmp_path: Path, observer: RecordingObserver) -> list[bool]:
    """Whether each reply of ``x+x`` is graded as right."""
    policy = ScriptedPolicy(lambda prompt, sampling: "\\boxed{x+x}")
    run = RunDirectory.create(tmp_path / "run", RECIPE, "")
    context = RunContext(recipe=RECIPE, policy=policy, run=run, observer=observer)
    parts = measure_parts(context, PROBLEMS, Subject("mine", "single_round", "greedy"), 0)
    return [reply.correct for part in parts for reply in part.graded]


def test_replies_are_graded_together_and_the_progress_is_told(tmp_path: Path) -> None:
    answers.forget()
    observer = RecordingObserver()
    assert right_ones(tmp_path, observer) == [True, False, False]
    assert observer.named("phase")[-1] == ("evaluating", "mine, single_round, greedy: grading, 3 replies")
    assert observer.named("advance")[-1] == (3, 3)
    assert observer.notes == []


def test_verdicts_that_are_lost_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers.forget()
    monkeypatch.setattr(judge, "WALL_SECONDS", 0.001)
    monkeypatch.setattr(judge, "MOST_TIMES", 1)
    observer = RecordingObserver()
    assert right_ones(tmp_path, observer) == [False, False, False]
    assert observer.notes == [
        "warning: 3 of 3 replies count as wrong without a verdict: their comparisons were killed or got no processor "
        "time. Free memory or processors before the next evaluation"
    ]
    monkeypatch.undo()
    answers.forget()
