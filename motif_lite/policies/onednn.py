"""Linear layers by oneDNN instead of MKL while replies are generated on a CPU.

PyTorch takes 32-bit matrix products to MKL, which leaves half of the vector width of AMD processors unused: 95 against
210 GFLOP/s for 2048 rows on one core of a Zen 5, 80 against 150 for 32. oneDNN is in
the same wheel, but PyTorch goes there only for compiled models. Which one a product takes depends on its shape alone,
never on timing: a run that is resumed computes what it would have computed.

oneDNN compiles code for every number of rows and keeps it, so rows are rounded up to a few numbers (`batch_sizes`).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.nn.functional import linear, pad

from motif_lite.policies.batch_sizes import rounded_up

FEWEST_MULTIPLICATIONS = 2**20
"""With fewer, the 10 microseconds that a call of oneDNN costs in addition outweigh the gain (measured)."""


@contextmanager
def fast_products(model: Any) -> Iterator[None]:
    """Let a model's plain 32-bit linear layers on a CPU multiply by oneDNN; they are put back, whatever happens.

    Nothing inside may ask for gradients.
    """
    layers = [module for module in model.modules() if is_plain(module)] if torch._C._has_mkldnn else []
    with replaced({layer: partial(_multiplied, layer) for layer in layers}):
        yield


@contextmanager
def replaced(forwards: Mapping[torch.nn.Linear, Callable[[torch.Tensor], torch.Tensor]]) -> Iterator[None]:
    """Let layers without a ``forward`` of their own multiply by these; they are put back, whatever happens."""
    try:
        for layer, forward in forwards.items():
            layer.forward = forward  # type: ignore[method-assign, assignment]
        yield
    finally:
        for layer in forwards:
            vars(layer).pop("forward", None)


def is_plain(module: Any) -> bool:
    """Whether a module is a linear layer of 32 bits on a CPU that computes nothing else."""
    is_linear = type(module) is torch.nn.Linear and "forward" not in vars(module)
    return is_linear and module.weight.dtype == torch.float32 and module.weight.device.type == "cpu"


def _multiplied(layer: torch.nn.Linear, states: torch.Tensor) -> torch.Tensor:
    """A linear layer's ``(..., inputs)`` to ``(..., outputs)``."""
    if states.numel() * layer.out_features < FEWEST_MULTIPLICATIONS or states.dtype != torch.float32:
        return linear(states, layer.weight, layer.bias)
    return product(states, layer.weight, layer.bias, layer)


def product(states: torch.Tensor, weight: Any, bias: torch.Tensor | None, layer: torch.nn.Linear) -> torch.Tensor:
    """A layer's ``(..., inputs)`` to ``(..., outputs)``, by its weight or a reordered copy of it."""
    rows = states.flatten(0, -2)
    size = rounded_up(len(rows))
    if size > len(rows):
        rows = pad(rows, (0, 0, 0, size - len(rows)))
    outputs: torch.Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return outputs[: states.numel() // layer.in_features].view(*states.shape[:-1], layer.out_features)
