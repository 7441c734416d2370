"""Processes that run the program without the seconds that its imports take: ``python tests/faults/nursery.py``.

The nursery imports everything once; for every request, a line of JSON, it forks a process that begins as run.py does.
So tests have real processes to send signals to and to take disks from, a dozen of them in a minute.
"""

import fcntl
import json
import os
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class Nursery:
    """Starts processes; a context that ends the nursery itself."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__))], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, *arguments: str, log: Path, before: str = "", terminal: str = "") -> "Child":
        """Begin ``run.py`` with these arguments.

        Args:
            log: Takes what it prints on both streams.
            before: Python to be executed in the new process first.
            terminal: Path of a terminal to run on instead.
        """
        request = {"arguments": arguments, "log": str(log), "before": before, "terminal": terminal}
        return Child(self._ask(request), log, self._ask)

    def close(self) -> None:
        """End the nursery."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _ask(self, request: dict[str, Any]) -> int:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@dataclass(frozen=True)
class Child:
    """A process that was started."""

    pid: int
    log: Path
    ask: Callable[[dict[str, Any]], int]

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that the process brings about."""
        deadline = time.monotonic() + 600
        while not condition():
            assert time.monotonic() < deadline, self.printed()
            os.kill(self.pid, 0)
            time.sleep(0.002)

    def send(self, signal: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, signal)

    def wait(self) -> int:
        """Its exit code, as a shell says it: 128 and the signal if it died by one."""
        return self.ask({"wait": self.pid})

    def printed(self) -> str:
        """What it has printed."""
        return self.log.read_text() if self.log.exists() else ""


def _serve() -> None:
    """Answer requests until standard input closes; each answer is a number."""
    sys.path.insert(0, str(ROOT))
    from motif_lite.jobs import session
    from motif_lite.policies import backends

    session._quiet_libraries()
    backends.backend("transformers")
    for line in iter(sys.stdin.readline, ""):
        request = json.loads(line)
        print(_exit_code(request["wait"]) if "wait" in request else _fork(request), flush=True)


def _exit_code(pid: int) -> int:
    status = os.waitpid(pid, 0)[1]
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _fork(request: dict[str, Any]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            _run(request)
        finally:
            os._exit(1)
    return pid


def _run(request: dict[str, Any]) -> None:
    from motif_lite import cli

    os.setsid()
    output = request["terminal"] or request["log"]
    descriptor = os.open(output, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    if request["terminal"]:
        fcntl.ioctl(descriptor, termios.TIOCSCTTY, 0)
    for stream in (0, 1, 2):
        os.dup2(descriptor, stream)
    sys.argv = ["run.py", *request["arguments"]]
    exec(request["before"], {})
    code = 1
    try:
        cli.start()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
