"""Turns the name of a data set, or the path of a file, into problems.

A source is a name in `DATASETS`, a file, or a function of the user's own (``my_tasks.py:problems``). Known data sets
come through the `datasets` library from the hub; files are read here, because a malformed row must be named by its
number. `rows` says what the gold answer of a row is.
"""

import logging
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from motif_lite import own_code
from motif_lite.errors import CodeError, DataError
from motif_lite.nouns import OnProgress, Problem, ReadProgress
from motif_lite.recipe.schema import SourceSection
from motif_lite.recipe.spelling import nearest
from motif_lite.tasks import chain_sum, files, golds
from motif_lite.tasks import held_out as held_out_problems
from motif_lite.tasks.rows import Row, problems_of

logger = logging.getLogger(__name__)

Role = Literal["train", "validation", "test"]

_CHAIN_SUM_PROBLEMS = 2000

_ROWS_BETWEEN_REPORTS = 1000

_MOST_OWN_ROWS = 1_000_000
"""More from one function are taken for a generator that never stops."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set that is known by name.

    Attributes:
        splits: The roles that it may play, with the name of the split for each.
        hub: Its name on the hub with the configuration, or None if it is generated.
        has_sums: Its solutions hold them, so that there are twins.
        read_progress: Reads progress notes, where it can be told whether they are true.
        sizes: Problems for each role, where that is known without a download.
    """

    splits: Mapping[Role, str]
    hub: tuple[str, str] | None = None
    has_sums: bool = False
    read_progress: ReadProgress | None = None
    sizes: Mapping[Role, int] | None = None


def expected_problems(source: SourceSection, role: Role) -> int | None:
    """How many problems a source will have, without a download; None where its rows have to be read first."""
    if source.twins:
        return None
    if source.source in chain_sum.TASKS:
        return source.num_problems or _CHAIN_SUM_PROBLEMS
    if source.source in DATASETS:
        size = (DATASETS[source.source].sizes or {}).get(role)
    else:
        path = Path(source.source).expanduser()
        size = None if own_code.is_own(source.source) or not path.exists() else files.count_rows(path)
    return min((number for number in (source.num_problems, size) if number is not None), default=None)


def load(
    source: SourceSection,
    *,
    role: Role,
    seed: int,
    held_out: Mapping[str, Sequence[Problem]] = MappingProxyType({}),
    code: Mapping[str, str] = MappingProxyType({}),
    on_progress: OnProgress | None = None,
) -> list[Problem]:
    """All problems of a source, or the number asked for, drawn with the seed and kept in order.

    Args:
        code: The recipe's table of the user's own files.
        held_out: By the key that names them, problems whose questions are left out before anything is drawn.
        on_progress: Told of rows done and in all.

    Raises:
        DataError: The source is unknown or unreadable, has no problems, or a row of it is malformed.
    """
    if source.source in chain_sum.TASKS:
        number = source.num_problems or _CHAIN_SUM_PROBLEMS
        return chain_sum.problems(number, seed=seed, split=role, name=source.source)
    rows = with_rows(source, role=role, seed=seed, code=code, on_progress=on_progress)
    problems = [problem for problem, _ in rows]
    for remark in golds.remarks(golds.odd_golds(problems), source.source):
        logger.warning("%s", remark)
    for key, those in held_out.items():
        problems = held_out_problems.left_out(problems, those, key, source.source)
    _warn_of_contradictions(problems, source.source)
    return _subset(problems, source, seed)


def with_rows(
    source: SourceSection,
    *,
    role: Role,
    seed: int,
    code: Mapping[str, str] = MappingProxyType({}),
    on_progress: OnProgress | None = None,
) -> list[tuple[Problem, Row]]:
    """All problems of a source that is not generated, each with the row that it stands in.

    Args:
        on_progress: Told of rows done and in all.

    Raises:
        DataError: As `load`.
    """
    check(source, role=role, code=code)
    if own_code.is_own(source.source):
        name = source.source.rpartition(":")[2]
        given = _own_rows(source.source, role, seed, code)
        rows, num_rows = iter(given), len(given)
    else:
        name = source.source if source.source in DATASETS else Path(source.source).stem
        rows, num_rows = _rows(source.source, role)
    found, number = list[tuple[Problem, Row]](), 0
    for number, row in enumerate(rows, start=1):
        found += problems_of(row, name, source, number, seed)
        if on_progress is not None and number % _ROWS_BETWEEN_REPORTS == 0:
            on_progress(number, max(number, num_rows))
    if number and not found:
        raise DataError(f"{source.source}: no problem has a twin; answers must hold their sums, as in <<2*3=6>>6")
    if not found:
        raise DataError(f"{source.source}: holds no problems; give a row per problem")
    if len(found) < number:
        logger.warning("%s: %d of %d problems have a twin, the others are left out", source.source, len(found), number)
    return found


