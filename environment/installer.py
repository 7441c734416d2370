"""Runs pip, or uv where it is there and sees all that pip is configured with, and shows how far it has come."""

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from environment import state
from environment.parts import readable
from environment.state import SetupError

LOG = "install.log"

_PIP = ("--disable-pip-version-check", "--no-input", "--progress-bar", "off")
# Compiling every module takes pip several times as long as unpacking it; Python compiles those that are used, once.
_COMPILING = () if os.environ.get("PYTHONDONTWRITEBYTECODE") else ("--no-compile",)
_UNKNOWN_TO_UV = {
    "cert", "client-cert", "constraint", "extra-index-url", "find-links", "index-url", "no-binary", "no-index",
    "only-binary", "pre", "prefer-binary", "proxy", "require-hashes", "trusted-host",
}  # fmt: skip
"""Settings of pip that decide what is installed, and from where."""

_REMEDIES = [
    (r"No space left|Errno 28|Disk quota", "the disk is full: make room, or put it elsewhere with VENV=/another/disk"),
    (r"CERTIFICATE_VERIFY|SSLError", "the connection's certificate is not trusted: pip config set global.cert FILE"),
    (
        r"NewConnectionError|name resolution|Failed to establish|timed out|Max retries|Connection (?:reset|aborted)|Ret"
        r"rying \(|IncompleteRead|ProtocolError",
        "the package index was not reached: check the network or proxy; the same command tries again",
    ),
    (
        r"command '[^']*(?:cc|clang)[^']*' failed|Python\.h: No such file",
        "pycosat has to be compiled: install a C compiler and Python's headers (Debian and Ubuntu: gcc, python3-dev)",
    ),
    (r"Permission denied|Errno 13", "something belongs to another user: make without sudo, remove what root has made"),
    (r"No matching distribution|Could not find a version", "the package index has no such version for this Python"),
]


@dataclass
class _Seen:
    """What an installer has printed so far.

    Attributes:
        collecting: The package that is looked up or fetched.
        to_install: Number of packages that will be installed; 0 until everything is fetched.
        most_bytes: Fetched so far.
    """

    lines: list[str] = field(default_factory=list)
    collecting: str = ""
    to_install: int = 0
    most_bytes: int = 0

    def read(self, line: str) -> None:
        self.lines.append(line.rstrip())
        if found := re.match(r"(?:Collecting|Processing) (\S+)", line):
            self.collecting = found[1].rpartition("/")[2]
        elif line.startswith("Installing collected packages:"):
            self.to_install = line.count(",") + 1


class Status:
    """One line that says what is being done: rewritten on a terminal, printed now and then elsewhere."""

    def __init__(self) -> None:
        self._on_terminal = sys.stdout.isatty()
        self._started = self._shown = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._started

    def show(self, text: str) -> None:
        """Show what is being done, if the last time is long enough ago."""
        now = time.monotonic()
        if now - self._shown < (0.3 if self._on_terminal else 15):
            return
        self._shown = now
        line = f"  {clock(now - self._started)}  {text}"
        if self._on_terminal:
            line = line[: shutil.get_terminal_size().columns - 1]
            print(f"\r\033[K{line}", end="", flush=True)
        else:
            print(line, flush=True)

    def clear(self) -> None:
        """Take the line off the terminal."""
        if self._on_terminal:
            print("\r\033[K", end="", flush=True)


