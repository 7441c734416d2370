"""Mathematical equivalence by math-verify, in a process where nothing that a model writes can do harm.

math-verify has timeouts of its own, but they work in the main thread only and cannot stop a C loop that
multiplies huge integers. So a server process imports it once, and every comparison runs in a fork of that
server with a deadline and a memory limit; a fork that overruns is killed and its answer counts as different.
Requests and results are lines of JSON. Needs a POSIX system (on Windows: WSL).

This file is both sides: `EquivalenceServer` in the caller, and the server itself when it is run as a script.
It imports nothing of this package, so that the server starts in half a second.
"""

import atexit
import json
import os
import resource
import select
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

DEADLINE_SECONDS = 1.0
"""Longest comparison. Honest ones take 1 to 160 ms; start-up and transport stay within 2 s with it."""

START_SECONDS = 60.0
"""Longest start of the server, on a machine under load; not part of any comparison."""

MEMORY_BYTES = 1 << 30
"""Memory that one comparison may take beyond what the server holds."""


class EquivalenceServer:
    """Compares pairs of LaTeX answers; started on first use, restarted if it dies, safe to share by threads."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self.num_failures = 0
        """Comparisons that ran into the deadline, the memory limit or a crash."""

    def equivalent(self, gold: str, answer: str) -> bool:
        """Whether two answers in LaTeX mean the same; a comparison that cannot be finished says no."""
        with self._lock:
            same = self._ask(json.dumps([gold, answer]).encode() + b"\n")
            self.num_failures += same is None
            return bool(same)

    def close(self) -> None:
        """End the server process."""
        with self._lock:
            self._stop()

    def _ask(self, request: bytes) -> bool | None:
        process = self._running()
        try:
            assert process.stdin is not None
            process.stdin.write(request)
            process.stdin.flush()
            return {b"1": True, b"0": False}.get(_read_line(process, DEADLINE_SECONDS + 0.5))
        except (OSError, TimeoutError):
            self._stop()
            return None
        except BaseException:  # Ctrl-C between request and result: the result must not become the next one's
            self._stop()
            raise

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._stop()
            # -P: this folder holds a types.py, which must not shadow the standard library's.
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(Path(__file__))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C at the terminal is the caller's to handle
            )
            atexit.register(self.close)
            try:
                _read_line(self._process, START_SECONDS)
            except BaseException:
                self._stop()
                raise
        return self._process

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
    _compare("\\frac{1}{2}", "0.5 \\text{ cm}")  # the first parse of a process is slow: pay once, before forking
    _compare("x^2+1", "\\{1, \\sqrt{2}\\}")
    print("ready", flush=True)
    for line in sys.stdin:
        gold, answer = json.loads(line)
        print(_compare_in_fork(gold, answer), flush=True)


def _compare_in_fork(gold: str, answer: str) -> str:
    """``1`` for the same, ``0`` for different, ``-`` if the fork did not finish."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _limit_this_process()
            os.write(write_end, b"1" if _compare(gold, answer) else b"0")
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


def _compare(gold: str, answer: str) -> bool:
    from math_verify import LatexExtractionConfig, parse, verify

    extraction = (LatexExtractionConfig(boxed_match_priority=0),)
    parsed = [
        parse(f"\\boxed{{{text}}}", extraction_config=extraction, parsing_timeout=None) for text in (gold, answer)
    ]
    return bool(
        parsed[0] and parsed[1] and verify(parsed[0], parsed[1], allow_set_relation_comp=True, timeout_seconds=None)
    )


if __name__ == "__main__":
    _serve()
