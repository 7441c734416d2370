"""Token steps recorded once and replayed: on a GPU the launches of a step take several times as long as its work.

A CUDA graph stands for a number of rows and of columns. What it reads and writes lies where it lay when the graph was
recorded, so the graphs are those of one batch.
"""

from collections.abc import Callable
from typing import Any

import torch

Key = tuple[int, int]
"""Rows and columns: what the shapes of a step hang on."""

_COLUMNS = 256
"""Columns of the cache that steps look back on are rounded up to so many, for each number is a graph of its own."""

_MOST_OFF = 1e-2
"""Largest distance of replayed logits from those that were not recorded, as a share of their norm: the same kernels."""


def rounded_columns(columns: int) -> int:
    """The columns of a recorded step that sees at least so many."""
    return -(-columns // _COLUMNS) * _COLUMNS


class Graphs:
    """The recorded steps of a batch.

    All share one pool of memory, since they are replayed one after the other; each leaves its logits in the same place.

    Args:
        num_rows: Most rows of a step.
    """

    def __init__(self, num_rows: int) -> None:
        self._num_rows = num_rows
        self._known: dict[Key, Any] = {}
        self._pool: Any = None
        self._logits = torch.empty(0)

    def logits(self, key: Key, compute: Callable[[], torch.Tensor]) -> torch.Tensor:
        """What ``compute`` would return, ``(R, V)``, valid until the next call.

        Args:
            compute: The same operations on the same memory at every call with this key; to repeat it changes nothing.

        Raises:
            RuntimeError: The step cannot be recorded, or a replay gives something else.
        """
        if key in self._known:
            self._known[key].replay()
        else:
            self._begin(key, compute)
        return self._logits[: key[0]]

    def _begin(self, key: Key, compute: Callable[[], torch.Tensor]) -> None:
        """Record a step and take it; the first one's logits are compared with those that were not recorded."""
        expected = None
        if not self._known:
            expected = compute()
            self._logits = expected.new_empty(self._num_rows, expected.shape[-1])
        self._known[key] = self._record(compute)
        self._known[key].replay()
        if expected is not None:
            distance = torch.linalg.vector_norm(self._logits[: key[0]].float() - expected.float())
            if not bool(distance <= _MOST_OFF * torch.linalg.vector_norm(expected.float())):
                raise RuntimeError("a replayed step gives other logits")

    def _record(self, compute: Callable[[], torch.Tensor]) -> Any:
        graph = torch.cuda.CUDAGraph()
        # A recording that fails at its end would leave its stream the current one.
        with torch.cuda.stream(torch.cuda.current_stream()), torch.cuda.graph(graph, pool=self._pool):
            logits = compute()
            self._logits[: len(logits)].copy_(logits)
            del logits
        self._pool = graph.pool()
        return graph
