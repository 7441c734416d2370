"""Measures one core with NumPy, in a process of its own: ``python probe.py`` prints two numbers.

They are the FLOP/s of a square product, and the seconds of a product of a few rows with a square of weights, as when
replies are written. It uses one thread, because on a busy machine threads wait for each other, and products of about a
millisecond, because some of them are then not interrupted.
"""

import time
from collections.abc import Callable
from itertools import cycle

NARROW, WEIGHTS = 32, 1024
"""Rows, and inputs and outputs of the weights."""

_SQUARE = 384
_SECONDS = 0.7
"""For each of the two."""


def main() -> None:
    """Measure and print."""
    import numpy as np

    square = np.full((_SQUARE, _SQUARE), 0.5, np.float32)
    print(2 * _SQUARE**3 / _fastest(lambda: square @ square))
    weights = cycle([np.full((WEIGHTS, WEIGHTS), 0.5, np.float32) for _ in range(16)])  # more than caches hold
    rows = np.full((NARROW, WEIGHTS), 0.5, np.float32)
    print(_fastest(lambda: rows @ next(weights).T))


def _fastest(call: Callable[[], object]) -> float:
    """Seconds of the fastest of many calls: an average would count what else the machine does."""
    call()
    fastest, end = float("inf"), time.perf_counter() + _SECONDS
    while (started := time.perf_counter()) < end:
        call()
        fastest = min(fastest, time.perf_counter() - started)
    return fastest


if __name__ == "__main__":
    main()
