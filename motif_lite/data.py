"""Names and paths to problems.

A source is a name in `DATASETS` or a file. Known data sets come through the `datasets` library from the hub;
files are read here, because a malformed row must be named by its number. The gold answer of a row is what
follows ``####`` where there is one (GSM8K), and otherwise the whole answer column.
"""

import csv
import json
import logging
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from motif_lite import chain_sum
from motif_lite.answers import MAX_ANSWER_CHARACTERS, is_correct
from motif_lite.errors import DataError
from motif_lite.recipe import SourceSection
from motif_lite.types import Problem

logger = logging.getLogger(__name__)

Role = Literal["train", "validation", "test"]
Row = Mapping[str, Any]

_QUESTION_COLUMNS = ("question", "problem", "prompt")
_ANSWER_COLUMNS = ("answer", "gold")
_CHAIN_SUM_PROBLEMS = 2000
_LONGEST_QUESTION = 1_000_000
"""Characters; no context holds more, and to count the tokens of much more takes minutes."""

_LONGEST_LINE = 1 << 24
"""Bytes of a line of JSONL; more is no row but a file of another kind."""

_COLUMNS_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set that is known by name.

    Attributes:
        splits: The roles that it may play, with the name of the split for each.
        hub: Its name on the hub with the configuration, or None if it is generated.
        steps_done: Reads a progress note: how many steps it stands for, None if it is not true of the question.
    """

    splits: Mapping[Role, str]
    hub: tuple[str, str] | None = None
    steps_done: Callable[[str, str], int | None] | None = None


def load(source: SourceSection, *, role: Role, seed: int, held_out: Sequence[Problem] = ()) -> list[Problem]:
    """All problems of a source, or the number asked for, drawn with the seed and kept in order.

    Args:
        held_out: Their questions are left out before anything is drawn.

    Raises:
        DataError: The source is unknown or unreadable, has no problems, or a row of it is malformed.
    """
    if source.source in chain_sum.TASKS:
        number = source.num_problems or _CHAIN_SUM_PROBLEMS
        return chain_sum.problems(number, seed=seed, split=role, name=source.source)
    questions = {problem.question for problem in held_out}
    problems = [problem for problem, _ in with_rows(source, role=role) if problem.question not in questions]
    if not problems:
        raise DataError(f"{source.source}: all of its problems are in evaluation.validation; lower num_problems there")
    _warn_of_contradictions(problems, source.source)
    return _subset(problems, source, seed)


def with_rows(source: SourceSection, *, role: Role) -> list[tuple[Problem, Row]]:
    """All problems of a source that is not generated, each with the row that it stands in.

    Raises:
        DataError: As `load`.
    """
    check(source, role=role)
    name = source.source if source.source in DATASETS else Path(source.source).stem
    rows = enumerate(_rows(source.source, role), start=1)
    found = [(_problem(row, f"{name}/{number}", source, number), row) for number, row in rows]
    if not found:
        raise DataError(f"{source.source}: holds no problems; give a file with a row per problem")
    return found


def check(source: SourceSection, *, role: Role) -> None:
    """Whether a source could be loaded, as far as can be told without reading or downloading it.

    Raises:
        DataError: It is neither a known name that may play this role nor a file of a known kind.
    """
    known = DATASETS.get(source.source)
    if source.source in chain_sum.TASKS and (source.question_column or source.answer_column):
        raise DataError(
            f"{source.source}: is generated and has no columns; leave out question_column and answer_column"
        )
    if known is not None:
        if role not in known.splits:
            raise DataError(
                f"{source.source}: is for the final evaluation only; train on, and measure along the way, gsm8k, "
                f"chain_sum or a file of your own"
            )
        return
    try:
        path = Path(source.source).expanduser()
        is_file = path.is_file()
    except (OSError, RuntimeError):  # a name that is too long, the home of a user who is not here
        is_file = False
    if not is_file:
        raise DataError(
            f"{source.source}: is neither a known data set ({', '.join(DATASETS)}) nor a file; check the path"
        )
    if path.suffix.lower() not in _READERS:
        raise DataError(f"{path}: cannot tell its kind from {path.suffix!r}; use one of {', '.join(_READERS)}")


def require_apart(held_out: Sequence[Problem], test: Sequence[Problem], *, benchmark: str) -> None:
    """Refuse problems that are measured along the way and at the end: the end would be no test any more.

    Raises:
        DataError: Some are.
    """
    shared = {problem.question for problem in held_out} & {problem.question for problem in test}
    if shared:
        raise DataError(
            f"evaluation.validation: {len(shared)} of its problems are in the benchmark {benchmark}, too; take them "
            f"from other data, e.g. from the training problems"
        )


def steps_done(source: str) -> Callable[[str, str], int | None] | None:
    """How progress on this source's problems is checked, if it can be."""
    return DATASETS[source].steps_done if source in DATASETS else None


