"""Further processes on this machine that work at a study beside this one, on a GPU or a share of the cores each.

Each is the same command in a session of its own; they share the runs as processes in several terminals do (`runs`). One
that is killed leaves its run to the others, who resume it.
"""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from motif_lite.errors import StudyError
from motif_lite.planning import driver
from motif_lite.planning.driver import Gpu
from motif_lite.study.plan import StudyPlan
from motif_lite.study.runs import python_path

FOLDER = "workers"
"""Of a study: what its further processes print, ``2.log`` and so on."""

_THREADS = "OMP_NUM_THREADS"

Share = Mapping[str, str]
"""Environment variables of one worker."""


@contextmanager
def beside(plan: StudyPlan, number: int, program: Sequence[str]) -> Iterator[list[Path]]:
    """Have all but one of so many workers at the study meanwhile; this process is the remaining one.

    A Ctrl-C reaches them as it does this process. They are waited for at the end: where all runs are done, they end by
    themselves; otherwise they are told to stop.

    Args:
        program: The program's command, without arguments.

    Yields:
        Where they print.

    Raises:
        StudyError: There are fewer GPUs than workers.
    """
    own, *others = shares(number, driver.ask().gpus if _uses_gpu(plan) else ())
    os.environ.update(own)
    folder = plan.out / FOLDER
    logs = [folder / f"{index}.log" for index in range(2, number + 1)]
    command = [*program, "study", str(plan.path), "--out", str(plan.out)]
    processes: list[subprocess.Popen[bytes]] = []
    with _passing_on(processes):
        try:
            for log, share in zip(logs, others, strict=True):
                processes.append(_start(command, log, share))
            yield logs
        except BaseException:
            _interrupt(processes)
            raise
        finally:
            _wait(processes)


def shares(number: int, gpus: Sequence[Gpu]) -> list[Share]:
    """What each worker gets.

    Args:
        gpus: That the runs may use; none where they use none.

    Raises:
        StudyError: There are fewer GPUs than workers.
    """
    if gpus:
        if number > len(gpus):
            seen = "1 GPU" if len(gpus) == 1 else f"{len(gpus)} GPUs"
            raise StudyError(f"--workers {number}: every run needs a GPU of its own, and there is {seen}")
        return [{"CUDA_VISIBLE_DEVICES": gpu.uuid} if number > 1 and gpu.uuid else {} for gpu in gpus[:number]]
    if number == 1 or _THREADS in os.environ:
        return [{}] * number
    return [{_THREADS: str(max(1, len(os.sched_getaffinity(0)) // number))}] * number


def _uses_gpu(plan: StudyPlan) -> bool:
    seed = plan.study.seeds[0]
    return any(plan.final_run(name, seed, None).resolved().model.device != "cpu" for name in plan.study.variants)


def _start(command: Sequence[str], log: Path, share: Share) -> "subprocess.Popen[bytes]":
    environment = os.environ | share | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": python_path()}
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as printed:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=printed, stderr=subprocess.STDOUT, env=environment,
                start_new_session=True,
            )  # fmt: skip
    except OSError as error:
        raise StudyError(f"{log}: cannot be written ({error.strerror}); choose another --out") from None


@contextmanager
def _passing_on(processes: "list[subprocess.Popen[bytes]]") -> Iterator[None]:
    """Let a signal that stops this process reach the others, too: a run may take minutes to finish its step."""

    def stop(number: int, frame: FrameType | None) -> None:
        _interrupt(processes)
        signal.default_int_handler(number, frame)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(processes: "Sequence[subprocess.Popen[bytes]]") -> None:
    for process in processes:
        process.send_signal(signal.SIGINT)  # does nothing to one that has ended


def _wait(processes: "Sequence[subprocess.Popen[bytes]]") -> None:
    """Until all have ended; a further Ctrl-C, which they have had as well, makes them leave their runs at once."""
    for process in processes:
        while True:
            try:
                process.wait()
                break
            except KeyboardInterrupt:
                continue
