"""Writing and reading files so that a process may end at any byte.

Files are either appended to line by line, a cut-off last line being dropped by the next reader, or written under
another name and renamed.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from motif_lite.errors import RunError
from motif_lite.runs import sealing
from motif_lite.runs.records import Versioned
from motif_lite.runs.versions import Json, Stored, parsed


def as_line(record: Versioned) -> str:
    """A record on a line of its own."""
    # ASCII only: a reply may hold lone surrogates, which UTF-8 has no bytes for
    return json.dumps(record.model_dump(exclude_none=True)) + "\n"


def append_records(path: Path, records: Iterable[Versioned]) -> None:
    """Add lines to a file."""
    with path.open("a", encoding="utf-8") as file:
        file.writelines(map(as_line, records))


def each_record(
    path: Path, kind: type[Stored], is_wanted: Callable[[Json], bool] = lambda content: True
) -> Iterator[Stored]:
    """The records on the whole lines of a file, one at a time: rollouts.jsonl is too large to be held twice.

    Args:
        is_wanted: Asked before a line is checked.

    Raises:
        RunError: A line is damaged, or of a later version.
    """
    for number, (content, _) in enumerate(each_sized_line(path), start=1):
        if is_wanted(content):
            yield parsed(kind, content, f"{path}: line {number}", "remove it")


def each_sized_line(path: Path) -> Iterator[tuple[Json, int]]:
    """The whole lines of a file with their sizes in bytes."""
    if path.exists():
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.endswith(b"\n"):
                    try:
                        yield dict(json.loads(line)), len(line)
                    except (ValueError, TypeError, RecursionError) as error:
                        raise RunError(f"{path}: line {number} is damaged ({error}); remove it") from None


def write_record(path: Path, record: Versioned) -> None:
    """Replace a file by a record, indented for people."""
    write_whole(path, [json.dumps(record.model_dump(exclude_none=True), indent=2), "\n"])


def read_record(path: Path, kind: type[Stored], remedy: str) -> Stored | None:
    """The record that a file holds; None where there is no file.

    Args:
        remedy: What to do if it is damaged.

    Raises:
        RunError: It is damaged, or of a later version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: cannot be read ({error}); {remedy}") from None
    return parsed(kind, content, f"{path}:", remedy)


def write_whole(path: Path, parts: Iterable[str]) -> None:
    """Write under another name, wait for the disk, then rename: a reader never sees half a file."""
    unfinished = path.with_name(path.name + ".unfinished")
    with unfinished.open("w", encoding="utf-8") as file:
        file.writelines(parts)
    sealing.flush(unfinished)
    unfinished.replace(path)


def write_whole_bytes(path: Path, content: bytes) -> None:
    """As `write_whole`, of bytes."""
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_bytes(content)
    sealing.flush(unfinished)
    unfinished.replace(path)


def flat(name: str) -> str:
    """A name of the user's own as a file's name; it may have folders in it, which a hash tells apart."""
    return f"{hashlib.sha256(name.encode()).hexdigest()[:8]}-{Path(name).name}" if "/" in name else name
