"""The ``grade`` command: why a reply is right or wrong, for one reply or for a file of them."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from motif_lite.errors import DataError
from motif_lite.evaluation.verdicts import Verdict, verdicts
from motif_lite.nouns import OnProgress
from motif_lite.tasks.files import numbered_jsonl


@dataclass(frozen=True, slots=True)
class Pair:
    """A line of a file to grade: a gold answer and a whole reply."""

    line: int
    gold: str
    reply: str


def read(path: Path) -> list[Pair]:
    """All pairs of a JSONL file.

    Raises:
        DataError: The file cannot be read, or a line of it is malformed.
    """
    try:
        pairs = [_pair(row, number, path) for number, row in numbered_jsonl(path)]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if not pairs:
        raise DataError(f'{path}: is empty; write a line {{"gold": ..., "reply": ...}} for each reply')
    return pairs


def _pair(row: Any, line: int, path: Path) -> Pair:
    gold, reply = (row.get(key) if isinstance(row, dict) else None for key in ("gold", "reply"))
    if not isinstance(gold, str) or not isinstance(reply, str):
        raise DataError(f'{path}: line {line} must be an object {{"gold": ..., "reply": ...}} with two texts')
    return Pair(line, gold, reply)


def graded(pairs: Sequence[Pair], on_progress: OnProgress) -> list[Verdict]:
    """The verdicts on all pairs, in their order."""
    return verdicts([(pair.gold, pair.reply) for pair in pairs], on_progress)


def as_json(pair: Pair, verdict: Verdict) -> str:
    """A verdict as a line of JSON; what does not apply is null."""
    boxed, if_boxed = verdict.boxed, verdict.if_boxed
    return json.dumps({
        "line": pair.line,
        "correct": verdict.ruling.correct,
        "rule": verdict.ruling.rule,
        "undone": verdict.ruling.undone,
        "score": verdict.score,
        "answer": boxed and boxed.text,
        "box": boxed and [boxed.start, boxed.end],
        "num_boxes": verdict.num_boxes,
        "if_boxed": if_boxed and {"correct": if_boxed.correct, "rule": if_boxed.rule},
    })  # fmt: skip


def summary(found: Iterable[Verdict]) -> str:
    """How many are right, wrong, ... on one line."""
    counts = Counter(
        {True: "right", False: "wrong", None: "without a verdict"}[verdict.ruling.correct] for verdict in found
    )
    parts = [f"{counts[what]} {what}" for what in ("right", "wrong", "without a verdict")]
    return f"{counts.total()} replies: {', '.join(parts)}"
