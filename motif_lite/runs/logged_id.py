"""The id by which loggers know a run: kept with it, so that a resumed run continues the same curve."""

import secrets
from pathlib import Path

from motif_lite.errors import RunError
from motif_lite.runs.files import write_whole

_FILE = "logging.id"


def kept(root: Path) -> str:
    """The run's id: eight hexadecimal digits, drawn when it is first asked for.

    Raises:
        RunError: The file holds something else.
    """
    path = root / _FILE
    if not path.exists():
        write_whole(path, [secrets.token_hex(4), "\n"])
    found = path.read_text(encoding="utf-8", errors="replace").strip()
    if len(found) != 8 or set(found) - set("0123456789abcdef"):
        raise RunError(f"{path}: holds no id (eight hexadecimal digits); remove it, and loggers begin a new curve")
    return found
