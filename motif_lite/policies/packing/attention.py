"""Attention over a prefix tree: every token sees the tokens before it in its rows, and no others.

Segments that follow the same tokens are one call: a batch, padded on the right to the longest. So what is computed
grows with what tokens see, not with the square of all tokens as it would with one mask over the whole tree.

The attention is recomputed in the backward pass: what is kept of a layer is queries, keys and values of the tree's
tokens, and not the copies that its calls work on.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from motif_lite.policies.engine.attention import attending
from motif_lite.policies.packing.tree import Family, PrefixTree

_NAME = "motif_lite_prefix_tree"


@dataclass(frozen=True, slots=True)
class _Call:
    """One family as tensors.

    Attributes:
        path: Places ``(A,)`` of the tokens before its segments.
        members: Places ``(S, T)`` of its segments' tokens; padding repeats the last one.
        is_token: Which of them are no padding ``(S, T)``.
        mask: Which of path and segment a token sees ``(T, A + T)``; None where there is no path: those before it.
    """

    path: torch.Tensor
    members: torch.Tensor
    is_token: torch.Tensor
    mask: torch.Tensor | None


class TreeMap:
    """A tree's families on a device, for one forward and backward pass."""

    def __init__(self, tree: PrefixTree, device: torch.device) -> None:
        self.calls = [_call(family, device) for family in tree.families]


def _call(family: Family, device: torch.device) -> _Call:
    lengths = torch.tensor([end - start for start, end in family.segments], device=device)
    starts = torch.tensor([start for start, _ in family.segments], device=device)
    offsets = torch.arange(int(lengths.max()), device=device)
    members = starts[:, None] + torch.minimum(offsets, lengths[:, None] - 1)
    path = torch.tensor(family.path, dtype=torch.long, device=device)
    mask = None
    if len(path):
        mask = torch.arange(-len(path), len(offsets), device=device) <= offsets[:, None]
    return _Call(path, members, offsets < lengths[:, None], mask)


def tree_attention(model: Any) -> AbstractContextManager[None]:
    """Let a model's layers attend along a tree where its forward pass is given one, as ``tree``.

    It has to last until the backward pass is over: gradient checkpointing runs layers again there.
    """
    return attending(model, _NAME)


def _attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    tree: TreeMap | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention over a tree's tokens, or transformers' own where there is none.

    Args:
        query: ``(1, heads, P, size)``, of all P tokens of the tree.
        key, value: ``(1, key heads, P, size)``.
        attention_mask: Not looked at where there is a tree.

    Returns:
        ``(1, P, heads, size)`` and no weights.
    """
    if tree is None:
        read: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return read
    arguments = query[0], key[0], value[0], tree, scaling
    if not torch.is_grad_enabled():
        return _along(*arguments), None
    kept: torch.Tensor = checkpoint(_along, *arguments, use_reentrant=False, preserve_rng_state=False)
    return kept, None


def _along(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, tree: TreeMap, scaling: float | None
) -> torch.Tensor:
    """All calls, one behind the other as their tokens are: ``(1, P, heads, size)``."""
    parts = []
    for call in tree.calls:
        keys, values = (_seen(states, call, len(query) // len(key)) for states in (key, value))
        output = scaled_dot_product_attention(
            query[:, call.members].transpose(0, 1), keys, values,
            attn_mask=call.mask, is_causal=call.mask is None, scale=scaling,
        )  # fmt: skip
        parts.append(output.transpose(1, 2)[call.is_token])
    return torch.cat(parts)[None]


def _seen(states: torch.Tensor, call: _Call, groups: int) -> torch.Tensor:
    """What a family's segments see ``(S, heads, A + T, size)`` of keys or values ``(key heads, P, size)``."""
    own = states[:, call.members].transpose(0, 1)
    if call.mask is not None:
        path = states[:, call.path][None].expand(len(own), -1, -1, -1)
        own = torch.cat((path, own), 2)
    repeated: torch.Tensor = repeat_kv(own, groups)
    return repeated


AttentionInterface.register(_NAME, _attend)
AttentionMaskInterface.register(_NAME, sdpa_mask)
