"""Processes that run the program without the seconds that its imports take: ``python tests/faults/nursery.py``.

The nursery imports everything once; for every request, a line of JSON with three open files, it forks a process that
begins as Python does. So tests have real processes to send signals to and to take disks from, a dozen of them in a
minute. Where the program starts Python itself, it finds `Nursery.python`, which asks the nursery, too.
"""

import fcntl
import gc
import importlib
import json
import os
import runpy
import select
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import termios
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class Nursery:
    """Starts processes; a context that ends the nursery itself.

    Attributes:
        python: A command that takes Python's arguments and has our own programs forked by the nursery.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="nursery-"))
        self._socket = str(self._folder / "socket")
        self.python = self._folder / "python"
        words = (sys.executable, "-IS", str(Path(__file__).with_name("forked_python.py")), self._socket)
        self.python.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        self.python.chmod(0o755)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(self._socket)
            listening.listen(64)
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(listening.fileno()), str(self.python)],
                cwd=ROOT, stdin=subprocess.PIPE, pass_fds=[listening.fileno()],
                env=os.environ | {"HF_HUB_OFFLINE": "1"},  # is read by an import
            )  # fmt: skip

    def start(
        self, *arguments: str, log: Path, errors: Path | None = None, before: str = "", terminal: str = "",
        program: str = "run.py", folder: Path = ROOT, environment: Mapping[str, str] | None = None,
    ) -> "Child":  # fmt: skip
        """Begin ``run.py``, or pytest, with these arguments.

        Args:
            log: Takes what it prints.
            errors: Takes what it prints on the standard error stream; by default it goes to ``log``, too.
            before: Python to be executed in the new process first.
            terminal: Path of a terminal to run on instead.
            program: A key of `PROGRAMS`.
            folder: Where it runs.
            environment: Its variables, by default those of this process.
        """
        request = {
            "arguments": [*PROGRAMS[program], *arguments], "folder": str(folder), "before": before,
            "environment": dict(os.environ if environment is None else environment), "terminal": bool(terminal),
        }  # fmt: skip
        paths = [terminal] * 3 if terminal else [os.devnull, str(log), str(errors or log)]
        files = [os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOCTTY) for path in paths]
        asked = socket.socket(socket.AF_UNIX)
        asked.connect(self._socket)
        socket.send_fds(asked, [json.dumps(request).encode() + b"\n"], files)
        for file in files:
            os.close(file)
        return Child(_number(asked), log, asked)

    def run(
        self, *arguments: str, program: str = "run.py", folder: Path = ROOT,
        environment: Mapping[str, str] | None = None,
    ) -> "subprocess.CompletedProcess[str]":  # fmt: skip
        """What a program did with these arguments, to its end, as `subprocess.run` tells it."""
        with tempfile.TemporaryDirectory() as printed:
            log, errors = Path(printed) / "out", Path(printed) / "err"
            code = self.start(
                *arguments, log=log, errors=errors, program=program, folder=folder, environment=environment
            ).wait()
            texts = (path.read_text(errors="surrogateescape") for path in (log, errors))
            return subprocess.CompletedProcess(arguments, code, *texts)

    def close(self) -> None:
        """End the nursery."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        shutil.rmtree(self._folder)


@dataclass(frozen=True)
class Child:
    """A process that was started."""

    pid: int
    log: Path
    asked: socket.socket

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
        code = _number(self.asked)
        self.asked.close()
        return code if code >= 0 else 128 - code

    def printed(self) -> str:
        """What it has printed."""
        return self.log.read_text() if self.log.exists() else ""


def _number(asked: socket.socket) -> int:
    line = b""
    while not line.endswith(b"\n"):
        part = asked.recv(1)
        assert part, "the nursery has ended"
        line += part
    return int(line)


def _serve(listening: socket.socket, python: str) -> None:
    """Answer requests until standard input closes, each with the process's number and at its end the exit code."""
    sys.path[0] = str(ROOT)
    sys.executable = python
    from motif_lite.jobs import session
    from motif_lite.policies import backends

    session.prepare_libraries()
    backends.backend("transformers")
    for module in AFTER_THE_POLICY:
        importlib.import_module(module)
    gc.freeze()  # what is never looked at again stays shared memory
    while sys.stdin not in (ready := select.select([sys.stdin, listening], [], [])[0]):
        asked = listening.accept()[0] if ready else None
        if asked and os.fork() == 0:
            listening.close()
            _care_for(asked)
        if asked:
            asked.close()
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _care_for(asked: socket.socket) -> None:
    """Fork the process and tell of it; its number stays its own until nobody asks any more."""
    code = 1
    try:
        request, files = _received(asked)
        pid = os.fork()
        if pid == 0:
            asked.close()
            _run(request, files)
        for file in files:
            os.close(file)
        with suppress(OSError):  # killed who asked, e.g. a study
            asked.sendall(b"%d\n" % pid)
            status = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            assert status is not None
            code = status.si_status if status.si_code == os.CLD_EXITED else -status.si_status
            asked.sendall(b"%d\n" % code)
            asked.recv(1)
        code = 0
    finally:
        os._exit(code)


def _received(asked: socket.socket) -> tuple[dict[str, Any], list[int]]:
    text, files, _, _ = socket.recv_fds(asked, 65536, 3)
    while not text.endswith(b"\n"):
        text += asked.recv(65536)
    return json.loads(text), files


def _run(request: dict[str, Any], files: list[int]) -> None:
    """Become the process that was asked for."""
    os.setsid()
    for stream, file in enumerate(files):
        os.dup2(file, stream)
        os.close(file)
    if request.get("terminal"):
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.stdin = os.fdopen(0, closefd=False)  # the nursery has read from its own
    code = 1
    try:
        exec(request.get("before", ""), {})
        _python(request["arguments"])
        code = 0
    except SystemExit as end:
        code = _exit_code(end)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def _exit_code(end: SystemExit) -> int:
    if isinstance(end.code, str):
        print(end.code, file=sys.stderr)
        return 1
    return int(end.code or 0)


def _python(arguments: list[str]) -> None:
    if os.environ.get("PYTHONUNBUFFERED"):
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.orig_argv = [sys.executable, *arguments]
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")


PROGRAMS = {"run.py": [str(ROOT / "run.py")], "pytest": ["-m", "pytest"]}
"""What a process can be, in Python's arguments."""

AFTER_THE_POLICY = (
    "motif_lite.training.grpo", "motif_lite.cli", "motif_lite.tasks.tiny_model", "motif_lite.evaluation.benchmarks",
    "motif_lite.training.warm_start", "motif_lite.views.report", "statsmodels.stats.proportion", "scipy.stats",
)  # fmt: skip
"""What a run imports on its way, TRL included: after the policy's libraries, as in a run."""


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2])
