"""Which folders hold runs, and which are free for a new one."""

import errno
import os
import re
import tempfile
from pathlib import Path

from motif_lite.errors import RunError

_LEFT_BY_A_FALSE_START = {
    "lock", "recipe.toml", "recipe.toml.unfinished", "checkpoints", "resolved.json.unfinished",
    "own_code", "own_code.json", "own_code.json.unfinished", "inputs.json", "inputs.json.unfinished",
}  # fmt: skip
"""What a process may leave behind that ended before it had begun a run."""


def require_free(root: Path) -> None:
    """Refuse a folder that something else lies in.

    Raises:
        RunError: It is not an empty folder, nor free to be made.
    """
    try:
        here = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
        if not here.is_dir() and here != root:
            raise NotADirectoryError(errno.ENOTDIR, f"{here} is a file")
        is_free = here.is_dir() and (here != root or _holds_nothing(root))
        if is_free:
            _require_writable(here, is_root=here == root)
    except OSError as error:
        raise RunError(f"{root}: cannot be written ({error.strerror}); choose another --out") from None
    if not is_free:
        raise RunError(f"{root}: is not empty; continue that run with --resume, or choose another --out")


def _require_writable(here: Path, *, is_root: bool) -> None:
    """Try to make a folder, which alone tells for all file systems; in the run's own nothing is made.

    Raises:
        OSError: It cannot be made.
    """
    if is_root:
        if not os.access(here, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    else:
        try:
            Path(tempfile.mkdtemp(prefix=".motif_lite-", dir=here)).rmdir()
        except OSError as error:
            raise OSError(error.errno, f"no folder can be made in {here}: {error.strerror}") from None


def _holds_nothing(root: Path) -> bool:
    """Whether a folder is empty but for what a process leaves behind that ended before it had begun a run."""
    return all(
        path.name in _LEFT_BY_A_FALSE_START or path.stem == "lock" or path.parent == root / "own_code"
        for path in root.rglob("*")
    )


def free_folder(base: Path) -> Path:
    """``base``, or the first of ``base-2``, ``base-3``, ... that does not exist."""
    number = 1
    folder = base
    while folder.exists():
        number += 1
        folder = base.with_name(f"{base.name}-{number}")
    return folder


def newest_run(base: Path) -> Path | None:
    """The last of ``base``, ``base-2``, ... that was begun to train."""
    folders = base.parent.iterdir() if base.parent.is_dir() else []
    numbered = [
        (int(match[1] or 1), folder)
        for folder in folders
        if (match := re.fullmatch(rf"{re.escape(base.name)}(?:-(\d+))?", folder.name))
        and holds_run(folder)
        and (folder / "checkpoints").is_dir()
    ]
    return max(numbered)[1] if numbered else None


def holds_run(root: Path) -> bool:
    """Whether a run was begun in this folder."""
    try:
        return (root / "resolved.json").is_file()
    except OSError:  # a name that no file can have
        return False