def drop_long(
    problems: list[Problem], num_tokens: Callable[[Problem], int], limit: int, *, source: str
) -> list[Problem]:
    """Leave out the problems whose first prompt has more tokens than the limit, and say how many.

    Raises:
        DataError: None is left.
    """
    kept = [problem for problem in problems if num_tokens(problem) <= limit]
    if not kept:
        raise DataError(
            f"{source}: every prompt is longer than rollout.max_prompt_tokens = {limit} tokens; raise that limit"
        )
    if len(kept) < len(problems):
        logger.warning(
            "%s: %d of %d problems left out, their prompts are longer than rollout.max_prompt_tokens = %d",
            source, len(problems) - len(kept), len(problems), limit,
        )  # fmt: skip
    return kept


def require_enough(problems: list[Problem], wanted: int, *, source: str) -> None:
    """Refuse fewer problems than one training step takes.

    Raises:
        DataError: There are fewer.
    """
    if len(problems) < wanted:
        raise DataError(
            f"{source}: {len(problems)} problems are fewer than training.problems_per_step = {wanted}; lower that, "
            f"or give more"
        )


def _rows(source: str, role: Role) -> Iterable[Row]:
    if source in DATASETS:
        return _rows_from_hub(DATASETS[source], role)
    path = Path(source).expanduser()
    try:
        return list(_READERS[path.suffix.lower()](path))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); it must be UTF-8 text or Parquet") from None


def _rows_from_hub(dataset: Dataset, role: Role) -> Iterable[Row]:
    import datasets

    assert dataset.hub is not None
    name, configuration = dataset.hub
    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(name, configuration, split=dataset.splits[role])  # type: ignore[no-any-return]
    except Exception as error:  # the library raises a dozen kinds for a network that is not there
        raise DataError(
            f"{name}: cannot be downloaded ({type(error).__name__}: {str(error).partition(chr(10))[0][:200]}); "
            f"check the connection, or give a file of it as the source"
        ) from None


