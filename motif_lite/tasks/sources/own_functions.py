"""A function of the user's own as a source: ``my_tasks.py:problems``."""

from itertools import islice

from motif_lite import own_code
from motif_lite.errors import CodeError
from motif_lite.nouns import ReadProgress
from motif_lite.recipe.data import SourceSection
from motif_lite.tasks.rows import Row
from motif_lite.tasks.sources.base import Request, Role, Table

_MOST_ROWS = 1_000_000
"""More from one function are taken for a generator that never stops."""


class OwnFunctions:
    """Rows that a function gives for a role and a seed."""

    def takes(self, name: str) -> bool:
        """Whether it names a function in a Python file."""
        return own_code.is_own(name)

    def names(self) -> list[str]:
        """None that are known before."""
        return []

    def check(self, request: Request) -> None:
        """Whether the function is there.

        Raises:
            CodeError: It cannot be imported, or takes something else.
        """
        own_code.find(request.name, request.code, "role", "seed")

    def expected(self, source: SourceSection, role: Role) -> int | None:
        """Only the function knows."""
        return None

    def rows(self, request: Request) -> Table:
        """What the function gives.

        Raises:
            CodeError: It fails, gives no rows, or never stops.
        """
        found = _rows(request)
        return Table(request.name.rpartition(":")[2], iter(found), len(found))

    def progress_reader(self, name: str) -> ReadProgress | None:
        """None."""
        return None


def _rows(request: Request) -> list[Row]:
    source, role = request.name, request.role
    function = own_code.find(source, request.code, "role", "seed")
    path = request.code[own_code.file_of(source)]
    try:
        rows = list(islice(function(role, request.seed), _MOST_ROWS + 1))
    except (Exception, SystemExit) as error:
        what = own_code.described(error, path)
        raise CodeError(f"{path}: {what}, in {source} for role {role!r}; correct it") from error
    if len(rows) > _MOST_ROWS:
        raise CodeError(f"{path}: {source} gives more than {_MOST_ROWS:,} rows for role {role!r}; let it end")
    return rows
