"""The runs of a study, one after the other, each in a process of its own.

A process of its own gives each run its memory back, lets Unsloth change what it likes, and keeps a crash to itself. A
run that is done is skipped, one that was interrupted is resumed: the same command always goes on. Several processes may
work at one study, in as many terminals; a run that another one holds is left to it.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

import motif_lite
from motif_lite import locks
from motif_lite.errors import RunError, StudyError
from motif_lite.jobs.checking import TABLES
from motif_lite.recipe.keys import differing_keys
from motif_lite.runs import lock, own_code_record
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.folders import holds_run
from motif_lite.runs.records import GradedReply, Mark, Measurement, Subject, When
from motif_lite.runs.resuming import with_decisions_of
from motif_lite.study.file import Value
from motif_lite.study.plan import Run, StudyPlan

_PATIENCE_SECONDS = 2.0
"""Between two looks at what other processes do."""

_LINES_OF_A_CRASH = 15

THIS_PROGRAM = (sys.executable, "-m", "motif_lite")


class Watcher(Protocol):
    """Told how a study gets on; the console implements it."""

    def started(self, name: str, num_done: int, num_runs: int) -> None:
        """A run begins, after so many of all."""

    def line(self, text: str) -> None:
        """What the run says."""

    def finished(self, name: str, figure: str) -> None:
        """The run is done, with the figure that counts."""

    def waiting(self, names: list[str]) -> None:
        """All that is left is in the hands of other processes."""


def perform(plan: StudyPlan, program: Sequence[str], watcher: Watcher, remake: Callable[[], object]) -> None:
    """See all runs through.

    Args:
        program: The command that performs a run, e.g. `THIS_PROGRAM`.
        remake: Makes the results again from the finished runs.

    Raises:
        StudyError: A run has failed, or what lies in a run's folder is not this study's.
        KeyboardInterrupt: The user stopped it, and the run that was under way has stopped.
    """
    check_folders(plan)
    while left := list(missing(plan)):
        for run in left:
            with _claimed(run.root) as is_ours:
                if not is_ours or locks.is_held(run.root / lock.NAME) or is_done(plan, run):
                    continue
                _require_same(run)
                watcher.started(run.name, plan.num_runs - num_left(plan), plan.num_runs)
                _perform(plan, run, program, watcher)
            remake()
            watcher.finished(run.name, figure(plan, run))
            break
        else:
            watcher.waiting([run.name for run in left])
            time.sleep(_PATIENCE_SECONDS)


def missing(plan: StudyPlan) -> Iterator[Run]:
    """The runs that are not done and can be: those that count wait until their variant's value is picked."""
    study = plan.study
    for variant in study.variants:
        yield from (run for run in plan.tuning_runs(variant) if not is_done(plan, run))
    for seed in study.seeds:  # all variants on one seed, then the next: what there is can be compared early
        for variant in study.variants:
            if (run := known_run(plan, variant, seed)) and not is_done(plan, run):
                yield run


def num_left(plan: StudyPlan) -> int:
    """Runs that are not done, those included whose value is not picked yet."""
    unpicked = sum(not is_picked(plan, variant) for variant in plan.study.variants)
    return len(list(missing(plan))) + unpicked * len(plan.study.seeds)


def known_run(plan: StudyPlan, variant: str, seed: int) -> Run | None:
    """The run that counts; None while its variant's value is not picked."""
    if not is_picked(plan, variant):
        return None
    return plan.final_run(variant, seed, picked(plan, variant))


def is_picked(plan: StudyPlan, variant: str) -> bool:
    """Whether all that the choice of a value waits for is done."""
    return all(is_done(plan, run) for run in plan.tuning_runs(variant))


def picked(plan: StudyPlan, variant: str) -> Value | None:
    """The value with the highest mean validation accuracy at the end, of equals the first; None if nothing is tuned."""
    found = candidates(plan, variant)
    return max(found, key=lambda candidate: candidate[1])[0] if found else None


def candidates(plan: StudyPlan, variant: str) -> list[tuple[Value, float]]:
    """Each candidate of a variant with its mean validation accuracy at the end of training over the tuning seeds."""
    by_value: dict[int, tuple[Value, list[float]]] = {}
    for run in plan.tuning_runs(variant):
        assert plan.study.tune is not None and run.candidate is not None
        place = plan.study.tune.values.index(run.candidate)
        by_value.setdefault(place, (run.candidate, []))[1].append(validation(run)[-1].accuracy)
    return [(value, sum(found) / len(found)) for value, found in by_value.values()]


def validation(run: Run) -> list[Mark]:
    """The marks along a run, by step; a mark that was measured twice counts as it was the last time."""
    lines = RunDirectory(run.root).marks()
    return [line for _, line in sorted({line.step: line for line in lines}.items())]


