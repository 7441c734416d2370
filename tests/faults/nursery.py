"""Processes that run the program without the seconds that its imports take: ``python tests/faults/nursery.py``.

The nursery imports everything once; for every request, a line of JSON, it forks a process that begins as run.py does.
So tests have real processes to send signals to and to take disks from, a dozen of them in a minute.
"""

import fcntl
import json
import os
import subprocess
import sys
import tempfile
import termios
import time
import traceback
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

    def start(
        self, *arguments: str, log: Path, errors: Path | None = None, before: str = "", terminal: str = "",
        program: str = "run.py",
    ) -> "Child":  # fmt: skip
        """Begin ``run.py``, or pytest, with these arguments.

        Args:
            log: Takes what it prints.
            errors: Takes what it prints on the standard error stream; by default it goes to ``log``, too.
            before: Python to be executed in the new process first.
            terminal: Path of a terminal to run on instead.
            program: A key of `PROGRAMS`.
        """
        request = {
            "arguments": arguments, "log": str(log), "errors": str(errors or log), "before": before,
            "terminal": terminal, "program": program,
        }  # fmt: skip
        return Child(self._ask(request), log, self._ask)

    def run(self, *arguments: str, program: str = "run.py") -> "subprocess.CompletedProcess[str]":
        """What a program did with these arguments, to its end, as `subprocess.run` tells it."""
        with tempfile.TemporaryDirectory() as folder:
            log, errors = Path(folder) / "out", Path(folder) / "err"
            code = self.start(*arguments, log=log, errors=errors, program=program).wait()
            return subprocess.CompletedProcess(arguments, code, log.read_text(), errors.read_text())

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
    os.setsid()
    outputs = [request["terminal"] or request[name] for name in ("log", "log", "errors")]
    descriptors = [os.open(output, os.O_RDWR | os.O_CREAT | os.O_APPEND) for output in outputs]
    if request["terminal"]:
        fcntl.ioctl(descriptors[0], termios.TIOCSCTTY, 0)
    for stream, descriptor in enumerate(descriptors):
        os.dup2(descriptor, stream)
    sys.stdin = os.fdopen(0, closefd=False)  # the nursery has read from its own
    sys.argv = [request["program"], *request["arguments"]]
    exec(request["before"], {})
    code = 1
    try:
        PROGRAMS[request["program"]]()
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def _run_py() -> None:
    from motif_lite import cli

    cli.start()


def _pytest() -> None:
    import pytest

    raise SystemExit(pytest.main(sys.argv[1:]))


PROGRAMS = {"run.py": _run_py, "pytest": _pytest}
"""What a process can be."""


if __name__ == "__main__":
    _serve()
