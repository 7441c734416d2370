"""One process at a time works in a run's folder."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from motif_lite import leases, locks
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
            raise RunError(f"{root}: is in use by {_holder(root, file.read().strip())}, or choose another --out")
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _holder(root: Path, process: str) -> str:
    """Who it is, and what to do about it."""
    other = locks.holder(root / NAME)
    if other is None:
        return f"process {process or 'unknown'}; wait until it ends, stop it"
    left = max(1.0, leases.STALE_SECONDS - other.seconds)
    return (
        f"process {other.process} on the machine {other.machine}, which gave a sign of life {other.seconds:.0f} s ago; "
        f"wait until it ends, stop it, repeat the command in {left:.0f} s if that machine is gone"
    )
