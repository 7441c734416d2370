"""Which processes still run, as Linux lists them in /proc."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def is_running(process: int) -> bool:
    """Neither gone nor waiting for its parent to notice."""
    with suppress(OSError):
        return _fields(Path(f"/proc/{process}"))[0] not in "ZX"
    return False


def running_in(group: int) -> list[int]:
    """The processes of a group that still run.

    A signal to the group would not tell: where nobody buries an orphan, as in some containers, it reaches the dead.
    """
    return [process for process, of in _groups() if of == group and is_running(process)]


def _groups() -> Iterator[tuple[int, int]]:
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            yield int(folder.name), int(_fields(folder)[2])


def _fields(folder: Path) -> list[str]:
    """State, parent, group and so on; the name before them may hold anything."""
    return (folder / "stat").read_text().rpartition(")")[2].split()
