"""Measures a CPU with PyTorch, in a process of its own: ``python probe.py THREADS`` prints five numbers.

They are the FLOP/s of a square product, as an update's, and the seconds of a product of a few rows with a square of
weights, as when replies are written: both in 32 bits, then both in bfloat16; zeros where PyTorch has no such product.
The last is what a small operation takes, of which a layer has dozens. It uses all threads that a run will use, for two
cores seldom read memory twice as fast as one. Each figure is a median: the fastest of many says what a run never gets.
"""

import sys
import time
from collections.abc import Callable
from itertools import cycle
from statistics import median
from typing import Any

NARROW, WEIGHTS = 8, 1024
"""Rows, and inputs and outputs of the weights."""

_RANK = 16
_SQUARE = 1024
_SECONDS = 0.4
"""For each of the five."""


def main() -> None:
    """Measure and print."""
    import torch

    torch.set_num_threads(int(sys.argv[1]))
    has_onednn = torch._C._has_mkldnn
    with torch.inference_mode():
        for dtype in (torch.float32, torch.bfloat16):
            if dtype == torch.float32 or (has_onednn and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
                print(_flops_per_second(torch, dtype), _usual(_narrow(torch, dtype, has_onednn)))
            else:
                print(0, 0)
        print(_small_seconds(torch, _narrow(torch, torch.float32, has_onednn)))


def _flops_per_second(torch: Any, dtype: Any) -> float:
    square = torch.full((_SQUARE, _SQUARE), 0.5, dtype=dtype)
    return 2 * _SQUARE**3 / _usual(lambda: square @ square)


def _narrow(torch: Any, dtype: Any, has_onednn: bool) -> Callable[[], object]:
    """A product that the engine would take, with other weights each time."""
    rows = torch.full((NARROW, WEIGHTS), 0.5, dtype=dtype)
    weights = [torch.full((WEIGHTS, WEIGHTS), 0.5, dtype=dtype) for _ in range(32)]  # more than caches hold
    products = torch.ops.mkldnn
    if dtype == torch.bfloat16:
        weights = [products._reorder_linear_weight(weight, NARROW) for weight in weights]
    following = cycle(weights)
    if has_onednn:
        return lambda: products._linear_pointwise(rows, next(following), None, "none", [], "")
    return lambda: torch.nn.functional.linear(rows, next(following))


def _small_seconds(torch: Any, narrow: Callable[[], object]) -> float:
    """The average of a norm, an adapter's two products and an addition, after a product that has emptied the caches."""
    rows, scale = torch.full((NARROW, WEIGHTS), 0.5), torch.full((WEIGHTS,), 0.5)
    adapters = [(torch.full((_RANK, WEIGHTS), 0.5), torch.full((WEIGHTS, _RANK), 0.5)) for _ in range(256)]
    following, linear = cycle(adapters), torch.nn.functional.linear

    def small() -> None:
        down, up = next(following)
        rows + linear(linear(torch.rms_norm(rows, (WEIGHTS,), scale, 1e-6), down), up)

    return _usual(small, before=narrow) / 4


def _usual(call: Callable[[], object], before: Callable[[], object] = lambda: None) -> float:
    """Median of a call's seconds, the first one left out.

    Args:
        before: Called before each, and not counted.
    """
    call()
    seconds: list[float] = []
    end = time.perf_counter() + _SECONDS
    while time.perf_counter() < end or not seconds:
        before()
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return median(seconds)


if __name__ == "__main__":
    main()
