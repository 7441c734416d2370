"""Folders that can be trusted: a checkpoint or an adapter is whole, or it is not there.

A folder is written under another name; then every file is flushed to the disk, `MANIFEST` lists their sizes and
SHA-256, and the folder is renamed to its place. Whatever dies in between, the place holds what it held before. What
disks do later, or people, is found by `damage`. It is no defence against attackers: anyone who can write the files can
write the manifest. Nothing in a checkpoint is executed when it is loaded, see docs/reliability.md.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"


def seal(folder: Path, place: Path, *, step: int) -> None:
    """Move a complete folder to its place on the same disk; what lay there is replaced.

    Args:
        step: The training step that the content belongs to.

    Raises:
        OSError: There is no room, or the disk fails; the place then holds what it held before.
    """
    flush(write_manifest(folder, step=step))
    for file in _files(folder):
        flush(folder / file)
    flush(folder)
    place.parent.mkdir(exist_ok=True)
    if place.exists():
        discard(place, folder.parent)
    folder.rename(place)
    flush(place.parent)


def write_manifest(folder: Path, *, step: int) -> Path:
    """List what a folder holds, in a file inside it."""
    manifest = folder / MANIFEST
    manifest.write_text(_manifest(folder, step), encoding="utf-8")
    return manifest


def damage(folder: Path) -> str | None:
    """What has happened to a folder since it was sealed, naming the file; None if nothing has."""
    manifest = folder / MANIFEST
    try:
        text = manifest.read_text(encoding="utf-8")
        listed = json.loads(text)
        if text != _text(listed["step"], listed["files"]):
            return f"{MANIFEST} is damaged"
        changes = (_changed(folder, name, written) for name, written in listed["files"].items())
        return next(filter(None, changes), None)
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except OSError as error:
        return f"{error.filename or MANIFEST} cannot be read ({error.strerror})"
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return f"{MANIFEST} is damaged"


def step_of(folder: Path) -> int | None:
    """The step that a whole folder belongs to; None if it is damaged or not there."""
    if damage(folder):
        return None
    return int(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["step"])


def discard(folder: Path, wastebasket: Path) -> None:
    """Remove a folder so that no half of it is ever seen in its place."""
    wastebasket.mkdir(exist_ok=True)
    unwanted = wastebasket / f"discarded-{folder.name}"
    shutil.rmtree(unwanted, ignore_errors=True)
    folder.rename(unwanted)
    shutil.rmtree(unwanted, ignore_errors=True)


def flush(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk.

    Raises:
        OSError: It could not be written.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _manifest(folder: Path, step: int) -> str:
    files = {name: folder / name for name in _files(folder) if name != MANIFEST}
    return _text(step, {n: {"bytes": file.stat().st_size, "sha256": digest_of(file)} for n, file in files.items()})


def _text(step: int, files: dict[str, Any]) -> str:
    """The manifest's text, with a digest of its own."""
    content = {"step": step, "files": files}
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return json.dumps(content | {"sha256": digest}, indent=1) + "\n"


def _changed(folder: Path, name: str, listed: dict[str, Any]) -> str | None:
    path = folder / name
    if not path.is_file():
        return f"{name} is missing"
    size = path.stat().st_size
    if size != listed["bytes"]:
        return f"{name} has {size} bytes instead of {listed['bytes']}"
    return None if digest_of(path) == listed["sha256"] else f"{name} differs from what was written"


def digest_of(path: Path) -> str:
    """The SHA-256 sum of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
