"""Whether an environment is whole: what it was made from, and what is wrong with it.

`STAMP` is written when an installation is complete. `MARK` is there while packages may be half installed.
"""

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from environment import parts

STAMP = "installed.json"
MARK = "installing"


class SetupError(Exception):
    """The environment cannot be made; the message says why and what to do."""


@dataclass
class Stamp:
    """What an environment was made from.

    Attributes:
        folder: Its absolute path: scripts in it name that path.
        python: Minor version, e.g. ``3.12``.
        digests: What each of its parts was made from, see `parts.digest`.
    """

    folder: str
    python: str
    digests: dict[str, str] = field(default_factory=dict)


def read(folder: Path) -> Stamp | None:
    """The stamp of an environment; None where there is none that can be read."""
    try:
        return Stamp(**json.loads((folder / STAMP).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def write(folder: Path, stamp: Stamp) -> None:
    """Write the stamp in one piece, and take the mark away."""
    unfinished = folder / f"{STAMP}.unfinished"
    unfinished.write_text(json.dumps(asdict(stamp), indent=2) + "\n", encoding="utf-8")
    unfinished.replace(folder / STAMP)
    (folder / MARK).unlink(missing_ok=True)


def python(folder: Path) -> Path:
    """The environment's interpreter."""
    return folder / "bin" / "python"


def defect(folder: Path, version: str) -> str | None:
    """Why an existing environment has to be made again; None where it can be kept, or completed.

    Args:
        version: Of the Python that was chosen, e.g. ``3.12.1``.
    """
    if (folder / MARK).exists():
        return "its installation was interrupted"
    stamp = read(folder)
    if stamp and stamp.folder != str(folder):
        return f"it was moved from {stamp.folder}"
    found = _version(folder)
    if found is None:
        return "its interpreter is gone"
    wanted = ".".join(version.split(".")[:2])
    if found != wanted or (stamp and stamp.python != wanted):
        return f"it is of Python {stamp.python if stamp else found}, not {wanted}"
    has_pip = subprocess.run([python(folder), "-m", "pip", "--version"], capture_output=True).returncode == 0
    return None if stamp or has_pip else "it has no pip"


def is_outdated(folder: Path, part: str) -> bool:
    """Whether a part is missing, or was made from other requirements."""
    stamp = read(folder)
    return stamp is None or stamp.digests.get(part) != parts.digest(part)


def remove(folder: Path) -> None:
    """Remove an environment, and nothing that is not one.

    Raises:
        SetupError: It is something else, or belongs to somebody else.
    """
    if not any((folder / name).exists() for name in (MARK, STAMP, "pyvenv.cfg")) and any(folder.iterdir()):
        raise SetupError(f"{folder} is not a Python environment, so it is left alone: choose another with VENV=...")
    require_writable(folder)
    # The mark goes last: whatever is left by an interruption is still known as half an environment.
    (folder / MARK).touch()
    for entry in folder.iterdir():
        if entry.name != MARK:
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def require_writable(folder: Path) -> None:
    """Refuse an environment that another user has made, e.g. root.

    Raises:
        SetupError: It cannot be written to.
    """
    there = folder if folder.exists() else folder.parent
    if not os.access(there, os.W_OK):
        remedy = f'sudo chown -R "$USER" "{there}"' if there == folder else "make without sudo in a folder of your own"
        raise SetupError(f"{there} belongs to {there.owner()} and cannot be written to: {remedy}")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold off every other `make` that would install into the same folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder.parent, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another make that is installing into {folder.parent}", flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _version(folder: Path) -> str | None:
    """Minor version of the environment's interpreter, if it runs and knows its libraries."""
    question = "import sys; print('{}.{}'.format(*sys.version_info)); import encodings"
    try:
        done = subprocess.run([python(folder), "-c", question], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
