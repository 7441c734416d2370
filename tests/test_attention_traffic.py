"""What attention moves, counted operation by operation: PyTorch's math path as the plan charges it, and our two."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForCausalLM

from motif_lite.planning import shapes, timing
from motif_lite.policies import grouped_queries
from motif_lite.policies.engine.decoder import Decoder
from motif_lite.policies.engine.kv_cache import RowCache

SHAPE = shapes.KNOWN["qwen2.5-3b-instruct"]

_ROWS, _COLUMNS = 2, 4096
_VIEWS = {"view", "_unsafe_view", "reshape", "transpose", "expand", "unsqueeze", "squeeze", "detach", "t", "empty"}


class _Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts bytes of what every operation reads and writes; a repeated (expanded) tensor is read from memory once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.num_bytes: int = 0

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


def _bytes_per_column(attend: Callable[..., torch.Tensor], kernel: SDPBackend) -> float:
    """Of a token step of padded rows as Unsloth asks for it: grouped queries, a mask of truth values, 16 bits."""
    size = SHAPE.attention_dim // SHAPE.num_heads
    query = torch.zeros(_ROWS, SHAPE.num_heads, 1, size, dtype=torch.bfloat16)
    keys, values = torch.zeros(2, _ROWS, SHAPE.kv_dim // size, _COLUMNS, size, dtype=torch.bfloat16)
    mask = torch.ones(_ROWS, 1, 1, _COLUMNS, dtype=torch.bool)
    with sdpa_kernel(kernel), _Counting() as counting:
        attend(query, keys, values, attn_mask=mask, enable_gqa=True)
    return float(counting.num_bytes / (_ROWS * _COLUMNS))


def test_math_attention_moves_as_much_as_the_plan_says() -> None:
    per_column = _bytes_per_column(scaled_dot_product_attention, SDPBackend.MATH)
    assert timing.math_attention_bytes(SHAPE) == pytest.approx(per_column, rel=0.05)


def test_grouped_attention_moves_keys_and_values_once() -> None:
    """By the only kernel of a CPU that is not the math path; 1,024 bytes are needed."""
    per_column = _bytes_per_column(grouped_queries.Grouped(scaled_dot_product_attention), SDPBackend.FLASH_ATTENTION)
    assert 1024 <= per_column < 1200


@torch.inference_mode()
def test_the_engines_attention_moves_keys_and_values_once() -> None:
    """As they lie in its cache, with the mask that it adds; PyTorch takes what kernel it likes."""
    size, key_heads = SHAPE.attention_dim // SHAPE.num_heads, SHAPE.kv_dim * SHAPE.num_heads // SHAPE.attention_dim
    config = AutoConfig.for_model(
        "qwen2", hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=SHAPE.num_heads,
        num_key_value_heads=key_heads, head_dim=size, vocab_size=64,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config).to(torch.bfloat16).eval()
    [layer], cache = Decoder(model, _COLUMNS).layers, RowCache(1, _ROWS, _COLUMNS + 1)
    cache.attend(slice(_ROWS), _COLUMNS, torch.arange(_ROWS) * (_COLUMNS + 1) + _COLUMNS - 1)
    keys, values = cache.layers[0].add(torch.zeros(_ROWS, 2 * key_heads, size, dtype=torch.bfloat16))
    query = torch.zeros(_ROWS, SHAPE.num_heads + 2 * key_heads, size, dtype=torch.bfloat16)[:, : SHAPE.num_heads]
    mask = torch.zeros(_ROWS, 1, 1, _COLUMNS, dtype=torch.bfloat16)
    with _Counting() as counting:
        layer._seen(query, keys, values, mask)
    assert 1024 <= counting.num_bytes / (_ROWS * _COLUMNS) < 1200
