"""The nucleus of many distributions on a GPU, without sorting them.

To sort 32 rows of 152 thousand probabilities takes a GPU as long as several layers, at every token step
(docs/measurements.md). What is wanted is one number of each row, and it can be found by halving: from 0 to 1 there are
2**30 numbers of 32 bits.
"""

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

Least = Callable[[torch.Tensor, float], torch.Tensor]
"""Probabilities ``(B, V)`` in 32 bits and top-p to the least probability ``(B, 1)`` in each nucleus."""

_BLOCK = 4096
_MOST_OFF = 1e-3
"""Sums in another order may part by a token at the edge: what two ways keep may differ by so much of the whole."""

_PROBES = (0.3, 0.7, 0.95)

_log = logging.getLogger(__name__)


@cache
def by_halving(by_sorting: Least, device: torch.device) -> Least:
    """The kernel, if it can be compiled for a device and agrees with sorting; otherwise a warning, and sorting."""
    noise = torch.randn(3, 2 * _BLOCK + 1, generator=torch.Generator().manual_seed(0))
    example = (6 * noise).to(device).softmax(-1)  # steep: in a flat one every edge is near every other
    try:
        least = _kernel()
        off = max(_difference(example, least(example, top_p), by_sorting(example, top_p)) for top_p in _PROBES)
        fault = None if off <= _MOST_OFF else "it finds another one than sorting"
    except Exception as error:  # no Triton, no compiler, or whatever either raises
        fault = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
    if fault is None:
        return least
    _log.warning("top-p is found by sorting, which is slower: the kernel cannot be used (%s)", fault)
    return by_sorting


def _difference(probabilities: torch.Tensor, one: torch.Tensor, other: torch.Tensor) -> float:
    """Largest difference of what two edges ``(B, 1)`` keep of a distribution."""
    kept, expected = (torch.where(probabilities >= edge, probabilities, 0).sum(-1) for edge in (one, other))
    return float((kept - expected).abs().max())


def _kernel() -> Least:
    from motif_lite.policies.engine import nucleus_kernel  # Triton is there only where PyTorch is built for a GPU

    kernel: Any = nucleus_kernel.least

    def least(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
        rows, size = probabilities.shape
        found = probabilities.new_empty(rows, 1)
        kernel[(rows,)](probabilities.contiguous(), found, top_p, size, block=_BLOCK, num_warps=16)
        return found

    return least
