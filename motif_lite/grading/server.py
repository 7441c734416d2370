"""Mathematical equivalence by math-verify, in a process where nothing that a model writes can do harm.

math-verify has timeouts of its own, but they work in the main thread only and cannot stop a C loop that
multiplies huge integers. So a server process imports it once, and every comparison runs in a fork of that
server with a deadline and a memory limit; a fork that overruns is killed, and so is a server that does not answer.
Requests and results are lines of JSON. Needs a POSIX system (on Windows: WSL).

This file is both sides: `EquivalenceServer` in the caller, and the server itself when it is run as a script. Of this
package the server imports only modules of this folder that need the standard library alone, so it starts in half a
second.
"""

import atexit
import gc
import json
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from motif_lite.grading.rulings import Ruling

DEADLINE_SECONDS = 1.0
"""Longest comparison. Honest ones take 1 to 160 ms."""

GRACE_SECONDS = 0.3
"""How much later than that the server's word is waited for, before it is taken for dead."""

RETURN_SECONDS = 0.4
"""How long one comparison waits for a server that is being replaced; all three together stay below 2 s."""

START_SECONDS = 60.0
"""Longest first start of the server, on a machine under load; not part of any comparison."""

MEMORY_BYTES = 1 << 29
"""Memory that one comparison may take beyond what the server holds."""


class EquivalenceServer:
    """Compares pairs of LaTeX answers; started on first use, replaced if it dies, safe to share by threads."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ready = False
        self._launched = 0.0
        self._lock = threading.Lock()

    def equivalent(self, gold: str, answer: str) -> bool | None:
        """Whether two answers in LaTeX mean the same; None where deadline, memory limit or a crash came first.

        Raises:
            OSError: The first server cannot be started (or `TimeoutError`, which is one).
        """
        with self._lock:
            if self._process is None:
                self._start()
            try:
                return self._ask(json.dumps([gold, answer]).encode() + b"\n")
            except OSError:
                self._replace()
                return None
            except BaseException:  # Ctrl-C between request and result: the result must not become the next one's
                self._stop()
                raise

    def close(self) -> None:
        """End the server process."""
        with self._lock:
            self._stop()

    def _start(self) -> None:
        self._launch()
        try:
            self._await_ready(START_SECONDS)
        except BaseException:
            self._stop()
            raise

    def _ask(self, request: bytes) -> bool | None:
        assert self._process is not None
        if self._process.poll() is not None:
            self._replace()
        if not self._is_ready and not self._is_back():
            return None
        assert self._process.stdin is not None
        self._process.stdin.write(request)
        self._process.stdin.flush()
        return {b"1": True, b"0": False}.get(_read_line(self._process, DEADLINE_SECONDS + GRACE_SECONDS))

    def _is_back(self) -> bool:
        """Whether a server that was replaced is there by now; one that is still starting is left to."""
        try:
            self._await_ready(RETURN_SECONDS)
        except TimeoutError:
            if time.monotonic() - self._launched > START_SECONDS:
                raise
        return self._is_ready

    def _await_ready(self, seconds: float) -> None:
        assert self._process is not None
        _read_line(self._process, seconds)
        self._is_ready = True

    def _replace(self) -> None:
        """End what is left of the server and start another, without waiting for it."""
        self._stop()
        self._launch()

    def _launch(self) -> None:
        # -P: it needs nothing of this folder, so none of its modules can take the place of another.
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C at the terminal is the caller's to handle
        )
        self._is_ready, self._launched = False, time.monotonic()
        atexit.register(self.close)

    def _stop(self) -> None:
        if self._process is None:
            return
        atexit.unregister(self.close)
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):  # what could not be flushed was meant for a process that is gone
                    pipe.close()
        self._process = None


def _read_line(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], seconds)[0]:
        raise TimeoutError
    line = process.stdout.readline()
    if not line:
        raise OSError("the equivalence server has ended")
    return line.strip()


def _serve() -> None:
    """Answer requests until standard input closes."""
    comparing = _comparing()
    comparing.warm_up()
    gc.freeze()  # what a fork never looks at need not be copied for it
    print("ready", flush=True)
    for line in sys.stdin:
        gold, answer = json.loads(line)
        print(_compare_in_fork(comparing.compare, gold, answer), flush=True)


def _comparing() -> ModuleType:
    """What a fork runs, imported from the package that this file belongs to, wherever that lies."""
    root = str(Path(__file__).parents[2])
    sys.path.insert(0, root)
    try:
        from motif_lite.grading import comparing
    finally:
        sys.path.remove(root)
    return comparing


def _compare_in_fork(compare: "Callable[[str, str], Ruling]", gold: str, answer: str) -> str:
    """``1`` for the same, ``0`` for different, ``-`` if the fork did not finish."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _limit_this_process()
            os.write(write_end, b"1" if compare(gold, answer).correct else b"0")
        finally:
            os._exit(0)
    os.close(write_end)
    try:
        in_time = bool(select.select([read_end], [], [], DEADLINE_SECONDS)[0])
        if not in_time:
            os.kill(child, signal.SIGKILL)
        return (os.read(read_end, 1).decode() if in_time else "") or "-"
    finally:
        os.close(read_end)
        os.waitpid(child, 0)


def _limit_this_process() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    limit = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CPU, (5, 5))  # should the server be killed, its fork does not live on
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash leaves no half a gigabyte behind
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints must not pass for a verdict


if __name__ == "__main__":
    _serve()
