"""What the phases of a run have taken: accounting.json."""

from functools import reduce

from motif_lite.runs.records import Record, Versioned


class Cost(Record):
    """What a phase has taken.

    Attributes:
        peak_memory_bytes: 0 where it was not measured.
    """

    prompts: int = 0
    generated_tokens: int = 0
    trained_tokens: int = 0
    seconds: float = 0.0
    peak_memory_bytes: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        """Both, one after the other."""
        return Cost(
            prompts=self.prompts + other.prompts,
            generated_tokens=self.generated_tokens + other.generated_tokens,
            trained_tokens=self.trained_tokens + other.trained_tokens,
            seconds=self.seconds + other.seconds,
            peak_memory_bytes=max(self.peak_memory_bytes, other.peak_memory_bytes),
        )


NOTHING = Cost()

Costs = dict[str, Cost]
"""By phase."""


def total(costs: Costs) -> Cost:
    """All phases together."""
    return reduce(Cost.__add__, costs.values(), NOTHING)


class Accounting(Versioned):
    """Costs by phase, in the order of a run; ``total`` is all of them."""

    phases: Costs
