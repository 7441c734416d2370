"""What a logger does, and what it is given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

Figures = Mapping[str, float]
"""Numbers by name; the parts of a name are separated by ``/``."""


class Sample(NamedTuple):
    """An opening with the last reply of its first future: a row of a logger's table of samples.

    Attributes:
        reward: The weighted sum.
        accuracy: Of its futures; None with a single round.
    """

    problem: str
    question: str
    gold: str
    opening: str
    reward: float
    accuracy: float | None
    final: str


@dataclass(frozen=True, slots=True)
class LoggedRun:
    """Which run is logged.

    Attributes:
        root: Its run directory.
        id: Its own, the same after each resume.
        settings: The resolved recipe.
    """

    root: Path
    id: str
    settings: Mapping[str, object]


class Logger(Protocol):
    """Holds each figure of a step once.

    A class that is made for a `LoggedRun` opens the logger; whatever it raises ends this logger alone. A run that is
    resumed first logs all steps that it still has: a logger on this machine begins with nothing, one on a server skips
    what it has.
    """

    def log(self, step: int, figures: Figures) -> None:
        """Add figures of a step; steps come in order, and a step may come in parts."""

    def samples(self, step: int, rows: Sequence[Sample]) -> None:
        """Add a table of what the model wrote in a step."""

    def close(self) -> None:
        """Write everything out."""
