"""One process at a time works in a run's folder."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from motif_lite import locks
from motif_lite.errors import RunError

NAME = "lock"
"""Of the file; it holds the number of the process."""


@contextmanager
def held(root: Path) -> Iterator[None]:
    """Keep every other process out of a folder.

    Raises:
        RunError: Another process works there, or the folder cannot be written.
    """
    with ExitStack() as stack:
        try:
            root.mkdir(parents=True, exist_ok=True)
            file, is_ours = stack.enter_context(locks.taken(root / NAME))
        except OSError as error:
            raise RunError(f"{root}: cannot be written ({error.strerror}); choose another --out") from None
        if not is_ours:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise RunError(
                f"{root}: is in use by process {holder}; wait until it ends, stop it, or choose another --out"
            )
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
