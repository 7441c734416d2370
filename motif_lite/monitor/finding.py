"""What a look at a run's metrics finds, and how sure it has to be."""

from dataclasses import dataclass
from math import sqrt

SIGMAS = 3.5
"""Standard errors between the newest window and a bound that is known beforehand."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that goes wrong.

    Attributes:
        name: What, in a few words; a run tells each name once.
        step: The step after which it was first seen.
        text: The figures that show it.
        remedy: What to do, with ``--set`` changes of the recipe.
    """

    name: str
    step: int
    text: str
    remedy: str

    def __str__(self) -> str:
        """All of it on a line."""
        return f"warning at step {self.step}: {self.name}: {self.text}. Remedy: {self.remedy}"


def is_above(share: float, bound: float, number: float) -> bool:
    """Whether a share of so many is significantly above a bound: the score test of a share."""
    return number > 0 and share > bound + SIGMAS * sqrt(bound * (1 - bound) / number)