class Installer:
    """Installs into one environment.

    Args:
        folder: The environment.
    """

    def __init__(self, folder: Path, status: Status) -> None:
        self._folder = folder
        self._status = status
        self._uv = self._usable_uv()

    @property
    def name(self) -> str:
        """``uv`` or ``pip``."""
        return "uv" if self._uv else "pip"

    def install(self, arguments: list[str], *, megabytes: int | None = None, changes_packages: bool = True) -> None:
        """Install what pip's arguments name.

        Args:
            megabytes: What is about to be fetched, where that is known.
            changes_packages: It goes into the environment itself; not with ``--target``.

        Raises:
            SetupError: It failed; says why, as far as can be told.
        """
        (self._folder / LOG).unlink(missing_ok=True)
        if self._uv:
            if changes_packages:
                (self._folder / state.MARK).touch()
            # UV_DEFAULT_INDEX would go before --index-url.
            its = ["--default-index" if argument == "--index-url" else argument for argument in arguments]
            command = [self._uv, "pip", "install", "--python", str(state.python(self._folder)), *its]
            if subprocess.run(command).returncode == 0:
                return
            print("uv failed; trying pip", flush=True)
        self._by_pip(arguments, megabytes, changes_packages)

    def make(self, interpreter: str) -> None:
        """Make the empty environment.

        Raises:
            SetupError: It failed.
        """
        self._folder.mkdir(exist_ok=True)
        (self._folder / state.MARK).touch()
        seen = self._run([interpreter, "-m", "venv", str(self._folder)], lambda _: "making an empty environment")
        if seen:
            raise SetupError(self._complaint(seen))

    def _by_pip(self, arguments: list[str], megabytes: int | None, changes_packages: bool) -> None:
        mark, was_marked = self._folder / state.MARK, (self._folder / state.MARK).exists()
        packages = {path.name for path in self._installed()}

        def doing(seen: _Seen) -> str:
            if not seen.collecting:
                return "looking at what is there"
            if not seen.to_install:
                # The largest size seen: what pip unpacks for a look it removes again.
                seen.most_bytes = max(seen.most_bytes, _size(self._temporary))
                fetched, of_all = readable(seen.most_bytes / 1e6), f" of {readable(megabytes)}" if megabytes else ""
                return f"fetching, {fetched}{of_all}: {seen.collecting}"
            if changes_packages:
                mark.touch()
            done = sum(path.name not in packages for path in self._installed())
            return f"installing, {min(done, seen.to_install)} of {seen.to_install} packages"

        if changes_packages:
            mark.touch()
        command = [str(state.python(self._folder)), "-m", "pip", "install", *_PIP, *_COMPILING, *arguments]
        seen = _Seen()
        try:
            failed = self._run(command, doing, seen)
        finally:
            if not seen.to_install and not was_marked:
                mark.unlink(missing_ok=True)  # it had not begun to change anything
        if failed:
            raise SetupError(self._complaint(failed))

    def _run(self, command: list[str], doing: Callable[[_Seen], str], seen: _Seen | None = None) -> _Seen | None:
        """Run to the end while showing progress; returns what was printed if it failed."""
        seen = seen or _Seen()
        self._temporary.mkdir(exist_ok=True)
        # Wheels are unpacked where there has to be room for them anyway; /tmp may be small.
        environment = os.environ | {"TMPDIR": str(self._temporary), "PYTHONUNBUFFERED": "1"}
        with (
            (self._folder / LOG).open("a", encoding="utf-8") as log,
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                errors="replace", env=environment,
            ) as process,
        ):  # fmt: skip
            assert process.stdout is not None

            def read() -> None:
                for line in process.stdout or ():
                    seen.read(line)
                    log.write(line)

            reader = threading.Thread(target=read)
            reader.start()
            try:
                while reader.is_alive():
                    self._status.show(doing(seen))
                    reader.join(0.1)
                process.wait()
            except BaseException:
                _end(process)
                reader.join()
                raise
            finally:
                self._status.clear()
                shutil.rmtree(self._temporary, ignore_errors=True)
        return seen if process.returncode else None

    @property
    def _temporary(self) -> Path:
        return self._folder / "tmp"

    def _installed(self) -> list[Path]:
        return list(self._folder.glob("lib/python3*/site-packages/*.dist-info"))

    def _usable_uv(self) -> str | None:
        """uv, where pip is not configured with what uv would not see."""
        uv = shutil.which("uv")
        if uv is None or not state.python(self._folder).exists():
            return None
        command = [str(state.python(self._folder)), "-m", "pip", "config", "list"]
        done = subprocess.run(command, capture_output=True, text=True)
        given = [line for line in done.stdout.splitlines() if not line.endswith("=''")]
        keys = {line.partition("=")[0].rpartition(".")[2] for line in given}
        return None if done.returncode or keys & _UNKNOWN_TO_UV else uv

    def _complaint(self, seen: _Seen) -> str:
        log = self._folder / LOG
        last = [line for line in seen.lines if line.strip()][-8:]
        remedies = (remedy for pattern, remedy in _REMEDIES if re.search(pattern, "\n".join(seen.lines)))
        remedy = next(remedies, "the same command tries again")
        return "\n".join(["the installation failed:", *(f"    {line}" for line in last), f"{remedy}. All of it: {log}"])


def clock(seconds: float) -> str:
    """``2:41``."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def _size(folder: Path) -> int:
    """Bytes of all files under a folder that others write to and remove meanwhile."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size  # noqa: PTH118  # 60,000 files: fast
            except OSError:
                continue
    return total


def megabytes(folder: Path) -> float:
    """Of an environment on disk."""
    return _size(folder) / 1e6


def _end(process: subprocess.Popen[str]) -> None:
    """Ctrl-C reached it as well; it gets some seconds to tidy up."""
    try:
        process.terminate()
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
