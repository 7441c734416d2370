"""Several processes of one run, started and seen through: what ``--processes N`` does.

Each is the same command with torchrun's variables in its environment (`ranks`), so torchrun and ``accelerate launch``
can take this launcher's place. They are in sessions of their own: Ctrl-C reaches the launcher alone, which passes
it on to the main process (`stopping`); the others follow that one. When one of them ends before its time, all do.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from motif_lite.credits.table import credit_of
from motif_lite.errors import MissingHardwareError, RecipeError, RunError
from motif_lite.jobs.stopping import FROM_LAUNCHER
from motif_lite.planning import driver, one_card
from motif_lite.planning.hardware import torch_build
from motif_lite.process import usable_cores
from motif_lite.ranks import LAUNCHER
from motif_lite.recipe.schema import Recipe

FOLLOWING_SECONDS = 10.0
"""After a helper has failed the others have so long to end by themselves; one that only followed has not failed."""

HELPERS_SECONDS = 1.0
"""And so long after that of the main process: they write nothing, and it may have waited long for one of them."""

_LOOKING_SECONDS = 0.05

_BY_REQUEST = (-FROM_LAUNCHER, -signal.SIGINT, -signal.SIGTERM)
"""Exit codes of a main process that was asked to stop before it could heed that."""

_HEEDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Process = subprocess.Popen[bytes]


def require_shareable(recipe: Recipe, count: int, *, trains: bool, here: bool = True, resumes: bool = False) -> None:
    """Refuse a recipe that several processes cannot share.

    Args:
        here: On this machine, which has to have a GPU for each.
        resumes: The recipe is that of a run, and may not become another one.

    Raises:
        RecipeError: Its backend or its problems do not allow it.
        MissingHardwareError: There is not a GPU for each.
    """
    if count == 1:
        return
    for obstacle, otherwise in _obstacles(recipe, trains=trains):
        way = f", or {otherwise}" if otherwise and not resumes else ""
        raise RecipeError(f"--processes {count}: {obstacle}; leave --processes out{way}")
    problems = recipe.training.problems_per_step if trains else count
    fitting = [each for each in range(1, problems + 1) if problems % each == 0]
    if count not in fitting:
        raise RecipeError(
            f"--processes {count} does not divide training.problems_per_step = {problems}, and each process rolls out "
            f"whole problems; take --processes {' or '.join(map(str, fitting))}"
            f"{'' if resumes else _larger_step(recipe, count)}"
        )
    found = driver.ask().gpus if here and recipe.model.device != "cpu" and torch_build() == "CUDA" else ()
    gpus = one_card.usable(found)
    if gpus and len(gpus) < count:
        way = "" if resumes else ", or train on the CPU with --set model.device=\"'cpu'\""
        most = max(each for each in fitting if each <= len(gpus)) if trains else len(gpus)
        raise MissingHardwareError(
            f"--processes {count}: each takes a GPU, and there is only {', '.join(gpu.name for gpu in gpus)}; take "
            f"--processes {most}{way}"
        )


def _obstacles(recipe: Recipe, *, trains: bool) -> Iterator[tuple[str, str]]:
    """What in a recipe cannot be shared, and what to change in a new run, where that helps."""
    if recipe.model.backend == "unsloth":
        yield "Unsloth trains on one GPU", "--set model.backend=\"'transformers'\", which trains on several"
    if recipe.model.backend == "server":
        yield "a server has processes of its own, and is asked for model.requests replies at a time", ""
    if recipe.rollout.server is not None:
        yield (
            "one process sends its adapter to rollout.server, which writes all replies",
            "rollout.server and rollout.server_folder",
        )
    if trains and recipe.warm_start is not None:
        yield "a warm start trains in one process", "[warm_start]"
    if trains and recipe.data.raise_above is not None:
        yield (
            "with data.raise_above the next level follows from metrics, which the main process alone has",
            "data.raise_above, and the level follows from the number of the step",
        )
    if ":" in recipe.model.device:
        yield (
            f"model.device = {recipe.model.device!r} names one GPU",
            "--set model.device=\"'auto'\", and each process takes one of its own",
        )


def _larger_step(recipe: Recipe, count: int) -> str:
    """The remedy of a new run: the next number of problems that can be shared, where there are so many."""
    section = recipe.training
    problems = -(-section.problems_per_step // count) * count
    if recipe.data.num_problems is not None and recipe.data.num_problems < problems:
        return ""
    rows = credit_of(recipe).trained_per_step(recipe) // section.problems_per_step * problems
    size = section.micro_batch_size
    change = f", or --set training.problems_per_step={problems}"
    if isinstance(size, int) and rows % size:
        change += f" --set training.micro_batch_size={next(each for each in range(size, 0, -1) if rows % each == 0)}"
    return change


def launch(count: int) -> int:
    """Run this very command in so many processes; returns the exit code of the main one.

    Raises:
        RunError: One was killed, and the run ended early.
        KeyboardInterrupt: The user stopped it before the main process could do so in order.
    """
    with _signals() as asked:
        variables = _variables(count)
        processes = [_started(number, variables) for number in range(count)]
        first = _seen_through(processes, asked)
    code, ended = int(processes[0].returncode), int(processes[first].returncode)
    if code in _BY_REQUEST and not {signal.SIGINT, signal.SIGTERM}.isdisjoint(asked):
        raise KeyboardInterrupt
    if code in (0, 130) or (code > 0 and ended >= 0):
        return code
    told = "" if code > 0 else (
        ", and with it the run; what it saved is intact; to continue, repeat the command with --resume"
    )  # fmt: skip
    raise RunError(
        f"process {first + 1} of {count} {_ended(ended)}{told}. If the system killed it for want of memory, take "
        f"fewer processes"
    )


def _variables(count: int) -> dict[str, str]:
    """What all processes have in common; they share the processors, unless the user has said how."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, usable_cores() // count))
    return {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count),
        "OMP_NUM_THREADS": threads, LAUNCHER: str(os.getpid()),
    }  # fmt: skip