def check(source: SourceSection, *, role: Role, code: Mapping[str, str] = MappingProxyType({})) -> None:
    """Whether a source could be loaded, as far as can be told without reading or downloading it.

    Raises:
        CodeError: It is a function of the user's own, which cannot be imported or takes something else.
        DataError: It is neither a known name that may play this role nor a file of a known kind.
    """
    if own_code.is_own(source.source):
        own_code.find(source.source, code, "role", "seed")
        return
    known = DATASETS.get(source.source)
    if source.source in chain_sum.TASKS and (source.question_column or source.answer_column):
        raise DataError(
            f"{source.source}: is generated and has no columns; leave out question_column and answer_column"
        )
    if known is not None:
        if source.twins and not known.has_sums:
            raise DataError(f"{source.source}: its problems have no twins; leave out twins, or take gsm8k")
        if role not in known.splits:
            raise DataError(
                f"{source.source}: is for the final evaluation only; for training and validation use gsm8k, "
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
            f"{source.source}: is neither a known data set ({', '.join(DATASETS)}) nor a file"
            f"{nearest(source.source, DATASETS)}; check the path"
        )
    if path.suffix.lower() not in files.READERS:
        raise DataError(f"{path}: cannot tell its kind from {path.suffix!r}; use one of {', '.join(files.READERS)}")


def progress_reader(source: str) -> ReadProgress | None:
    """What reads progress notes on this source's problems, if it can be told whether they are true."""
    return DATASETS[source].read_progress if source in DATASETS else None


def drop_long(
    problems: list[Problem],
    num_tokens: Callable[[Problem], int],
    limit: int,
    *,
    source: str,
    on_progress: OnProgress | None = None,
) -> list[Problem]:
    """Leave out the problems whose first prompt has more tokens than the limit, and say how many.

    Args:
        on_progress: Told of problems done and in all.

    Raises:
        DataError: None is left.
    """
    kept = []
    for number, problem in enumerate(problems, start=1):
        if num_tokens(problem) <= limit:
            kept.append(problem)
        if on_progress is not None and number % _ROWS_BETWEEN_REPORTS == 0:
            on_progress(number, len(problems))
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
            f"{source}: {len(problems)} problems are fewer than training.problems_per_step = {wanted}; lower it, "
            f"or provide more"
        )


def _own_rows(source: str, role: Role, seed: int, code: Mapping[str, str]) -> list[Row]:
    """What a function of the user's own gives.

    Raises:
        CodeError: It fails, gives no rows, or never stops.
    """
    function, path = own_code.find(source, code, "role", "seed"), code[own_code.file_of(source)]
    try:
        rows = list(islice(function(role, seed), _MOST_OWN_ROWS + 1))
    except (Exception, SystemExit) as error:
        what = own_code.described(error, path)
        raise CodeError(f"{path}: {what}, in {source} for role {role!r}; correct it") from error
    if len(rows) > _MOST_OWN_ROWS:
        raise CodeError(f"{path}: {source} gives more than {_MOST_OWN_ROWS:,} rows for role {role!r}; let it end")
    return rows


def _rows(source: str, role: Role) -> tuple[Iterator[Row], int]:
    """The rows of a data set or file as they are read, and about how many they are."""
    if source in DATASETS:
        rows = _rows_from_hub(DATASETS[source], role)
        return iter(rows), len(rows)
    path = Path(source).expanduser()
    return _rows_of_file(path), files.count_rows(path)


def _rows_of_file(path: Path) -> Iterator[Row]:
    try:
        yield from files.READERS[path.suffix.lower()](path)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); it must be UTF-8 text or Parquet") from None


def _rows_from_hub(dataset: Dataset, role: Role) -> Sequence[Row]:
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


def _warn_of_contradictions(problems: list[Problem], source: str) -> None:
    """Say so where a question stands there twice with different answers: one of them is wrong."""
    first: dict[str, tuple[int, str]] = {}
    for number, problem in enumerate(problems, start=1):
        earlier, gold = first.setdefault(problem.question, (number, problem.gold))
        if gold != problem.gold:
            logger.warning(
                "%s: rows %d and %d have the same question and different answers (%.40r, %.40r); fix one",
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


DATASETS: dict[str, Dataset] = {
    "gsm8k": Dataset(
        {"train": "train", "validation": "train", "test": "test"},
        hub=("openai/gsm8k", "main"),
        has_sums=True,
        sizes={"train": 7473, "validation": 7473, "test": 1319},
    ),
    "math500": Dataset({"test": "test"}, hub=("HuggingFaceH4/MATH-500", "default"), sizes={"test": 500}),
    "aime24": Dataset({"test": "train"}, hub=("HuggingFaceH4/aime_2024", "default"), sizes={"test": 30}),
    **{
        name: Dataset(
            {"train": "train", "validation": "validation", "test": "test"},
            read_progress=partial(chain_sum.read_progress, task=task),
        )
        for name, task in chain_sum.TASKS.items()
    },
}
