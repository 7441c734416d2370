"""The adapter added into the weights while replies are generated.

LoRA makes three products out of one. Folded, a round of futures took a fifth less time at 1 M parameters and a sixth
less at 45 M (measured: docs/measurements.md). The weights are put back as they were, not subtracted from again, so that
training never sees a rounding of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora import Linear

from motif_lite.planning.limits import LARGEST_FOLDED_BYTES


@contextmanager
def adapter_folded(model: Any) -> Iterator[None]:
    """Replace W by W + BA wherever a small PEFT model has an adapter at work, and put W back, whatever happens.

    Only weights in 32 bits: a small update of a 16-bit weight would be lost in rounding.
    """
    layers = _foldable(model)
    kept = [(layer, layer.get_base_layer().weight, layer.get_base_layer().weight.data) for layer in layers]
    try:
        for layer, weight, data in kept:
            weight.data = data.clone()
            layer.merge()
        yield
    finally:
        for layer, weight, data in kept:
            weight.data = data
            layer.merged_adapters.clear()


def _foldable(model: Any) -> list[Any]:
    layers = [module for module in model.modules() if isinstance(module, Linear) and _has_plain_weight(module, model)]
    copied = sum(layer.get_base_layer().weight.nbytes for layer in layers)
    return layers if copied <= LARGEST_FOLDED_BYTES else []


def _has_plain_weight(layer: Any, model: Any) -> bool:
    weight = layer.get_base_layer().weight
    is_alone = weight is not model.get_input_embeddings().weight  # a tied output layer would change both
    return weight.dtype == torch.float32 and is_alone and not layer.disable_adapters and not layer.merged
