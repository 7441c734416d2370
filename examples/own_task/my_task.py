"""Your own data set and reward."""

import random
from collections.abc import Iterator

from motif_lite.nouns import Opening


def sums(role: str, seed: int) -> Iterator[dict[str, str]]:
    """Sums modulo 10 that take two or three rounds: ``a4b9c1...=``."""
    rng = random.Random(f"sums/{role}/{seed}")
    for _ in range(400):
        digits = [rng.randrange(10) for _ in range(rng.choice([9, 12]))]
        terms = [f"{letter}{digit}" for letter, digit in zip("abcdefghijkl", digits, strict=False)]
        yield {"question": "".join(terms) + "=", "answer": str(sum(digits) % 10)}


def brevity(opening: Opening) -> float:
    """Near 1 for an empty opening, 0 for one of 35 tokens or more."""
    return 1 - min(opening.turn.reply.num_tokens / 35, 1)
