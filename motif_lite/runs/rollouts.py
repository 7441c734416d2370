"""Reads rollouts.jsonl by groups, with their place in the file, and continues where it stopped.

A group is the openings of one problem in one step. The file of a long run is larger than memory, so a reader keeps
what it computed from a group and its place, and reads the group's text again when somebody wants to see it.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from motif_lite.errors import RunError
from motif_lite.runs.rollout_lines import RolloutLine
from motif_lite.runs.versions import parsed

_TAIL = 256
"""Bytes before the reader's place by which it recognises its file: a resumed run may have cut lines off."""


@dataclass(frozen=True, slots=True)
class Group:
    """Openings of one problem in one step.

    Attributes:
        start: Byte of the file at which its first line begins.
        size: Bytes of its lines.
        number: Of its first line in the file, from 1.
    """

    start: int
    size: int
    number: int
    lines: tuple[RolloutLine, ...]


@dataclass(slots=True)
class _Pending:
    """A group whose last line may be still to come."""

    start: int
    number: int
    size: int = 0
    lines: list[RolloutLine] = field(default_factory=list)

    def group(self) -> Group:
        return Group(self.start, self.size, self.number, tuple(self.lines))


class RolloutsReader:
    """Reads the groups of a file that may grow.

    Args:
        path: rollouts.jsonl; it need not exist yet.
        num_openings: Lines of a whole group.
    """

    def __init__(self, path: Path, num_openings: int) -> None:
        self.path, self._num_openings = path, num_openings
        self.rewind()

    def rewind(self) -> None:
        """Begin again with the first line."""
        self._place, self._number, self._tail = 0, 0, b""
        self._pending: _Pending | None = None

    def was_rewritten(self) -> bool:
        """Whether lines that were read are gone: a resumed run repeats steps after its checkpoint."""
        if not self._place:
            return False
        try:
            with self.path.open("rb") as file:
                file.seek(self._place - len(self._tail))
                return file.read(len(self._tail)) != self._tail
        except OSError:
            return True

    def new_groups(self, on_progress: Callable[[int, int], None] = lambda done, total: None) -> Iterator[Group]:
        """Groups that are whole since the last call.

        Args:
            on_progress: Called with bytes read and the bytes of the file.

        Raises:
            RunError: A line is damaged, or of a later version.
        """
        if not self.path.exists():
            return
        total = self.path.stat().st_size
        with self.path.open("rb") as file:
            file.seek(self._place)
            for raw in file:
                if not raw.endswith(b"\n"):
                    return  # it is being written
                yield from self._add(raw)
                on_progress(min(self._place, total), total)

    def last_group(self) -> Iterator[Group]:
        """The group at the end of the file that has fewer lines than a whole one; none if there is none."""
        if self._pending:
            yield self._pending.group()
            self._pending = None

    def read(self, start: int, size: int, number: int) -> Group:
        """A group that was read before.

        Raises:
            RunError: It is not there any more.
        """
        with self.path.open("rb") as file:
            file.seek(start)
            raws = file.read(size).splitlines(keepends=True)
        return Group(start, size, number, tuple(self._line(raw, number + i) for i, raw in enumerate(raws)))

    def _add(self, raw: bytes) -> Iterator[Group]:
        line = self._line(raw, self._number + 1)
        if self._pending and not self._continues(self._pending, line):
            yield from self.last_group()
        if self._pending is None:
            self._pending = _Pending(self._place, self._number + 1)
        self._pending.lines.append(line)
        self._pending.size += len(raw)
        self._place, self._number, self._tail = self._place + len(raw), self._number + 1, raw[-_TAIL:]
        if len(self._pending.lines) == self._num_openings:
            yield from self.last_group()

    @staticmethod
    def _continues(pending: _Pending, line: RolloutLine) -> bool:
        first = pending.lines[0]
        return (first.step, first.problem) == (line.step, line.problem)

    def _line(self, raw: bytes, number: int) -> RolloutLine:
        where = f"{self.path}: line {number}"
        try:
            content = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise RunError(f"{where} is damaged ({error}); remove it") from None
        return parsed(RolloutLine, content, where, "remove it")
