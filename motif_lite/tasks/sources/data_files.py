"""A file of problems as a source."""

from collections.abc import Iterator
from pathlib import Path

from motif_lite.errors import DataError
from motif_lite.nouns import ReadProgress
from motif_lite.recipe.data import SourceSection
from motif_lite.tasks import files
from motif_lite.tasks.rows import Row
from motif_lite.tasks.sources.base import Request, Role, Table


class DataFiles:
    """Takes every name: what is no other kind is the path of a file."""

    def takes(self, name: str) -> bool:
        """Always."""
        return True

    def names(self) -> list[str]:
        """None that are known before."""
        return []

    def is_there(self, name: str) -> bool:
        """Whether it is the path of a file."""
        try:
            return Path(name).expanduser().is_file()
        except (OSError, RuntimeError):  # a name that is too long, the home of a user who is not here
            return False

    def check(self, request: Request) -> None:
        """Whether the file is of a known kind; that it is there is checked before.

        Raises:
            DataError: It is not.
        """
        path = Path(request.name).expanduser()
        if path.suffix.lower() not in files.READERS:
            raise DataError(f"{path}: cannot tell its kind from {path.suffix!r}; use one of {', '.join(files.READERS)}")

    def expected(self, source: SourceSection, role: Role) -> int | None:
        """As many as the file has rows, or fewer where fewer are asked for."""
        path = Path(source.source).expanduser()
        size = files.count_rows(path) if path.exists() else None
        return min((number for number in (source.num_problems, size) if number is not None), default=None)

    def rows(self, request: Request) -> Table:
        """The file's rows, read one by one."""
        path = Path(request.name).expanduser()
        return Table(path.stem, _rows(path), files.count_rows(path))

    def progress_reader(self, name: str) -> ReadProgress | None:
        """None."""
        return None


def _rows(path: Path) -> Iterator[Row]:
    try:
        yield from files.READERS[path.suffix.lower()](path)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); it must be UTF-8 text or Parquet") from None
