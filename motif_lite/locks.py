"""Files that one process at a time holds.

On one machine that is the system's `flock`, which lets go when a process ends, however it ends. Between machines that
share the folder it is a lease (`leases`): a machine that gives no sign of life for some minutes has let go.
"""

import errno
import fcntl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

from motif_lite import leases

_NO_FLOCK = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What a file system says that knows no `flock`; there, the lease is between processes, too."""

_PATIENCE_SECONDS = 1.0


@contextmanager
def taken(path: Path, *, wait: bool = False) -> Iterator[tuple[TextIO, bool]]:
    """Open a file, which is made if it is not there, and try to hold it.

    Args:
        wait: For the process that holds it now, as long as that takes.

    Yields:
        The file, open for reading and appending, and whether it is ours.

    Raises:
        OSError: It cannot be written.
    """
    with path.open("a+", encoding="utf-8") as file, ExitStack() as stack:
        is_alone = _flock(file, wait=wait)
        while not (is_ours := is_alone is not False and _leased(stack, path, is_alone=bool(is_alone))) and wait:
            time.sleep(_PATIENCE_SECONDS)
        yield file, is_ours


def is_held(path: Path) -> bool:
    """Whether a process holds a file. One that is not there is not held, and is not made."""
    if not path.exists():
        return False
    with path.open("a+", encoding="utf-8") as file:
        is_alone = _flock(file, wait=False)
        owner = leases.owner(path)
        return is_alone is False or (owner is not None and _holds(owner, is_alone=bool(is_alone)))


def holder(path: Path) -> leases.Owner | None:
    """Who holds a file that is there on another machine, as far as signs of life tell."""
    owner = leases.owner(path)
    return owner if owner and _holds(owner, is_alone=True) else None


def _leased(stack: ExitStack, path: Path, *, is_alone: bool) -> bool:
    owner = leases.owner(path)
    if owner and _holds(owner, is_alone=is_alone):
        return False
    return stack.enter_context(leases.taken(path, owner.number if owner else 0))


def _holds(owner: leases.Owner, *, is_alone: bool) -> bool:
    """Whether the last owner holds the file still; what this machine left behind does not, if `flock` is ours."""
    return owner.is_alive and not (is_alone and owner.machine == leases.machine())


def _flock(file: TextIO, *, wait: bool) -> bool | None:
    """Whether no other process of this machine holds a file; None where the file system does not know."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_FLOCK:
            raise
        return None
    return True
