"""What the program's process has before anything else: streams that last, docstrings, and UTF-8; and its processors."""

import codecs
import errno
import io
import locale
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def prepare() -> None:
    """Make standard streams last, and have every file that a library opens read and written in UTF-8.

    Raises:
        SystemExit: Python runs without docstrings, or in a folder that is gone.
    """
    _open_closed_streams()
    _require_docstrings()
    _require_folder()
    _in_utf8()
    _read_any_bytes()
    sys.stdout, sys.stderr = cast(TextIO, _Lasting(sys.stdout)), cast(TextIO, _Lasting(sys.stderr))


def usable_cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def crowd() -> tuple[int, int] | None:
    """How many threads wanted a processor over the last five minutes, and how many there are; None where all had one.

    Both are the machine's. Windows does not say.
    """
    if not hasattr(os, "getloadavg"):
        return None
    wanted, there = round(os.getloadavg()[1]), os.cpu_count() or 1
    return (wanted, there) if wanted > there else None


@contextmanager
def reported() -> Iterator[None]:
    """What the program does, after `prepare`; its standard output, a report perhaps, has to arrive.

    Raises:
        SystemExit: With code 2, also where a file did not take all of the output.
    """
    code: str | int | None = None
    try:
        yield
    except SystemExit as ended:
        code = ended.code
    output = cast(Any, sys.stdout)
    output.flush()
    if output.refused is not None and not code:
        sys.stderr.write(f"error: standard output: cannot be written ({output.refused}); what it holds is not whole\n")
        code = 2
    raise SystemExit(code)


class _Lasting:
    """A standard stream whose terminal or pipe may be closed; from then on it discards what is written.

    Attributes:
        refused: Why a file took no more, on a full disk for example; None for a terminal or pipe that was closed.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.refused: str | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._lasting():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._lasting():
            self._stream.flush()

    @contextmanager
    def _lasting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in _FULL:
                self.refused = error.strerror
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())  # not closed: what it still holds is written at the very end
            os.close(nowhere)


def _open_closed_streams() -> None:
    """Give standard streams that were closed (``>&-``) somewhere to go; a file would take their place otherwise."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w"))


def _read_any_bytes() -> None:
    """Have standard input decoded as arguments are, so that other bytes than UTF-8 are found where a text is checked.

    A UnicodeDecodeError would lose the lines that were read ahead, and the user's session with them.
    """
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")


def _require_docstrings() -> None:
    """Refuse a Python that strips docstrings: the recipe's documentation and some libraries are made of them."""
    if sys.flags.optimize > 1:
        sys.stderr.write("error: Python runs without docstrings (-OO); unset PYTHONOPTIMIZE, or set it to 1\n")
        raise SystemExit(2)


def _require_folder() -> None:
    """Refuse a working directory that was removed: libraries ask for it, and end the process where there is none."""
    try:
        os.getcwd()  # noqa: PTH109  # as they do
    except OSError as error:
        sys.stderr.write(f"error: the working directory cannot be used ({error.strerror}); change to another one\n")
        raise SystemExit(2) from None


def _in_utf8() -> None:
    """Begin again in UTF-8 mode where the locale has another encoding: libraries open text files by the locale."""
    if sys.flags.utf8_mode or codecs.lookup(locale.getpreferredencoding(False)).name == "utf-8":
        return
    os.environ["PYTHONUTF8"] = "1"  # for processes that this one starts
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
