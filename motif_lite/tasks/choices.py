"""Choices that stand in a column of their own, where no prompt shows them."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from motif_lite.nouns import Problem
from motif_lite.tasks.rows import Row

_COLUMNS = ("choices", "options")
_LETTERS = ("A", "B", "C", "D")
"""Columns of one choice each."""

_LABEL = re.compile(r"\(?[A-Za-z0-9][).:]\s*")


def remark(found: Iterable[tuple[Problem, Row]], source: str) -> str | None:
    """What to say where choices are no part of the question; None where all are, or there are none."""
    first, column, number = 0, "", 0
    for place, (problem, row) in enumerate(found, start=1):
        if name := _unseen(problem.question, row):
            first, column, number = first or place, column or name, number + 1
    if not number:
        return None
    rows = f"row {first}" + (f" and {number - 1:,} more" if number > 1 else "")
    return (
        f"{source}: the choices in {column} are in no prompt, as only the question is ({rows}); write them into the "
        f"question, each with the letter or number that the answer gives, or remove them where they are not needed"
    )


def _unseen(question: str, row: Row) -> str:
    """The column whose choices are not all in the question; empty where there is none."""
    for name in _COLUMNS:
        if any(_bare(text) not in question for text in _texts(row.get(name))):
            return f"column {name!r}"
    texts = [row.get(letter) for letter in _LETTERS]
    there = all(isinstance(text, str) for text in texts)
    return "the columns 'A' to 'D'" if there and any(_bare(str(text)) not in question for text in texts) else ""


def _texts(choices: Any) -> Iterator[str]:
    """Those of a list, of lines, or of a table as ARC's (``text`` and ``label``) or by letter."""
    if isinstance(choices, str):
        yield from (line for line in choices.splitlines() if line.strip())
    elif isinstance(choices, dict):
        yield from _texts(choices.get("text") or list(choices.values()))
    elif isinstance(choices, list | tuple):
        yield from (str(choice) for choice in choices if choice is not None)


def _bare(choice: str) -> str:
    """Without the letter in front."""
    choice = choice.strip()
    return _LABEL.sub("", choice, count=1).strip() if _LABEL.match(choice) else choice
