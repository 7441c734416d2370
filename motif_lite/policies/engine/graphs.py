"""Token steps recorded once and replayed: on a GPU the launches of a step take several times as long as its work.

A CUDA graph stands for a number of rows and of columns. What it reads and writes lies where it lay when the graph was
recorded, so the graphs are those of one batch.
"""

from collections.abc import Callable
from typing import Any

import torch

Key = tuple[int, int]

_COLUMNS = 256
"""Columns of the cache that steps look back on are rounded up to so many, for each number is a graph of its own."""


def rounded_columns(columns: int) -> int:
    """The columns of a recorded step that sees at least so many."""
    return -(-columns // _COLUMNS) * _COLUMNS


class Graphs:
    """The recorded steps of a batch.

    All share one pool of memory, since they are replayed one after the other; each leaves its logits in the same place.
    """

    def __init__(self) -> None:
        self._known: dict[Key, Any] = {}
        self._pool: Any = None
        self._logits: torch.Tensor | None = None

    def logits(self, key: Key, compute: Callable[[], torch.Tensor], num_rows: int) -> torch.Tensor:
        """What ``compute`` would return, ``(R, V)``, valid until the next call.

        Args:
            key: Rows and columns: what its shapes hang on.
            compute: Records the same operations on the same memory at every call with this key. It must have been
                called once outside, with any key.
            num_rows: Most rows of any key.
        """
        if key not in self._known:
            self._known[key] = self._record(compute, num_rows)
        self._known[key].replay()
        assert self._logits is not None
        return self._logits[: key[0]]

    def _record(self, compute: Callable[[], torch.Tensor], num_rows: int) -> Any:
        graph = torch.cuda.CUDAGraph()
        if self._logits is None:
            logits = compute()  # to see its form
            self._logits = logits.new_empty(num_rows, logits.shape[-1])
            del logits
        with torch.cuda.graph(graph, pool=self._pool):
            logits = compute()
            self._logits[: len(logits)].copy_(logits)
            del logits
        self._pool = graph.pool()
        return graph
