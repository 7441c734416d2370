"""Which prompts can begin from what the cache already holds.

All futures of an opening share their prompt, all openings of a problem the system prompt and the question, and all
problems the system prompt. So a new sequence takes the longest beginning that it has in common with any row of the
cache, and only the rest is read. Where that row is itself about to be read, it comes a wave later.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from motif_lite.policies.engine.sampler import Request

WORTH_COPYING = 16
"""Tokens: a shorter common beginning is not worth a wave of its own, nor is so small an advantage of one row."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a sequence goes, and what it begins from.

    Attributes:
        row: Its row.
        source: The row whose beginning it takes; itself if it finds that in place.
        shared: Tokens of the prompt that it takes from there.
        wave: When: after all waves before have been read.
    """

    request: Request
    row: int
    source: int
    shared: int
    wave: int

    @property
    def unread(self) -> list[int]:
        """What is left to read; the prompt's last token is for the first step of generation."""
        return self.request.ids[self.shared : -1]


def in_order(requests: Sequence[Request]) -> list[Request]:
    """Those with the same prompt next to each other, prompts as they first come."""
    first: dict[tuple[int, ...], int] = {}
    places = [first.setdefault(tuple(request.ids), index) for index, request in enumerate(requests)]
    return [request for _, request in sorted(zip(places, requests, strict=True), key=lambda pair: pair[0])]


class Prefixes:
    """Remembers which prompt each row of the cache begins with, also after the sequence has ended.

    Args:
        num_rows: Of the cache.
        longest: Tokens of the longest prompt.
    """

    def __init__(self, num_rows: int, longest: int) -> None:
        self._tokens: NDArray[np.int64] = np.full((num_rows, longest), -1)

    def place(self, requests: Sequence[Request], free: list[int]) -> list[Placement]:
        """Give each request one of the free rows, which hold what ended sequences left there."""
        free = list(free)
        waves: dict[int, int] = {}
        placements = []
        for request in requests:
            source, shared = self._source(request, waves)
            row = source if source in free else free[0]
            free.remove(row)
            wave = waves[source] + 1 if source != row and source in waves else 0
            waves[row] = wave
            self._tokens[row] = -1
            self._tokens[row, : len(request.ids) - 1] = request.ids[:-1]
            placements.append(Placement(request, row, source if shared else row, shared, wave))
        return placements

    def _source(self, request: Request, waves: dict[int, int]) -> tuple[int, int]:
        """The row to begin from and how much it shares; among rows about as good the one that is ready first."""
        prompt = request.ids[:-1]
        shared = np.logical_and.accumulate(self._tokens[:, : len(prompt)] == prompt, axis=1).sum(axis=1)
        best = int(shared.max(initial=0))
        if best < min(WORTH_COPYING, len(prompt)) or not best:
            return -1, 0
        enough = best if best == len(prompt) else best - WORTH_COPYING
        candidates = [int(row) for row in np.flatnonzero(shared >= max(enough, 1))]
        source = min(candidates, key=lambda row: (waves.get(row, -1), -shared[row]))
        return source, int(shared[source])
