"""What the runs of a study have left behind: whether each is done, and its figures."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.folders import holds_run
from motif_lite.runs.giving_up import is_given_up
from motif_lite.runs.records import GradedReply, Mark, Measurement, Subject, When
from motif_lite.study.plan import Run, StudyPlan

_Stands = tuple[tuple[int, int] | None, ...]
"""Size and time of each of its files."""


@dataclass(frozen=True, slots=True)
class _Training:
    """What the lines of a run's steps and marks say of it.

    Attributes:
        mark: That it is judged by.
        is_given_up: Its gradients were no numbers any more.
    """

    mark: Mark | None
    is_given_up: bool


def validation(run: Run) -> list[Mark]:
    """The marks along a run, by step; a mark that was measured twice counts as it was the last time."""
    lines = RunDirectory(run.root).marks()
    return [line for _, line in sorted({line.step: line for line in lines}.items())]


def last_mark(run: Run) -> Mark | None:
    """The mark that a run is judged by: at its end or, of one that pauses, the first with its share of the budget."""
    return _training(run).mark


def _as_it_stands(root: Path) -> _Stands:
    """Tells whether anything was added to a run's lines."""
    found: list[tuple[int, int] | None] = []
    for name in ("metrics.jsonl", "validation.jsonl"):
        try:
            file = (root / name).stat()
        except OSError:
            found.append(None)
        else:
            found.append((file.st_size, file.st_mtime_ns))
    return tuple(found)


def _training(run: Run) -> _Training:
    return _training_of(run, _as_it_stands(run.root))


@lru_cache(maxsize=2**14)  # a study with tuning asks thousands of times, and whoever works at it asks after each run
def _training_of(run: Run, stands: _Stands) -> _Training:
    marks, metrics = validation(run), RunDirectory(run.root).metrics()
    if run.share == 1 or not marks:
        return _Training(marks[-1] if marks else None, is_given_up(metrics))
    shares = {line.step: line.share_done or 0.0 for line in metrics}
    judged = next((mark for mark in marks if shares.get(mark.step, 0.0) >= run.share), None)
    return _Training(judged, is_given_up(metrics))


def is_done(plan: StudyPlan, run: Run) -> bool:
    """Whether nothing of a run is left to do.

    Its report is the last thing that it writes, unless it pauses or fails.
    """
    if has_failed(run):
        return True
    if run.share < 1:
        return holds_run(run.root) and last_mark(run) is not None
    directory = RunDirectory(run.root)
    if not (holds_run(run.root) and directory.report.exists() and (directory.adapter.exists() or not run.trains)):
        return False
    if run.candidate is not None:
        return last_mark(run) is not None
    return graded_path(plan, run).exists() and measured(plan, run) is not None


def has_failed(run: Run) -> bool:
    """Whether a tuning run was given up before it got so far: its gradients were no numbers any more.

    Its metrics.jsonl says so: their last steps have no update (`runs.giving_up`).
    """
    if run.candidate is None or not holds_run(run.root) or (run.share < 1 and last_mark(run) is not None):
        return False
    return _training(run).is_given_up


def measured(plan: StudyPlan, run: Run) -> Measurement | None:
    """The entry of evaluation.json that counts; None while it is not measured."""
    return RunDirectory(run.root).evaluation().find(*_measured_as(plan, run))


def result(plan: StudyPlan, run: Run) -> Measurement:
    """The entry of a run that is done."""
    found = measured(plan, run)
    assert found is not None
    return found


def graded(plan: StudyPlan, run: Run) -> list[GradedReply]:
    """The graded replies that count."""
    return RunDirectory(run.root).graded(*_measured_as(plan, run))


def graded_path(plan: StudyPlan, run: Run) -> Path:
    """Where they lie."""
    return RunDirectory(run.root).graded_path(*_measured_as(plan, run))


def _measured_as(plan: StudyPlan, run: Run) -> tuple[Subject, When]:
    study = plan.study
    return Subject(study.benchmark, plan.strategies[run.variant], study.decoding), "after" if run.trains else "before"


def figure(plan: StudyPlan, run: Run) -> str:
    """A run that is done in a few words."""
    if run.candidate is not None:
        judged = accuracy(run)
        return "failed, its gradients were not numbers" if judged is None else f"validation {100 * judged:.1f} %"
    return f"{100 * result(plan, run).accuracy:.1f} %"


def accuracy(run: Run) -> float | None:
    """What a tuning run that is done is judged by; None where it has failed."""
    if has_failed(run):
        return None
    mark = last_mark(run)
    assert mark is not None
    return mark.accuracy
