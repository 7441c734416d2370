"""Questions from a file: JSON lines with a key ``question``, or text with one question per line."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from motif_lite.errors import DataError
from motif_lite.tasks.files import numbered_jsonl


@dataclass(frozen=True, slots=True)
class Question:
    """A question with the line that it stands on."""

    line: int
    text: str


def read(path: Path) -> list[Question]:
    """All questions of a file; its name decides how it is read.

    Raises:
        DataError: The file cannot be read, or a line of it is malformed.
    """
    try:
        questions = list(_of_jsonl(path) if path.suffix.lower() == ".jsonl" else _of_text(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if not questions:
        raise DataError(f'{path}: holds no question; write one per line, or in a .jsonl file {{"question": ...}}')
    return questions


def _of_jsonl(path: Path) -> Iterator[Question]:
    for number, row in numbered_jsonl(path):
        yield Question(number, _question(row, number, path))


def _question(row: Any, line: int, path: Path) -> str:
    found = row.get("question") if isinstance(row, dict) else None
    if not isinstance(found, str) or not found.strip():
        raise DataError(f'{path}: line {line} must be an object with a text as "question"')
    return found


def _of_text(path: Path) -> Iterator[Question]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: cannot be read ({error}); save the file as UTF-8") from None
    return (Question(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip())
