"""The judge's process: compares pairs of answers where nothing that a model writes can do harm.

Who compares is a module of this folder, named on the command line: `comparing`, by math-verify, or `gym`, by the
verifiers of reasoning_gym. math-verify has timeouts of its own, but they work in the main thread only and cannot stop a
C loop that multiplies huge integers. So this process imports such a library once, and every comparison runs in a fork
with limits of its own that the kernel keeps: processor time, whatever else the machine is doing, and memory. Several
forks run at a time.

Run as a script by `judge.Judge`. Requests come as lines of JSON on standard input, ``[number, gold, answer]``. Each is
answered on standard output by ``[number, outcome, ruling]``, in the order in which comparisons end; the ruling, the
fields of a `Ruling`, is null unless the outcome is `DONE`. Needs a POSIX system (on Windows: WSL).

Of this package it imports only modules of this folder that need the standard library alone, so with `comparing` it
starts in half a second.
"""

import gc
import json
import os
import resource
import select
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from motif_lite.grading.rulings import Ruling

    Compare = Callable[[str, str], Ruling]

CPU_SECONDS = 1.5
"""Processor time that one comparison may take.

Most honest ones take 1 to 160 ms; the slowest one of tests/data/pairs.jsonl takes 0.93 s.
"""

MEMORY_BYTES = 1 << 29
"""Memory that one comparison may take beyond what the server holds."""

DONE, TIME, MEMORY, CRASH, LOST = "done", "time", "memory", "crash", "lost"
"""How a comparison ended: with a ruling, at one of its limits, by a fault of its own, or ended by something else."""

_EXITS = {0: DONE, 1: CRASH, 3: MEMORY}
_SIGNALS = {
    signal.SIGPROF: TIME, signal.SIGXCPU: TIME,
    signal.SIGSEGV: CRASH, signal.SIGBUS: CRASH, signal.SIGABRT: CRASH, signal.SIGFPE: CRASH, signal.SIGILL: CRASH,
}  # fmt: skip


@dataclass(slots=True)
class _Fork:
    """A comparison that is under way, for the request of this number."""

    number: int
    pid: int
    said: bytes = b""


def _serve() -> None:
    """Answer requests until standard input closes."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # an interrupted fork has no verdict, rather than an exception
    comparing = _comparing(sys.argv[1])
    comparing.warm_up()
    gc.freeze()  # what a fork never looks at need not be copied for it
    os.write(1, b"ready\n")
    forks: dict[int, _Fork] = {}
    rest = b""
    while True:
        for source in select.select([0, *forks], [], [])[0]:
            if source in forks:
                _hear(source, forks)
                continue
            read = os.read(0, 1 << 16)
            if not read:
                return _end(forks)
            *requests, rest = (rest + read).split(b"\n")
            for request in requests:
                number, gold, answer = json.loads(request)
                with suppress(Exception):  # the comparison meets it again, and ends with an error
                    comparing.prepare(gold)
                source, fork = _forked(comparing.compare, number, gold, answer)
                forks[source] = fork


def _comparing(name: str) -> ModuleType:
    """What a fork runs, imported from the package that this file belongs to, wherever that lies."""
    root = str(Path(__file__).parents[2])
    sys.path.insert(0, root)
    try:
        return import_module(f"motif_lite.grading.{name}")
    finally:
        sys.path.remove(root)


def _forked(compare: "Compare", number: int, gold: str, answer: str) -> tuple[int, _Fork]:
    """Begin a comparison; returns where it says its ruling, which closes when it ends."""
    source, sink = os.pipe()
    pid = os.fork()
    if pid == 0:
        _compare(compare, gold, answer, sink)
    os.close(sink)
    return source, _Fork(number, pid)


def _compare(compare: "Compare", gold: str, answer: str, sink: int) -> NoReturn:
    """All that a fork does."""
    code = 1
    try:
        _limit_this_process()
        ruling = compare(gold, answer)
        os.write(sink, json.dumps([ruling.correct, ruling.rule, ruling.undone]).encode())
        code = 0
    except MemoryError:
        code = 3
    finally:
        os._exit(code)


def _limit_this_process() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    limit = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash leaves no half a gigabyte behind
    # The kernel ends a fork by this signal wherever it computes, in C as well; its clock stands still while it waits.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF})
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    for channel in (0, 1):  # a fork that outlives the server does not hold it open; what a library prints is no answer
        os.dup2(2, channel)


def _hear(source: int, forks: dict[int, _Fork]) -> None:
    """Take what a fork says, and answer its request when it has ended."""
    fork = forks[source]
    said = os.read(source, 1 << 16)
    fork.said += said
    if said:
        return
    del forks[source]
    os.close(source)
    outcome = _outcome(os.waitpid(fork.pid, 0)[1])
    ruling = json.loads(fork.said) if outcome == DONE else None
    os.write(1, json.dumps([fork.number, outcome, ruling]).encode() + b"\n")


def _outcome(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return _EXITS.get(code, CRASH) if code >= 0 else _SIGNALS.get(signal.Signals(-code), LOST)


def _end(forks: dict[int, _Fork]) -> None:
    """Leave no fork behind: one that is stopped would never reach its limit."""
    for fork in forks.values():
        os.kill(fork.pid, signal.SIGKILL)


if __name__ == "__main__":
    _serve()
