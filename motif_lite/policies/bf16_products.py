"""Frozen linear layers multiplied in bfloat16 while replies are generated on a CPU, around a model in 32 bits.

A token step of a small batch reads every weight once, so half the bytes are half the time, and processors with
AVX512-BF16 or AMX also multiply faster. oneDNN reorders each weight once, for the whole run; the model's own
stay as they are, for training. States, norms, attention and the adapter, which is two thin products, stay in 32 bits.
Frozen layers round as the trainer's do under bfloat16 autocast; the rest rounds less.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from motif_lite.errors import MissingHardwareError
from motif_lite.planning import precision
from motif_lite.planning.machine import DeviceType
from motif_lite.policies.onednn import FEWEST_MULTIPLICATIONS, is_plain, product, replaced
from motif_lite.recipe.keys import changed
from motif_lite.recipe.schema import Recipe

_log = logging.getLogger(__name__)

_ROWS = 32
"""Of the products that the order of weights is to suit."""


def can_multiply() -> bool:
    """Whether PyTorch has such products here: not without oneDNN, and not on every processor."""
    return bool(torch._C._has_mkldnn and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def where_possible(recipe: Recipe, device: DeviceType, *, trains: bool) -> Recipe:
    """The recipe with replies in 32 bits where it would have such products and there are none here.

    Args:
        trains: A run that insists on them keeps them, and is refused by `Bf16Products`; a model that is only used does
            not have to be where it was trained.
    """
    decided = changed(recipe, precision.decisions(recipe, device))
    insists = trains and recipe.rollout.weights == "16bit"
    if insists or not precision.writes_in_bf16(decided, device) or can_multiply():
        return recipe
    _log.warning("replies are generated in 32 bits: PyTorch has no products in bfloat16 on this processor")
    return changed(recipe, {"rollout.weights": "32bit"})


class Bf16Products:
    """The reordered weights of one model, made when they are first wanted.

    Raises:
        MissingHardwareError: This processor cannot.
    """

    def __init__(self) -> None:
        if not can_multiply():
            raise MissingHardwareError(
                'rollout.weights = "16bit" needs products in bfloat16, which PyTorch does not have on this processor; '
                'set it to "32bit"'
            )
        self._reordered: dict[torch.nn.Linear, Any] = {}

    @contextmanager
    def at_work(self, model: Any) -> Iterator[None]:
        """Let a model's frozen layers multiply in bfloat16; they are put back, whatever happens."""
        layers = [
            module
            for name, module in model.named_modules()
            if is_plain(module) and _is_large_and_frozen(module) and ".lora_" not in name  # frozen where it is off
        ]
        with replaced({layer: partial(_multiplied, self._weight(layer), layer) for layer in layers}):
            yield

    def _weight(self, layer: torch.nn.Linear) -> Any:
        if layer not in self._reordered:
            weight = layer.weight.detach().to(torch.bfloat16)
            self._reordered[layer] = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS)
        return self._reordered[layer]


def _is_large_and_frozen(layer: torch.nn.Linear) -> bool:
    return not layer.weight.requires_grad and _ROWS * layer.weight.numel() >= FEWEST_MULTIPLICATIONS


def _multiplied(weight: Any, layer: torch.nn.Linear, states: torch.Tensor) -> torch.Tensor:
    """A layer's ``(..., inputs)`` to ``(..., outputs)``, both in 32 bits."""
    outputs = product(states.to(torch.bfloat16), weight, None, layer)
    return outputs.float() if layer.bias is None else outputs + layer.bias
