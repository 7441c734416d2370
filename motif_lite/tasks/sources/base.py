"""What a kind of source is: something that tells which sources are of it, checks them, and gives their problems."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, Protocol, runtime_checkable

from motif_lite.errors import DataError
from motif_lite.nouns import OnProgress, Problem, ReadProgress
from motif_lite.recipe.data import SourceSection
from motif_lite.tasks.held_out import Measured
from motif_lite.tasks.rows import Row

Role = Literal["train", "validation", "test"]


@dataclass(frozen=True, slots=True)
class Request:
    """A source and what is wanted of it.

    Attributes:
        seed: The recipe's.
        code: The recipe's table of the user's own files.
        by_level: Problems of all levels of a curriculum are wanted, easiest first.
        measured: By the key that names them, problems whose questions are left out before anything is drawn.
        on_progress: Told of rows done and in all.
    """

    source: SourceSection
    role: Role
    seed: int = 0
    code: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    by_level: bool = False
    measured: Measured = field(default_factory=lambda: MappingProxyType({}))
    on_progress: OnProgress | None = None

    @property
    def name(self) -> str:
        """Of the source, as the recipe has it."""
        return self.source.source


def require_no_rows_keys(source: SourceSection) -> None:
    """Refuse keys that are for rows, of a source that makes its problems itself.

    Raises:
        DataError: One is given.
    """
    if source.question_column or source.answer_column:
        raise DataError(
            f"{source.source}: is generated and has no columns; leave out question_column and answer_column"
        )
    if source.twins:
        raise DataError(f"{source.source}: its problems have no twins; leave out twins, or take gsm8k")


@dataclass(frozen=True, slots=True)
class Table:
    """Rows as they are read.

    Attributes:
        name: Begins the ids of their problems.
        num_rows: About how many they are.
        are_the_users: A malformed one is refused, as the user can fix it; others are left out and counted.
    """

    name: str
    rows: Iterator[Row]
    num_rows: int
    are_the_users: bool = True


class Kind(Protocol):
    """A kind of source. One that is made of rows has `rows`, too (`Rows`); any other makes its problems itself."""

    def takes(self, name: str) -> bool:
        """Whether a source of this name is of this kind."""
        ...

    def names(self) -> list[str]:
        """The names that people may choose from, for messages."""
        ...

    def check(self, request: Request) -> None:
        """Whether the source could be loaded, as far as can be told without reading or downloading it.

        Raises:
            MotifError: It could not.
        """
        ...

    def expected(self, source: SourceSection, role: Role) -> int | None:
        """How many problems it will have, without a download; None where its rows have to be read first."""
        ...

    def progress_reader(self, name: str) -> ReadProgress | None:
        """What reads progress notes on its problems, if it can be told whether they are true."""
        ...


@runtime_checkable
class Rows(Kind, Protocol):
    """A kind of source that is made of rows."""

    def rows(self, request: Request) -> Table:
        """Its rows.

        Raises:
            MotifError: They cannot be had.
        """
        ...


class Generator(Kind, Protocol):
    """A kind of source that makes problems."""

    def problems(self, request: Request) -> list[Problem]:
        """As many as the source asks for, without those that are measured; the same request gives the same ones."""
        ...
