"""Writing and reading files so that a process may end at any byte.

Files are either appended to line by line, a cut-off last line being dropped by the next reader, or written under
another name and renamed.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from motif_lite.errors import RunError
from motif_lite.runs import sealing


def _line(content: Mapping[str, Any]) -> str:
    # ASCII only: a reply may hold lone surrogates, which UTF-8 has no bytes for
    return json.dumps(content) + "\n"


def append_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Add lines of JSON to a file."""
    with path.open("a", encoding="utf-8") as file:
        file.writelines(map(_line, lines))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """All whole lines of a file; none where there is no file."""
    return list(each_line(path))


def each_line(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a file, one at a time: rollouts.jsonl of a long run does not fit into memory twice."""
    return (line for line, _ in each_sized_line(path))


def each_sized_line(path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """The whole lines of a file with their sizes in bytes."""
    if path.exists():
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.endswith(b"\n"):
                    try:
                        yield dict(json.loads(line)), len(line)
                    except (ValueError, TypeError) as error:
                        raise RunError(f"{path}: line {number} is damaged ({error}); remove it") from None


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
