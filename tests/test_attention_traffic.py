"""What the plan charges for PyTorch's math attention is what PyTorch moves, counted operation by operation."""

from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode

from motif_lite.planning import shapes, timing

_ROWS, _COLUMNS = 2, 4096
_VIEWS = {"view", "_unsafe_view", "reshape", "transpose", "expand", "unsqueeze", "squeeze", "detach", "t", "empty"}


class _Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts bytes of what every operation reads and writes; a repeated (expanded) tensor is read from memory once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.num_bytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if function._schema.name.partition("::")[2] not in _VIEWS:
            results = result if isinstance(result, tuple | list) else (result,)
            tensors = [each for each in (*args, *results) if isinstance(each, torch.Tensor)]
            self.num_bytes += sum(map(_memory, tensors))
        return result


def _memory(tensor: torch.Tensor) -> int:
    sizes = [size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride]
    return int(torch.tensor(sizes).prod()) * tensor.element_size()


def test_math_attention_moves_as_much_as_the_plan_says() -> None:
    """A token step of padded rows as Unsloth asks for it: grouped queries, a mask of truth values, 16 bits."""
    shape = shapes.KNOWN["qwen2.5-3b-instruct"]
    size = shape.attention_dim // shape.num_heads
    query = torch.zeros(_ROWS, shape.num_heads, 1, size, dtype=torch.bfloat16)
    keys, values = torch.zeros(2, _ROWS, shape.kv_dim // size, _COLUMNS, size, dtype=torch.bfloat16)
    mask = torch.ones(_ROWS, 1, 1, _COLUMNS, dtype=torch.bool)
    with sdpa_kernel(SDPBackend.MATH), _Counting() as counting:
        scaled_dot_product_attention(query, keys, values, attn_mask=mask, enable_gqa=True)
    per_column = counting.num_bytes / (_ROWS * _COLUMNS)
    assert timing.math_attention_bytes(shape) == pytest.approx(per_column, rel=0.05)
    assert per_column > 50 * 2 * shape.kv_dim * 2 * 0.95, "against reading keys and values once"
