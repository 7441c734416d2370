"""Hand-written openings from a file."""

import errno
import os
from pathlib import Path

from motif_lite.errors import DataError
from motif_lite.evaluation.scores import HandWritten
from motif_lite.nouns import Problem
from motif_lite.recipe.schema import Recipe
from motif_lite.tasks import sources
from motif_lite.tasks.rows import Row

_LONGEST_LABEL = 40

_LONGEST_OPENING = 1_000_000
"""Characters, as of a question."""


def read(path: Path, recipe: Recipe) -> list[HandWritten]:
    """All openings of a file, which has the columns of the recipe's training data, and ``openings``.

    Raises:
        DataError: The file cannot be read, or a row of it is malformed.
    """
    if sources.is_named(str(path)):
        raise DataError(f"{path}: is a data set without openings; give a file, such as recipes/tiny_openings.jsonl")
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.stat()
    except (OSError, ValueError) as error:  # ValueError: a null character
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{path}: cannot be read ({reason}); give a file, such as recipes/tiny_openings.jsonl"
        ) from None
    # A copy, which is not validated: the path may hold what no TOML can.
    source = recipe.data.as_source().model_copy(update={"source": str(path), "twins": None})
    return [
        written
        for number, (problem, row) in enumerate(sources.with_rows(source, role="train", seed=recipe.seed), start=1)
        for written in _written(problem, row, f"{path}: row {number}")
    ]


def _written(problem: Problem, row: Row, where: str) -> list[HandWritten]:
    given = row.get("openings")
    if not isinstance(given, list) or not given:
        raise DataError(
            f"{where}: column 'openings' must hold a list of at least one opening, each a text or an object "
            f'{{"text": ..., "label": ...}}'
        )
    return [_opening(problem, entry, number, where) for number, entry in enumerate(given, start=1)]


def _opening(problem: Problem, entry: object, number: int, where: str) -> HandWritten:
    """One opening of a row; its text is kept as it is, for white space counts in its form."""
    where = f"{where}, opening {number}"
    if isinstance(entry, str):
        entry = {"text": entry}
    if not isinstance(entry, dict) or not isinstance(entry.get("text"), str):
        raise DataError(f'{where}: must be a text, or an object {{"text": ..., "label": ...}}')
    unknown = [str(key)[:_LONGEST_LABEL] for key in entry if key not in ("text", "label")]
    if unknown:
        raise DataError(f"{where}: has an unknown key {unknown[0]!r}; it may have 'text' and 'label'")
    text, label = entry["text"], entry.get("label")
    if label is None:
        label = f"opening {number}"
    if not isinstance(label, str) or not label.strip() or len(label) > _LONGEST_LABEL:
        raise DataError(f"{where}: its label must be a short text, of at most {_LONGEST_LABEL} characters")
    if len(text) > _LONGEST_OPENING:
        raise DataError(f"{where}: has {len(text):,} characters; shorten or remove it")
    if any("\ud800" <= char <= "\udfff" for char in text + label):
        raise DataError(f"{where}: contains half of a character (a lone surrogate); fix or remove it")
    return HandWritten(problem, label.strip(), text)
