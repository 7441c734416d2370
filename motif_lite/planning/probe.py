"""Measures one core with PyTorch, in a process of its own: ``python probe.py`` prints four numbers.

They are the FLOP/s of a square product, as an update's, and the seconds of a product of a few rows with a square of
weights, as when replies are written: both in 32 bits, then both in bfloat16; zeros where PyTorch has no such product.
It uses one thread, because on a busy machine threads wait for each other, and products of about a millisecond, because
some of them are then not interrupted.
"""

import time
from collections.abc import Callable
from itertools import cycle
from typing import Any

NARROW, WEIGHTS = 32, 1024
"""Rows, and inputs and outputs of the weights."""

_SQUARE = 512
_SECONDS = 0.5
"""For each of the four."""


def main() -> None:
    """Measure and print."""
    import torch

    torch.set_num_threads(1)
    has_onednn = torch._C._has_mkldnn
    for dtype in (torch.float32, torch.bfloat16):
        if dtype == torch.float32 or (has_onednn and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
            print(_flops_per_second(torch, dtype), _narrow_seconds(torch, dtype, has_onednn))
        else:
            print(0, 0)


def _flops_per_second(torch: Any, dtype: Any) -> float:
    square = torch.full((_SQUARE, _SQUARE), 0.5, dtype=dtype)
    return 2 * _SQUARE**3 / _fastest(lambda: square @ square)


def _narrow_seconds(torch: Any, dtype: Any, has_onednn: bool) -> float:
    """Of the product that the engine would take."""
    rows = torch.full((NARROW, WEIGHTS), 0.5, dtype=dtype)
    weights = [torch.full((WEIGHTS, WEIGHTS), 0.5, dtype=dtype) for _ in range(32)]  # more than caches hold
    products = torch.ops.mkldnn
    if dtype == torch.bfloat16:
        weights = [products._reorder_linear_weight(weight, NARROW) for weight in weights]
    following = cycle(weights)
    if has_onednn:
        return _fastest(lambda: products._linear_pointwise(rows, next(following), None, "none", [], ""))
    return _fastest(lambda: torch.nn.functional.linear(rows, next(following)))


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
