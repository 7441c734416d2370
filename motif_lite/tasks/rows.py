"""Turns a row of a data set into a problem.

The gold answer is what follows ``####`` where there is one (GSM8K), what is in the last box where there is one (MATH's
solutions), and otherwise the whole answer column, which may be a rule (`grading.rule_golds`).
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from itertools import islice
from typing import Any

from motif_lite.errors import DataError
from motif_lite.grading.answers import MAX_ANSWER_CHARACTERS, is_correct
from motif_lite.grading.rule_golds import is_rule, rule_of
from motif_lite.nouns import Problem
from motif_lite.recipe.data import SourceSection
from motif_lite.tasks import twins
from motif_lite.tasks.golds import final_answer, plain_number

Row = Mapping[str, Any]

_QUESTION_COLUMNS = ("question", "problem", "prompt")

_ANSWER_COLUMNS = ("answer", "gold")

_LONGEST_QUESTION = 1_000_000
"""Characters; no context holds more, and to count the tokens of much more takes minutes."""

_COLUMNS_SHOWN = 10


def problem_of(row: Row, name: str, source: SourceSection, number: int) -> Problem:
    """The problem in a row.

    Raises:
        DataError: The row is malformed.
    """
    where = _where(source, number)
    question, answer = _texts(row, source, where)
    if len(question) > _LONGEST_QUESTION:
        raise DataError(f"{where}: the question has {len(question):,} characters; shorten or remove the row")
    if is_rule(answer):
        return Problem(name, question, _checked_rule(answer, where))
    gold = final_answer(answer)
    if not gold or len(gold) > MAX_ANSWER_CHARACTERS:
        what = "is empty" if not gold else f"has {len(gold)} characters"
        raise DataError(
            f"{where}: the final answer {what}; it must be short, or follow '####' or stand in a box at the end"
        )
    if not _is_plain(gold) and not is_correct(gold, f"\\boxed{{{gold}}}"):
        raise DataError(f"{where}: the final answer {gold[:60]!r} has unbalanced braces: no reply could ever match it")
    return Problem(name, question, gold)


def _checked_rule(gold: str, where: str) -> str:
    """A gold answer that begins as a rule.

    Raises:
        DataError: It is none.
    """
    try:
        rule_of(gold)
    except ValueError as error:
        raise DataError(f"{where}: the final answer is no rule: {error}") from None
    return gold


def problems_of(row: Row, name: str, source: SourceSection, number: int, seed: int) -> list[tuple[Problem, Row]]:
    """The problem in a row, with the row; its twin with the twin's row, or none, where the source asks for that.

    Raises:
        DataError: The row is malformed.
    """
    if source.twins is None:
        return [(problem_of(row, f"{name}/{number}", source, number), row)]
    question, answer = _texts(row, source, _where(source, number))
    found = twins.twin(question, answer, str(seed))
    if found is None:
        return []
    if source.twins == "originals":
        return [(problem_of(row, f"{name}/{number}", source, number), row)]
    columns = (
        _column(row, source.question_column, _QUESTION_COLUMNS),
        _column(row, source.answer_column, _ANSWER_COLUMNS),
    )
    row = dict(row) | dict(zip(columns, found, strict=True))
    return [(replace(problem_of(row, f"{name}-twin/{number}", source, number), twin_of=question), row)]


def _where(source: SourceSection, number: int) -> str:
    return f"{source.source}: row {number}"


def _texts(row: Row, source: SourceSection, where: str) -> tuple[str, str]:
    """Question and answer as they stand."""
    if not isinstance(row, Mapping):
        raise DataError(f"{where} is not an object with columns; write one per problem")
    return (
        _text(row, source.question_column, _QUESTION_COLUMNS, "question_column", where),
        _text(row, source.answer_column, _ANSWER_COLUMNS, "answer_column", where),
    )


def _column(row: Row, wanted: str | None, usual: tuple[str, ...]) -> str:
    return wanted or next((name for name in usual if name in row), usual[0])


def _is_plain(gold: str) -> bool:
    """Whether a final answer is a word or a number; its box has no braces to count, and a million rows go faster."""
    return gold.isalnum()


def _text(row: Row, wanted: str | None, usual: tuple[str, ...], key: str, where: str) -> str:
    """A column's content as text; numbers are accepted, as some files hold integer answers."""
    column = _column(row, wanted, usual)
    if column not in row:
        names = [str(name)[:60] for name in islice(row, _COLUMNS_SHOWN + 1)]
        there = ", ".join(names[:_COLUMNS_SHOWN]) + (", ..." if len(names) > _COLUMNS_SHOWN else "")
        raise DataError(f"{where} has no column {column!r}; it has: {there or 'none'}. Name the right one with {key}")
    value = row[column]
    if type(value) is int:
        value = str(value)
    elif (type(value) is float and math.isfinite(value)) or (isinstance(value, Decimal) and value.is_finite()):
        value = plain_number(Decimal(str(value)))
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: column {column!r} holds {_not_text(value, row)}")
    if not value.isascii() and value.encode(errors="ignore").decode() != value:
        raise DataError(
            f"{where}: column {column!r} contains half of a character (a lone surrogate); fix or remove the row"
        )
    return value.strip()


def _not_text(value: Any, row: Row) -> str:
    """What a column holds instead of text, and what to do."""
    if isinstance(value, list) and value and isinstance(value[0], dict) and "content" in value[0]:
        rewarded = row.get("reward_model")
        there = isinstance(rewarded, dict) and "ground_truth" in rewarded
        answer = ", and what reward_model holds as ground_truth into a column answer" if there else ""
        return (
            f"a list of chat messages, as in verl's files, not text; write the user's message alone into a column "
            f"question{answer}: the prompt around it is the program's own"
        )
    shown = repr(str(value)[:40]) if isinstance(value, str | float | bool | None) else f"a {type(value).__name__}"
    return f"{shown}, not text; fix or remove the row"
