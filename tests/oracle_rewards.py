"""Rewards of the oracle's toy, named by its recipe as a user's own: a table of right trajectories, and a form."""

import zlib

from motif_lite.nouns import Opening


def wins(first: str, final: str) -> float:
    """2 if this end of this beginning counts as right, else 0; as good as a table that was drawn at random."""
    return 2.0 * (zlib.crc32(f"{first}/{final}/7".encode()) % 100 < 40)


def accuracy(opening: Opening) -> float:
    """Mean over the trajectories that go through a round."""
    scores = [wins(future.turns[0].reply.text, future.final.text) for future in opening.evidence]
    return sum(scores) / len(scores)


def form(opening: Opening) -> float:
    """Of the reply itself."""
    return 0.5 * opening.turn.reply.text.startswith("x")
