"""Where an export lies: a folder next to its own until it was checked, then its own."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from motif_lite.errors import RunError
from motif_lite.runs import sealing

_MARK = ".motif_lite_export"
"""A file in an unfinished export, by which it is told from a folder of the user's."""


def free(to: Path) -> Path:
    """A place for an export, after a folder was made next to it and removed again.

    Returns:
        An absolute path without symbolic links.

    Raises:
        RunError: Something lies there, or it cannot be written.
    """
    try:
        place = to.expanduser().resolve()
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise RunError(f"{to}: is not empty; choose another --to")
        if place == Path.cwd():
            raise RunError(f"{to}: is the current folder, which an export would replace; choose another --to")
        place.parent.mkdir(parents=True, exist_ok=True)
        _make(unfinished_of(place))
        shutil.rmtree(unfinished_of(place))
    except (OSError, RuntimeError, ValueError) as error:
        raise _refused(to, error) from None
    return place


def unfinished_of(to: Path) -> Path:
    """The folder that an export is written to."""
    return to.with_name(f"{to.name}.unfinished")


@contextmanager
def unfinished(to: Path) -> Iterator[Path]:
    """The folder to write to, which gets its own name at the end, or is removed.

    Args:
        to: As `free` gives it.

    Raises:
        RunError: It cannot be made or renamed.
    """
    folder = unfinished_of(to)
    try:
        _make(folder)
    except OSError as error:
        raise _refused(to, error) from None
    try:
        yield folder
        _name(folder, to)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make(folder: Path) -> None:
    """Make the unfinished folder; one that an export was killed in is removed."""
    if folder.is_symlink() or (folder.exists() and not (folder / _MARK).is_file()):
        raise RunError(f"{folder}: is in the way, and no unfinished export; move it, or choose another --to")
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    (folder / _MARK).touch()


def _name(folder: Path, to: Path) -> None:
    """Give a whole export its own name."""
    for file in filter(Path.is_file, folder.rglob("*")):
        sealing.flush(file)
    (folder / _MARK).unlink()
    try:
        if to.exists():
            to.rmdir()
        folder.rename(to)
    except OSError as error:
        raise _refused(to, error) from None


def _refused(to: Path, error: Exception) -> RunError:
    reason = getattr(error, "strerror", None) or error
    return RunError(f"{to}: cannot be written ({reason}); choose another --to")
