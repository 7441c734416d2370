"""Turns the name of a data set, or the path of a file, into problems.

A source is of one of the kinds in `table`. `rows` says what the gold answer of a row is.
"""

import logging
import random
from collections.abc import Mapping
from types import MappingProxyType

from motif_lite.errors import DataError
from motif_lite.nouns import OnProgress, Problem, ReadProgress
from motif_lite.recipe.data import SourceSection
from motif_lite.recipe.spelling import nearest
from motif_lite.tasks import choices, golds
from motif_lite.tasks import held_out as held_out_problems
from motif_lite.tasks.held_out import Measured
from motif_lite.tasks.rows import Row, problems_of
from motif_lite.tasks.sources.base import Request, Role, Rows
from motif_lite.tasks.sources.gym import Gym
from motif_lite.tasks.sources.table import FILES, kind_of, known_names

__all__ = [
    "Role",
    "check",
    "expected_problems",
    "is_generated",
    "is_named",
    "known_names",
    "load",
    "progress_reader",
    "with_rows",
]

_log = logging.getLogger(__name__)

_ROWS_BETWEEN_REPORTS = 1000


def expected_problems(source: SourceSection, role: Role) -> int | None:
    """How many problems a source will have, without a download; None where its rows have to be read first."""
    return None if source.twins else kind_of(source.source).expected(source, role)


def load(
    source: SourceSection,
    *,
    role: Role,
    seed: int,
    held_out: Measured = MappingProxyType({}),
    code: Mapping[str, str] = MappingProxyType({}),
    by_level: bool = False,
    on_progress: OnProgress | None = None,
) -> list[Problem]:
    """All problems of a source, or the number asked for, drawn with the seed and kept in order.

    Args:
        code: The recipe's table of the user's own files.
        by_level: Problems of all levels of a curriculum, easiest first.
        held_out: By the key that names them, problems whose questions are left out before anything is drawn.
        on_progress: Told of rows done and in all.

    Raises:
        DataError: The source is unknown or unreadable, has no problems, or a row of it is malformed.
    """
    request = Request(source, role, seed, code, by_level, held_out, on_progress)
    check(source, role=role, code=code, by_level=by_level)
    kind = kind_of(source.source)
    if not isinstance(kind, Rows):
        return kind.problems(request)
    found = _with_rows(kind, request)
    problems = [problem for problem, _ in found]
    for remark in (choices.remark(found, source.source), *golds.remarks(golds.odd_golds(problems), source.source)):
        if remark is not None:
            _log.warning("%s", remark)
    for key, those in held_out.items():
        problems = held_out_problems.left_out(problems, those, key, source.source)
    _warn_of_contradictions(problems, source.source)
    return _subset(problems, source, seed)


def with_rows(source: SourceSection, *, role: Role, seed: int) -> list[tuple[Problem, Row]]:
    """All problems of a source that is made of rows, each with the row that it stands in.

    Raises:
        DataError: As `load`.
    """
    check(source, role=role)
    kind = kind_of(source.source)
    assert isinstance(kind, Rows)
    return _with_rows(kind, Request(source, role, seed))


def check(
    source: SourceSection, *, role: Role, code: Mapping[str, str] = MappingProxyType({}), by_level: bool = False
) -> None:
    """Whether a source could be loaded, as far as can be told without reading or downloading it.

    Raises:
        CodeError: It is a function of the user's own, which cannot be imported or takes something else.
        DataError: It is neither a known name that may play this role nor a file of a known kind.
    """
    kind = kind_of(source.source)
    if kind is FILES and not FILES.is_there(source.source):
        known = known_names()
        raise DataError(
            f"{source.source}: is neither a known data set ({', '.join(known)}) nor a file"
            f"{nearest(source.source, known)}; check the path"
        )
    if not isinstance(kind, Gym):
        for given, key in ((source.options, "options"), (by_level or None, "data.curriculum")):
            if given is not None:
                raise DataError(f"{source.source}: {key} is for reasoning_gym:NAME only; leave it out")
    kind.check(Request(source, role, code=code, by_level=by_level))


def is_named(source: str) -> bool:
    """Whether it is something else than a file."""
    return kind_of(source) is not FILES


def is_generated(source: str) -> bool:
    """Whether its problems are made, so that others can take the place of those that are left out."""
    return not isinstance(kind_of(source), Rows)


def progress_reader(source: str) -> ReadProgress | None:
    """What reads progress notes on this source's problems, if it can be told whether they are true."""
    return kind_of(source).progress_reader(source)


def _with_rows(kind: Rows, request: Request) -> list[tuple[Problem, Row]]:
    table, source = kind.rows(request), request.source
    found, malformed, number = list[tuple[Problem, Row]](), list[DataError](), 0
    for number, row in enumerate(table.rows, start=1):
        try:
            found += problems_of(row, table.name, source, number, request.seed)
        except DataError as error:
            if table.are_the_users:
                raise
            malformed.append(error)
        if request.on_progress is not None and number % _ROWS_BETWEEN_REPORTS == 0:
            request.on_progress(number, max(number, table.num_rows))
    if malformed and not found:
        raise malformed[0]
    if malformed:
        _log.warning("%d of %d rows are left out, the first: %s", len(malformed), number, malformed[0])
    if number and not found:
        raise DataError(f"{source.source}: no problem has a twin; answers must hold their sums, as in <<2*3=6>>6")
    if not found:
        raise DataError(f"{source.source}: holds no problems; give a row per problem")
    if source.twins and len(found) < number:
        _log.warning("%s: %d of %d problems have a twin, the others are left out", source.source, len(found), number)
    return found


def _warn_of_contradictions(problems: list[Problem], source: str) -> None:
    """Say so where a question stands there twice with different answers: one of them is wrong."""
    first: dict[str, tuple[int, str]] = {}
    for number, problem in enumerate(problems, start=1):
        earlier, gold = first.setdefault(problem.question, (number, problem.gold))
        if gold != problem.gold:
            _log.warning(
                "%s: rows %d and %d have the same question and different answers (%.40r, %.40r); fix one",
                source, earlier, number, gold, problem.gold,
            )  # fmt: skip
            return


def _subset(problems: list[Problem], source: SourceSection, seed: int) -> list[Problem]:
    wanted = source.num_problems
    if wanted is None or wanted == len(problems):
        return problems
    if wanted > len(problems):
        _log.warning("%s: has %d problems, fewer than the %d asked for", source.source, len(problems), wanted)
        return problems
    chosen = random.Random(f"subset/{seed}/{source.source}").sample(range(len(problems)), wanted)
    return [problems[index] for index in sorted(chosen)]
