"""What a rollout step yields, and how its random streams are named."""

import random
from dataclasses import dataclass
from typing import Protocol

from motif_lite.nouns import OnTokens, Opening


class OnRound(Protocol):
    """Called when a round's generation begins; returns what is told of its progress."""

    def __call__(self, round_number: int, num_rounds: int, width: int) -> OnTokens | None:
        """Args: the round from 1, rounds in all, sequences in it."""


@dataclass(frozen=True, slots=True)
class Rollouts:
    """Openings with their futures, and how many times progress had to be cut to fit the context."""

    openings: tuple[Opening, ...]
    num_cut: int = 0


def derive_seed(seed: int, *path: object) -> int:
    """A seed of its own for one place in the run, e.g. ``derive_seed(7, "futures", step, round)``."""
    return random.Random("/".join(map(str, (seed, *path)))).getrandbits(31)
