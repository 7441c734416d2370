"""What an export is checked with, and what was found: export.json in the exported folder."""

from dataclasses import dataclass
from typing import Literal

from motif_lite.runs.records import Versioned

Number = Literal["f32", "f16", "bf16", "q8_0"]
"""How weights are stored, by llama.cpp's names."""

FILE = "export.json"

_LEAST_CERTAIN = 0.1
"""The largest standard error of a share of the adapter's effect that tells something."""


@dataclass(frozen=True, slots=True)
class Bound:
    """The largest differences that a format may make, in natural logarithms."""

    mean: float
    largest: float


class Difference(Versioned):
    """Log-probabilities of tokens of the run's own replies: exported model less adapter and base, in absolute value.

    Attributes:
        largest: Of a token.
        effect: Mean difference between base and adapter and base: what the adapter changes.
        lost: Share of the adapter's effect that the export lacks, by least squares; 1: it is the base model.
        lost_error: Its standard error: rounding is noise to it.
    """

    replies: int
    tokens: int
    mean: float
    largest: float
    effect: float
    lost: float | None = None
    lost_error: float | None = None

    @property
    def can_tell(self) -> bool:
        """Whether the adapter's effect stands out from rounding, so that an export without it would be noticed."""
        return self.lost_error is not None and self.lost_error <= _LEAST_CERTAIN


class Runtime(Versioned):
    """What llama.cpp itself wrote for a prompt of the run, greedily, next to adapter and base.

    Attributes:
        name: Package and version.
        same_tokens: From the first on, how many tokens are the same, of so many.
        largest: Difference in log-probability among them.
        text: What llama.cpp wrote.
    """

    name: str
    same_tokens: int
    tokens: int
    largest: float
    text: str


class ExportRecord(Versioned):
    """All of export.json.

    Attributes:
        adapter: The SHA-256 sum of the adapter's weights.
        mean_bound: A larger mean is refused, as is a larger difference of a token than ``largest_bound``.
    """

    run: str
    base: str
    format: str
    number: Number | None = None
    adapter: str
    difference: Difference
    mean_bound: float
    largest_bound: float
    runtime: Runtime | None = None
