"""A measurement that is not complete: a file of what it is made with and of its parts, each kept as it is done."""

from pathlib import Path

from motif_lite.runs.files import append_records, as_line, each_record, write_whole
from motif_lite.runs.records import GradedReply, MeasuredPart, PartsHeader, When

_ENDING = ".parts"
_MARK = "validation.step-"


class Parts:
    """What a measurement has so far.

    Args:
        graded_path: Where its graded replies are kept once it is complete.
        header: What it depends on; parts that were made with something else are dropped.

    Attributes:
        num_dropped: Such parts.

    Raises:
        RunError: The file is damaged, or of a later version.
    """

    def __init__(self, graded_path: Path, header: PartsHeader) -> None:
        self._path = graded_path.with_name(graded_path.name + _ENDING)
        earlier, parts = _read(self._path)
        self._parts = parts if earlier is not None and _made_alike(earlier, header) else []
        self.num_dropped = len(parts) - len(self._parts)
        self._path.parent.mkdir(exist_ok=True)
        write_whole(self._path, map(as_line, (header, *self._parts)))  # without a line that was cut off

    @property
    def graded(self) -> list[GradedReply]:
        """All graded replies so far, in order."""
        return [graded for part in self._parts for graded in part.graded]

    @property
    def seconds(self) -> float:
        """What they took, interruptions aside."""
        return float(sum(part.seconds for part in self._parts))

    @property
    def peak_memory_bytes(self) -> int:
        """The most memory that any of them took."""
        return max((part.peak_memory_bytes for part in self._parts), default=0)

    def add(self, part: MeasuredPart) -> None:
        """Keep a part."""
        self._parts.append(part)
        append_records(self._path, [part])

    def remove(self) -> None:
        """The measurement is complete and kept elsewhere."""
        self._path.unlink()


def discard(graded_path: Path) -> None:
    """Drop what there may be of a measurement that is not needed any more.

    Args:
        graded_path: As of `Parts`.
    """
    graded_path.with_name(graded_path.name + _ENDING).unlink(missing_ok=True)


def remove_all(folder: Path, when: When) -> None:
    """Drop what is incomplete of this time, as it is about to become that of another adapter."""
    for path in folder.glob(f"*.{when}.*{_ENDING}"):
        path.unlink()


def mark_path(root: Path, step: int) -> Path:
    """What the parts of a mark after this step are kept beside; the mark itself is a line of validation.jsonl."""
    return root / "evaluations" / f"{_MARK}{step}.jsonl"


def remove_marks(root: Path, *, but: int | None) -> None:
    """Drop the parts of all marks, or of all but that after one step."""
    kept = None if but is None else mark_path(root, but).name + _ENDING
    for path in (root / "evaluations").glob(f"{_MARK}*{_ENDING}"):
        if path.name != kept:
            path.unlink()


def _made_alike(one: PartsHeader, other: PartsHeader) -> bool:
    """Whether parts are the same; how wide intervals are is decided when they are complete."""
    return one == other.model_copy(
        update={"settings": other.settings.model_copy(update={"confidence": one.settings.confidence})}
    )


def _read(path: Path) -> tuple[PartsHeader | None, list[MeasuredPart]]:
    header = next(each_record(path, PartsHeader, lambda line: "graded" not in line), None)
    return header, list(each_record(path, MeasuredPart, lambda line: "graded" in line))