def _started(number: int, variables: dict[str, str]) -> Process:
    """One process; the main one alone has the terminal."""
    nowhere = subprocess.DEVNULL if number else None
    return subprocess.Popen(
        [sys.executable, *sys.orig_argv[1:]],
        env=os.environ | variables | {"RANK": str(number), "LOCAL_RANK": str(number)},
        stdin=nowhere, stdout=nowhere, start_new_session=True,
    )  # fmt: skip


def _seen_through(processes: list[Process], asked: list[int]) -> int:
    """Wait for the end of all; returns which one ended first that did not end well, the main one where all did."""
    first, deadline, passed_on = None, float("inf"), 0
    while None in (codes := [process.poll() for process in processes]) or first is None:
        for number in asked[passed_on:]:
            processes[0].send_signal(signal.SIGHUP if number == signal.SIGHUP else FROM_LAUNCHER)
            passed_on += 1
        failed = sorted((code > 0, number) for number, code in enumerate(codes) if code)
        if first is None and (failed or codes[0] == 0):  # of two at a time the one that was killed
            first, deadline = failed[0][1] if failed else 0, time.monotonic() + FOLLOWING_SECONDS
        if codes[0] is not None:
            deadline = min(deadline, time.monotonic() + HELPERS_SECONDS)
        if time.monotonic() > deadline:
            for process in processes:
                process.kill()
        time.sleep(_LOOKING_SECONDS)
    return first


@contextmanager
def _signals() -> Iterator[list[int]]:
    """The signals that come, in a list that grows; the launcher itself ends when its processes have."""
    asked: list[int] = []
    before = {number: signal.signal(number, lambda number, _: asked.append(number)) for number in _HEEDED}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ended(code: int) -> str:
    return f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with exit code {code}"
