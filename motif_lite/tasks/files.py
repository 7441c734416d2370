"""Reads files of problems; our own readers, because a malformed row must be named by its number."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from motif_lite.errors import DataError
from motif_lite.tasks.rows import Row

if TYPE_CHECKING:
    import pyarrow

_LONGEST_LINE = 1 << 24
"""Bytes of a line of JSONL; more is no row but a file of another kind."""

_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def read_jsonl(path: Path) -> Iterator[Row]:
    """Rows of a JSONL file."""
    return (row for _, row in numbered_jsonl(path))


def numbered_jsonl(path: Path) -> Iterator[tuple[int, Row]]:
    """Rows of a JSONL file with the numbers of their lines, which count those that are blank."""
    with path.open("rb") as file:
        for number, line in enumerate(iter(partial(file.readline, _LONGEST_LINE + 1), b""), start=1):
            if len(line) > _LONGEST_LINE:
                raise DataError(f"{path}: line {number} has more than {_LONGEST_LINE:,} bytes; write one row per line")
            if text := _decoded(line, path, number).strip():
                try:
                    yield number, json.loads(text)
                except (ValueError, RecursionError) as error:
                    raise DataError(f"{path}: line {number} is not JSON ({error}); fix or remove it") from None


def _decoded(line: bytes, path: Path, number: int) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: line {number} cannot be read ({error}); save the file as UTF-8") from None


def _read_json(path: Path) -> Iterator[Row]:
    text = path.read_text(encoding="utf-8-sig")
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON ({error}); for a row per line name it .jsonl") from None
    if not isinstance(rows, list):
        raise DataError(f"{path}: must hold a list of objects, one per problem")
    yield from rows


def _read_csv(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        rows = csv.DictReader(_decoded(line, path, number) for number, line in enumerate(file, start=1))
        try:
            columns = rows.fieldnames or []
            _require_commas(columns, path)
            if len(set(columns)) < len(columns):
                raise DataError(f"{path}: two columns have the same name in {', '.join(columns)}; rename one")
            for number, row in enumerate(rows, start=1):
                if None in row:
                    raise DataError(
                        f"{path}: row {number} has more fields than columns; put text with commas in quotes"
                    )
                yield row
        except csv.Error as error:
            raise DataError(f"{path}: line {rows.line_num + 1} cannot be read ({error}); fix or remove it") from None


def _require_commas(columns: Sequence[str], path: Path) -> None:
    """Refuse a table whose fields are parted by another sign.

    Raises:
        DataError: They are, or a line before the names says by what.
    """
    if columns and columns[0].startswith("sep="):
        raise DataError(f"{path}: line 1 is {columns[0]!r} of a spreadsheet program; remove it")
    sign = next((name for mark, name in _SEPARATORS.items() if len(columns) == 1 and mark in columns[0]), None)
    if sign:
        raise DataError(f"{path}: its fields are parted by {sign}, not by commas; save it with commas, or as .jsonl")


def _read_parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        yield from _as_written(pyarrow.parquet.read_table(path)).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:  # a damaged part, odd dates, ...
        raise DataError(
            f"{path}: is not a Parquet file that can be read ({str(error).strip()}); write it again"
        ) from None


def _as_written(table: "pyarrow.Table") -> "pyarrow.Table":
    """A table with its short floats as the shortest decimals that are these: 0.1, not 0.10000000149011612."""
    import numpy as np
    import pyarrow

    short = {pyarrow.float16(): np.float16, pyarrow.float32(): np.float32}
    for place, column in enumerate(table.schema):
        if (kind := short.get(column.type)) is not None:
            numbers = [None if each is None else float(str(kind(each))) for each in table.column(place).to_pylist()]
            table = table.set_column(place, column.name, pyarrow.array(numbers, pyarrow.float64()))
    return table


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}


def count_rows(path: Path) -> int:
    """About how many rows a file has, for progress: its lines, or 0 where only reading it tells."""
    if path.suffix.lower() not in (".jsonl", ".csv"):
        return 0
    try:
        with path.open("rb") as file:
            return sum(block.count(b"\n") for block in iter(partial(file.read, 1 << 20), b""))
    except OSError:
        return 0  # the reader says why
