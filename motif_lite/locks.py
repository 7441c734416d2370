"""Files that one process at a time holds; the system lets go when it ends, however it ends."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


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
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield file, False
        else:
            yield file, True


def is_held(path: Path) -> bool:
    """Whether a process holds a file. One that is not there is not held, and is not made."""
    if not path.exists():
        return False
    with taken(path) as (_, is_free):
        return not is_free
