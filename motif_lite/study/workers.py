"""Further processes on this machine that work at a study beside this one, on a GPU or a share of the cores each.

Each is the same command in a session of its own; they share the runs as processes in several terminals do (`runs`). One
that is killed leaves its run to the others, who resume it, or wait for the run's own process where that lives on; if
this process is killed, they go on.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from motif_lite.errors import StudyError
from motif_lite.planning import driver, one_card
from motif_lite.planning.driver import Gpu
from motif_lite.process import usable_cores
from motif_lite.study.plan import StudyPlan
from motif_lite.study.runs import python_path

FOLDER = "workers"
"""Of a study: what its further processes print, ``2.log`` and so on."""

_THREADS = "OMP_NUM_THREADS"

Share = Mapping[str, str]
"""Environment variables of one worker."""


@dataclass(frozen=True, slots=True)
class Worker:
    """A further process, and where it prints."""

    process: "subprocess.Popen[bytes]"
    log: Path


@contextmanager
def beside(plan: StudyPlan, number: int, program: Sequence[str]) -> Iterator[list[Worker]]:
    """Have all but one of so many workers at the study meanwhile; this process is the remaining one.

    A Ctrl-C reaches them as it does this process. They are waited for at the end: where all runs are done, they end by
    themselves; otherwise they are told to stop.

    Args:
        program: The program's command, without arguments.

    Yields:
        The others.

    Raises:
        StudyError: There are fewer GPUs than workers.
    """
    if number == 1:
        yield []
        return
    own, *others = shares(number, _gpus(plan))
    command = [*program, "study", str(plan.path), "--out", str(plan.out)]
    command += ["--recipe", str(plan.recipe)] if plan.recipe else []
    workers: list[Worker] = []
    with _passing_on(workers), _set(own):
        try:
            for index, share in enumerate(others, start=2):
                workers.append(_start(command, plan.out / FOLDER / f"{index}.log", share))
            yield workers
        except Exception:
            _interrupt(workers)  # Ctrl-C has reached them already
            raise
        finally:
            _wait(workers)


def shares(number: int, gpus: Sequence[Gpu]) -> list[Share]:
    """What each of several workers gets.

    Args:
        gpus: That the runs may use, the best first; none where they use none.

    Raises:
        StudyError: There are fewer GPUs than workers.
    """
    if gpus:
        if number > len(gpus):
            raise StudyError(
                f"--workers {number}: every run needs a GPU of its own; lower it to the {len(gpus)} seen here"
            )
        return [{"CUDA_VISIBLE_DEVICES": gpu.uuid} for gpu in gpus[:number]]
    if _THREADS in os.environ:
        return [{}] * number
    return [{_THREADS: str(max(1, usable_cores() // number))}] * number


def _gpus(plan: StudyPlan) -> list[Gpu]:
    """Those that the study's runs may use, the best first.

    Raises:
        StudyError: They need one, and it cannot be told which there are, or a recipe names one.
    """
    seed = plan.study.seeds[0]
    devices = {plan.final_run(name, seed, None).resolved().model.device for name in plan.study.variants}
    if devices == {"cpu"}:
        return []
    if named := sorted(device for device in devices if ":" in device):
        raise StudyError(
            f"model.device = {named[0]!r} is one GPU for all workers; set it to 'auto', or use --workers 1"
        )
    asked = driver.ask()
    if asked.fault and shutil.which("nvidia-smi"):
        raise StudyError(f"--workers gives each run a GPU, and {asked.fault}; repair it, or use --workers 1")
    return one_card.usable(asked.gpus)


@contextmanager
def _set(share: Share) -> Iterator[None]:
    """Give this process's runs their share."""
    before = {name: os.environ.get(name) for name in share}
    os.environ.update(share)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _start(command: Sequence[str], log: Path, share: Share) -> Worker:
    environment = os.environ | share | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": python_path()}
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        printed = log.open("ab")
    except OSError as error:
        raise StudyError(f"{log}: cannot be written ({error.strerror}); choose another --out") from None
    with printed:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=printed, stderr=subprocess.STDOUT, env=environment,
            start_new_session=True,
        )  # fmt: skip
    return Worker(process, log)


@contextmanager
def _passing_on(workers: Sequence[Worker]) -> Iterator[None]:
    """Let a signal that stops this process reach the others, too: a run may take minutes to finish its step."""

    def stop(number: int, frame: FrameType | None) -> None:
        _interrupt(workers)
        signal.default_int_handler(number, frame)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(workers: Sequence[Worker]) -> None:
    for worker in workers:
        worker.process.send_signal(signal.SIGINT)  # does nothing to one that has ended


def _wait(workers: Sequence[Worker]) -> None:
    """Until all have ended; a further Ctrl-C, which they have had as well, makes them leave their runs at once."""
    for worker in workers:
        while True:
            try:
                worker.process.wait()
                break
            except KeyboardInterrupt:
                continue
