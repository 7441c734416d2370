"""Which Python files of the user's own a run was started with: their hashes, and a copy of each.

own_code.json   sha256 by the name that the recipe gives the file
own_code/       the files as they were
"""

import hashlib
import json
from pathlib import Path

from motif_lite import own_code
from motif_lite.errors import RunError
from motif_lite.recipe import own_files
from motif_lite.recipe.schema import Recipe
from motif_lite.runs.files import flat, write_whole, write_whole_bytes

FOLDER = "own_code"
_HASHES = "own_code.json"


def keep(root: Path, recipe: Recipe) -> None:
    """Record the files that a recipe names and that are not recorded yet. They have been imported.

    Raises:
        OSError: The folder cannot be written.
    """
    hashes = _hashes(root)
    new = {name: own_code.load(path) for name, path in own_files.files(recipe).items() if name not in hashes}
    if not new:
        return
    (root / FOLDER).mkdir(exist_ok=True)
    for name, file in new.items():
        write_whole_bytes(_copy(root, name), file.source)
    hashes |= {name: file.sha256 for name, file in new.items()}
    write_whole(root / _HASHES, [json.dumps(hashes, indent=2), "\n"])


def require_same(root: Path, recipe: Recipe) -> None:
    """Refuse a file that is not what the run was started with. Nothing is imported.

    Raises:
        RunError: A file has changed or is gone, or the record of them is damaged.
    """
    hashes = _hashes(root)
    if (root / FOLDER).exists() and not hashes:
        raise RunError(f"{root / _HASHES}: is gone, and {root / FOLDER} has copies; start a new run in another --out")
    for name, path in own_files.files(recipe).items():
        if name not in hashes:
            continue  # new: what is measured may change
        again = f"{_copy(root, name)} is a copy of it as it was"
        if not path.is_file():
            raise RunError(f"{path}: is gone, and the run in {root} needs it; put it back: {again}")
        if hashlib.sha256(own_code.read(path)).hexdigest() != hashes[name]:
            raise RunError(
                f"{path}: has changed since the run in {root} was started; restore it ({again}), or start a new run in "
                f"another --out"
            )


def _hashes(root: Path) -> dict[str, str]:
    path = root / _HASHES
    try:
        hashes = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(hashes, dict):
            raise ValueError("not a table of hashes")
        return hashes
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: cannot be read ({error}); start a new run in another --out") from None


def _copy(root: Path, name: str) -> Path:
    """Where a file's copy lies."""
    return root / FOLDER / flat(name)
