"""Attention of one new token per row, over keys and values that are not repeated for every query head.

transformers repeats them where a mask is given: with the 8 query heads per key head of Qwen2.5-3B it would write eight
times what is in the cache, at every token. An attention function of one's own is its supported way in.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from motif_lite.planning.limits import LOOKS_AT_THE_BATCH, PROVEN

_NAME = "motif_lite_rows"


def takes_row_attention(model: Any) -> bool:
    """Whether the layers of a causal model `sees_all` attend by a function that we can give: transformers' own."""
    attentions = [module for module in model.get_decoder().modules() if hasattr(module, "num_key_value_groups")]
    are_stock = all(type(module).forward.__module__.startswith("transformers.") for module in attentions)
    return are_stock and sees_all(model)


def sees_all(model: Any) -> bool:
    """Whether a causal model is of a proven type, and each token attends to all before it, wherever its row is."""
    config = model.config.get_text_config(decoder=True)
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    has_windows = kinds != {"full_attention"} or getattr(config, "sliding_window", None) is not None
    rotary = (getattr(config, "rope_parameters", None) or {}).get("rope_type")
    return config.model_type in PROVEN and not has_windows and rotary not in LOOKS_AT_THE_BATCH


def row_attention(model: Any) -> AbstractContextManager[None]:
    """Let a model's layers attend in our way meanwhile; masks are what is added to scores ``(B, 1, T, columns)``."""
    return attending(model, _NAME)


@contextmanager
def attending(model: Any, name: str) -> Iterator[None]:
    """Let a model's layers attend meanwhile by a function that transformers knows by this name."""
    config = model.config.get_text_config(decoder=True)
    before = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before


def _attend_to_row(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of one new token per row, without repeating keys and values for every query head.

    The query heads that share a key head are handed over as so many queries of it: they see the same columns.

    Args:
        query: ``(B, heads, T, size)``; where T is not 1 a prompt is being read, in transformers' own way.
        key, value: ``(B, key heads, columns, size)``.
        attention_mask: ``(B, 1, T, columns)``, added.

    Returns:
        ``(B, T, heads, size)`` and no weights.
    """
    batch, heads, length, size = query.shape
    attention_mask = attention_mask.to(query.dtype)  # with 4-bit weights a model works in more than one precision
    if length > 1:
        read: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return read
    grouped = query.view(batch, key.shape[1], heads // key.shape[1], size)
    output = scaled_dot_product_attention(grouped, key, value, attn_mask=attention_mask, scale=scaling)
    return output.reshape(batch, 1, heads, size), None


AttentionInterface.register(_NAME, _attend_to_row)
