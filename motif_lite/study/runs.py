"""The runs of a study, one after the other, each in a process of its own.

A process of its own gives each run its memory back, lets Unsloth change what it likes, and keeps a crash to itself. A
run that is done is skipped, one that was interrupted is resumed: the same command always goes on. Several processes may
work at one study, in as many terminals; a run that another one holds is left to it, and one whose study was killed to
its own process.
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
from typing import Protocol, TextIO

import motif_lite
from motif_lite import locks
from motif_lite.errors import RunError, StudyError
from motif_lite.jobs.checking import TABLES
from motif_lite.recipe.keys import differing_keys
from motif_lite.runs import lock, own_code_record
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.folders import holds_run
from motif_lite.runs.resuming import with_decisions_of
from motif_lite.study.finished import figure, has_failed, is_done
from motif_lite.study.plan import Run, StudyPlan
from motif_lite.study.schedule import known_run, missing, num_left

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
            with _claimed(run.root) as claim:
                if claim is None or locks.is_held(run.root / lock.NAME) or is_done(plan, run):
                    continue
                _require_same(run)
                watcher.started(run.name, plan.num_runs - num_left(plan), plan.num_runs)
                _perform(plan, run, program, watcher, claim)
            remake()
            watcher.finished(run.name, figure(plan, run))
            break
        else:
            watcher.waiting([run.name for run in left])
            time.sleep(_PATIENCE_SECONDS)


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
def _claimed(root: Path) -> Iterator[TextIO | None]:
    """The claim to a run, if it is ours to perform; while it is, no other process that works at the study takes it."""
    path = root.with_name(f"{root.name}.claim")
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            claim, is_ours = stack.enter_context(locks.taken(path))
        except OSError as error:
            raise RunError(f"{path}: cannot be written ({error.strerror}); choose another --out") from None
        yield claim if is_ours else None


def _perform(plan: StudyPlan, run: Run, program: Sequence[str], watcher: Watcher, claim: TextIO) -> None:
    code, complaint = _talk(_command(run, program), watcher, claim)
    if code in (130, -signal.SIGINT):
        raise KeyboardInterrupt
    if code < 0:
        raise StudyError(
            f"{run.name}: was killed by signal {-code} ({signal.strsignal(-code)}), which happens when memory runs "
            f"out; repeat the command to resume it"
        )
    if code and has_failed(run):
        return
    if code:
        way_out = "fix it" if run.candidate is None else f"fix it, or take {run.candidate} out of tune.values"
        raise StudyError(f"{run.name}: {complaint}\n({run.root}; {way_out}, then repeat the command to resume)")
    if not is_done(plan, run):
        raise StudyError(
            f"{run.name}: finished, but {run.root} lacks its results; remove that folder to repeat the run"
        )


def _command(run: Run, program: Sequence[str]) -> list[str]:
    changes = [word for change in run.changes for word in ("--set", change)]
    mode = [] if run.trains else ["--evaluate-only"]
    if run.trains and holds_run(run.root):
        mode = ["--resume"]
    if run.share < 1:
        mode += ["--pause-at", repr(run.share)]
    return [*program, "--recipe", str(run.recipe), *changes, "--out", str(run.root), *mode]


def _talk(command: list[str], watcher: Watcher, claim: TextIO) -> tuple[int, str]:
    """Perform a command; its exit code and, where it failed, its complaint.

    It has a session of its own, so that a Ctrl-C reaches it once, from here, and it is waited for. A further one makes
    it leave at once.

    Args:
        claim: To the run. The command keeps it open, and so locked (`flock`) until it ends, also if this process is
            killed: it may be loading its model by then, with its folder not locked yet.

    Raises:
        KeyboardInterrupt: The user stopped it, and it has ended.
    """
    interrupted = False
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, start_new_session=True,
            pass_fds=[claim.fileno()],
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