def is_done(plan: StudyPlan, run: Run) -> bool:
    """Whether nothing of a run is left to do; its report is the last thing that it writes."""
    directory = RunDirectory(run.root)
    if not (holds_run(run.root) and directory.report.exists() and (directory.adapter.exists() or not run.trains)):
        return False
    if run.candidate is not None:
        return bool(validation(run))
    return graded_path(plan, run).exists() and measured(plan, run) is not None


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
    """A finished run in a few words."""
    if run.candidate is not None:
        return f"validation {100 * validation(run)[-1].accuracy:.1f} %"
    return f"{100 * result(plan, run).accuracy:.1f} %"


def check_folders(plan: StudyPlan) -> None:
    """Refuse to mix with the runs of another study, or of this one before it was changed.

    Raises:
        StudyError: A folder holds another run than the study wants there.
    """
    runs = [run for variant in plan.study.variants for run in plan.tuning_runs(variant)]
    known = [known_run(plan, variant, seed) for variant in plan.study.variants for seed in plan.study.seeds]
    for run in [*runs, *filter(None, known)]:
        _require_same(run)


def _require_same(run: Run) -> None:
    if not holds_run(run.root):
        return
    directory = RunDirectory(run.root)
    wanted = with_decisions_of(directory, run.resolved(), TABLES)
    if different := differing_keys(directory.resolved(TABLES), wanted):
        raise StudyError(
            f"{run.root}: holds a run with different settings for {', '.join(different)} than the study now asks for; "
            f"remove that folder to repeat the run, change the keys back, or choose another --out"
        )
    own_code_record.require_same(run.root, wanted)


@contextmanager
def _claimed(root: Path) -> Iterator[bool]:
    """Whether a run is ours to perform; while it is, no other process that works at the study takes it."""
    path = root.with_name(f"{root.name}.claim")
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _, is_ours = stack.enter_context(locks.taken(path))
        except OSError as error:
            raise RunError(f"{path}: cannot be written ({error.strerror}); choose another --out") from None
        yield is_ours


def _perform(plan: StudyPlan, run: Run, program: Sequence[str], watcher: Watcher) -> None:
    code, complaint = _talk(_command(run, program), watcher)
    if code in (130, -signal.SIGINT):
        raise KeyboardInterrupt
    if code < 0:
        raise StudyError(
            f"{run.name}: was killed by signal {-code} ({signal.strsignal(-code)}), which happens when memory runs "
            f"out; repeat the command to resume it"
        )
    if code:
        raise StudyError(f"{run.name}: {complaint}\n({run.root}; fix it, then repeat the command to resume)")
    if not is_done(plan, run):
        raise StudyError(
            f"{run.name}: finished, but {run.root} lacks its results; remove that folder to repeat the run"
        )


def _command(run: Run, program: Sequence[str]) -> list[str]:
    changes = [word for change in run.changes for word in ("--set", change)]
    mode = [] if run.trains else ["--evaluate-only"]
    if run.trains and holds_run(run.root):
        mode = ["--resume"]
    return [*program, "--recipe", str(run.recipe), *changes, "--out", str(run.root), *mode]


def _talk(command: list[str], watcher: Watcher) -> tuple[int, str]:
    """Perform a command; its exit code and, where it failed, its complaint.

    It has a session of its own, so that a Ctrl-C reaches it once, from here, and it is waited for. A further one makes
    it leave at once.

    Raises:
        KeyboardInterrupt: The user stopped it, and it has ended.
    """
    interrupted = False
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, start_new_session=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": python_path()},
        )  # fmt: skip
        assert process.stdout is not None
        while True:
            try:
                while line := process.stdout.readline():
                    watcher.line(line.decode(errors="replace").rstrip())
                code = process.wait()
                break
            except KeyboardInterrupt:
                interrupted = True
                watcher.line("stopping; interrupt again to quit immediately")
                process.send_signal(signal.SIGINT)
        process.stdout.close()
        if interrupted:
            raise KeyboardInterrupt
        errors.seek(0)
        return code, _complaint(errors.read())


def python_path() -> str:
    """Where this package is found, wherever the command was called from, before what the user has set."""
    own = str(Path(motif_lite.__file__).parents[1])
    return os.pathsep.join(filter(None, (own, os.environ.get("PYTHONPATH"))))


def _complaint(text: str) -> str:
    """The error that a run printed, or the end of what it printed."""
    found = re.search(r"^error: (.*)", text, re.DOTALL | re.MULTILINE)
    if found and "Traceback" not in text:
        return found[1].strip()
    return "\n".join(["failed", *text.strip().splitlines()[-_LINES_OF_A_CRASH:]])
