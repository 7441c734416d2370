"""Files that one machine at a time holds, in a folder that machines share.

`flock` is often a machine's own business: Lustre and FUSE mounts may keep it to the machine that asked, or have none.
What a shared folder does have is that of all who try at once, one makes a file. So a file NAME is held by who made the
highest of NAME.1, NAME.2, ... and touches it every few seconds. Whoever finds that one old makes the next number; an
owner that finds a higher number than its own ends, for the other one has taken over. Numbers never go back, so nobody
can take what another one has just taken.

Neither library does this. filelock 4.3 takes over by exchanging two names, which the NFS and Lustre clients of Linux
refuse; flufl.lock 10 needs clocks that agree, and says itself that two may break a lock at once.
"""

import os
import platform
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

MACHINE = "MOTIF_LITE_MACHINE"
"""The environment variable with this machine's name, where its own does not tell it from the others."""

STALE_SECONDS = 180.0
"""Without a sign of life for so long, an owner is taken for dead; longer than NFS remembers a file's time (60 s)."""

BEAT_SECONDS = 20.0
"""Between two signs of life."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who made the highest number, and how long ago it was last touched."""

    number: int
    machine: str
    process: str
    seconds: float

    @property
    def is_alive(self) -> bool:
        """Whether there was a sign of life lately; who lets go makes its file old."""
        return self.seconds <= STALE_SECONDS


def machine() -> str:
    """What this machine calls itself, and which start of it this is: `flock` knows no processes of an earlier one."""
    started = Path("/proc/sys/kernel/random/boot_id")
    boot = started.read_text(encoding="ascii").strip()[:8] if started.exists() else ""
    return os.environ.get(MACHINE) or ":".join(filter(None, (platform.node(), boot)))


def owner(path: Path) -> Owner | None:
    """Who held a file last; None if nobody ever did.

    Args:
        path: The file, which is there; it is touched, as a clock: the file server's, whatever the machines' own say.

    Raises:
        OSError: The folder cannot be read.
    """
    number = _highest(path)
    if not number:
        return None
    os.utime(path)
    now = path.stat().st_mtime
    try:
        with _numbered(path, number).open(encoding="utf-8", errors="replace") as file:  # NFS asks anew on opening alone
            process, _, name = file.read().strip().partition(" on ")
            return Owner(number, name, process, now - os.fstat(file.fileno()).st_mtime)
    except FileNotFoundError:  # somebody has made the next one just now
        return Owner(number, "another machine", "unknown", 0.0)


@contextmanager
def taken(path: Path, number: int) -> Iterator[bool]:
    """Try to hold a file by making its next number; meanwhile give signs of life.

    Args:
        number: The highest that there is, whose owner is dead or has let go; 0 if there is none.

    Yields:
        Whether it is ours; another machine may have been faster.

    Raises:
        OSError: The folder cannot be written.
    """
    own = _numbered(path, number + 1)
    try:
        with own.open("x", encoding="utf-8") as file:
            file.write(f"{os.getpid()} on {machine()}\n")
    except FileExistsError:
        yield False
        return
    except OSError:  # a full disk makes the file all the same
        _let_go(own)
        raise
    if _highest(path) > number + 1:  # that was long ago: our number had been made and removed meanwhile
        own.unlink(missing_ok=True)
        yield False
        return
    _remove_below(path, number + 1)
    ended = Event()
    beating = Thread(target=_beat, args=(path, number + 1, ended), name="lease", daemon=True)
    beating.start()
    try:
        yield True
    finally:
        ended.set()
        beating.join()
        _let_go(own)


def _let_go(own: Path) -> None:
    with suppress(OSError):  # it may be gone, with its folder
        os.utime(own, (0, 0))


def _beat(path: Path, number: int, ended: Event) -> None:
    while not ended.wait(BEAT_SECONDS):
        with suppress(OSError):  # the server is away, or the folder is; the work itself will say so
            if _highest(path) > number:
                _end(path)
            os.utime(_numbered(path, number))


def _end(path: Path) -> None:
    """Leave everything to who has taken over; this thread cannot have the others raise anything."""
    sys.stderr.write(
        f"error: {path}: another machine has taken over, for there was no sign of life from here for more than "
        f"{STALE_SECONDS:.0f} s; nothing is lost: leave it to that machine, or repeat the command\n"
    )
    sys.stderr.flush()
    os._exit(2)


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def _numbers(path: Path) -> list[int]:
    pattern = re.compile(rf"{re.escape(path.name)}\.(\d+)")
    found = (pattern.fullmatch(other.name) for other in path.parent.iterdir())
    return [int(match[1]) for match in found if match]


def _highest(path: Path) -> int:
    return max(_numbers(path), default=0)


def _remove_below(path: Path, number: int) -> None:
    for lower in _numbers(path):
        if lower < number:
            _numbered(path, lower).unlink(missing_ok=True)