def _read_jsonl(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in enumerate(iter(partial(file.readline, _LONGEST_LINE + 1), b""), start=1):
            if len(line) > _LONGEST_LINE:
                raise DataError(f"{path}: line {number} has more than {_LONGEST_LINE:,} bytes; write one row per line")
            if text := _decoded(line, path, number).strip():
                try:
                    yield json.loads(text)
                except (ValueError, RecursionError) as error:
                    raise DataError(f"{path}: line {number} is not JSON ({error}); mend or remove it") from None


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
            if len(set(columns)) < len(columns):
                raise DataError(f"{path}: two columns have the same name in {', '.join(columns)}; rename one")
            for number, row in enumerate(rows, start=1):
                if None in row:
                    raise DataError(
                        f"{path}: row {number} has more fields than columns; put text with commas in quotes"
                    )
                yield row
        except csv.Error as error:
            raise DataError(f"{path}: line {rows.line_num + 1} cannot be read ({error}); mend or remove it") from None


def _read_parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        yield from pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:  # a damaged part, odd dates, ...
        raise DataError(
            f"{path}: is not a Parquet file that can be read ({str(error).strip()}); write it again"
        ) from None


def _problem(row: Row, name: str, source: SourceSection, number: int) -> Problem:
    where = f"{source.source}: row {number}"
    if not isinstance(row, Mapping):
        raise DataError(f"{where} is not an object with columns; write one per problem")
    question = _text(row, source.question_column, _QUESTION_COLUMNS, "question_column", where)
    answer = _text(row, source.answer_column, _ANSWER_COLUMNS, "answer_column", where)
    if len(question) > _LONGEST_QUESTION:
        raise DataError(f"{where}: the question has {len(question):,} characters; shorten or remove the row")
    gold = answer.rpartition("####")[2].strip()
    if not gold or len(gold) > MAX_ANSWER_CHARACTERS:
        what = "is empty" if not gold else f"has {len(gold)} characters"
        raise DataError(f"{where}: the final answer {what}; it must be short, or follow '####' at the end")
    if not is_correct(gold, f"\\boxed{{{gold}}}"):
        raise DataError(f"{where}: the final answer {gold[:60]!r} has unbalanced braces: no reply could ever match it")
    return Problem(name, question, gold)


def _text(row: Row, wanted: str | None, usual: tuple[str, ...], key: str, where: str) -> str:
    """A column's content as text; numbers are accepted, as some files hold integer answers."""
    column = wanted or next((name for name in usual if name in row), usual[0])
    if column not in row:
        names = [str(name)[:60] for name in islice(row, _COLUMNS_SHOWN + 1)]
        there = ", ".join(names[:_COLUMNS_SHOWN]) + (", ..." if len(names) > _COLUMNS_SHOWN else "")
        raise DataError(f"{where} has no column {column!r}; it has: {there or 'none'}. Name the right one with {key}")
    value = row[column]
    if (type(value) is float and math.isfinite(value)) or type(value) is int:
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        shown = repr(str(value)[:40]) if isinstance(value, str | float | bool | None) else f"a {type(value).__name__}"
        raise DataError(f"{where}: column {column!r} holds {shown}, not text; mend or remove the row")
    if not value.isascii() and value.encode(errors="ignore").decode() != value:
        raise DataError(f"{where}: column {column!r} holds half a character (a lone surrogate); mend or remove the row")
    return value.strip()


def _warn_of_contradictions(problems: list[Problem], source: str) -> None:
    """Say so where a question stands there twice with different answers: one of them is wrong."""
    first: dict[str, tuple[int, str]] = {}
    for number, problem in enumerate(problems, start=1):
        earlier, gold = first.setdefault(problem.question, (number, problem.gold))
        if gold != problem.gold:
            logger.warning(
                "%s: rows %d and %d ask the same and differ in the answer (%.40r, %.40r); mend one",
                source, earlier, number, gold, problem.gold,
            )  # fmt: skip
            return


def _subset(problems: list[Problem], source: SourceSection, seed: int) -> list[Problem]:
    wanted = source.num_problems
    if wanted is None or wanted == len(problems):
        return problems
    if wanted > len(problems):
        logger.warning("%s: has %d problems, fewer than the %d asked for", source.source, len(problems), wanted)
        return problems
    chosen = random.Random(f"subset/{seed}/{source.source}").sample(range(len(problems)), wanted)
    return [problems[index] for index in sorted(chosen)]


_READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}

DATASETS: dict[str, Dataset] = {
    "gsm8k": Dataset({"train": "train", "validation": "train", "test": "test"}, hub=("openai/gsm8k", "main")),
    "math500": Dataset({"test": "test"}, hub=("HuggingFaceH4/MATH-500", "default")),
    "aime24": Dataset({"test": "train"}, hub=("HuggingFaceH4/aime_2024", "default")),
    **{
        name: Dataset(
            {"train": "train", "validation": "validation", "test": "test"},
            steps_done=partial(chain_sum.steps_done, task=task),
        )
        for name, task in chain_sum.TASKS.items()
    },
}
