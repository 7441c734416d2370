"""One token of every row through a model's layers, with little work for the host.

A token step of a small batch is short: for a model of 0.4 million parameters, and on any GPU, most of it is Python
between the products. transformers' modules ask for kinds of cache, of attention and of masks in every layer, and PEFT
looks for adapters in every product; here all that is settled once, before the first token. The weights, the cache and
the adapter are the model's own.

Only layers of the kind that Llama began are known: norm, attention with rotary positions, norm, gated products. The
engine compares the first token's logits with the model's own before it relies on them.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch.nn.functional import linear, scaled_dot_product_attention
from transformers.models.llama.modeling_llama import LlamaDecoderLayer
from transformers.models.mistral.modeling_mistral import MistralDecoderLayer
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer
from transformers.models.qwen3.modeling_qwen3 import Qwen3DecoderLayer

from motif_lite.policies.engine.kv_cache import RowCache

Product = Callable[[torch.Tensor], torch.Tensor]

_KNOWN = (LlamaDecoderLayer, MistralDecoderLayer, Qwen2DecoderLayer, Qwen3DecoderLayer)

MOST_OFF = {torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 3e-3}
"""Largest distance of the logits from the model's own that is rounding, as a share of their norm."""


def can_decode(model: Any) -> bool:
    """Whether the layers of a causal model are of a known kind, with nothing of anybody else's in them."""
    layers = getattr(model.get_decoder(), "layers", ())
    if not layers or any(type(layer) not in _KNOWN for layer in layers):
        return False
    parts = [part for layer in layers for part in (layer, layer.self_attn, layer.mlp)]
    norms = [norm for layer in layers for norm in (layer.input_layernorm, layer.post_attention_layernorm)]
    return all("forward" not in vars(part) for part in parts) and {norm.weight.dtype for norm in norms} == {model.dtype}


def agree(logits: torch.Tensor, own: torch.Tensor) -> bool:
    """Whether logits ``(R, V)`` are the model's own but for rounding."""
    own = own.float()
    distance = torch.linalg.vector_norm(logits.float() - own)
    return bool(distance <= MOST_OFF[logits.dtype] * torch.linalg.vector_norm(own))


class Decoder:
    """A model's step from one token per row to the logits of the next.

    It holds what the model's weights and adapter are when it is made, and is good for as long as they stay.

    Args:
        model: A causal model that `can_decode` accepts, in inference mode.
        capacity: Largest number of positions.
    """

    def __init__(self, model: Any, capacity: int) -> None:
        decoder = model.get_decoder()
        self._embed = model.get_input_embeddings()
        self._layers = [_Layer(layer) for layer in decoder.layers]
        self._norm = _normalisation(decoder.norm)
        self._head = _product(model.get_output_embeddings())
        positions = torch.arange(capacity, device=model.device)[None]
        cosines, sines = decoder.rotary_emb(self._embed.weight.new_empty(0, dtype=model.dtype), positions)
        half = sines.shape[-1] // 2
        self._cosines = cosines[0]
        self._sines = torch.cat((-sines[0, :, :half], sines[0, :, half:]), -1)  # a half swapped, the sign is here

    def logits(
        self, tokens: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor, cache: RowCache
    ) -> torch.Tensor:
        """Write tokens ``(R,)`` at positions ``(R,)`` into the cache; the logits ``(R, V)`` of what follows them.

        Args:
            mask: ``(R, 1, 1, columns)``, added to scores.
        """
        rotation = self._cosines[positions, None], self._sines[positions, None]
        states = self._embed(tokens[:, None])[:, 0]
        for layer, kept in zip(self._layers, cache.layers, strict=True):
            states = layer.output(states, rotation, mask, kept)
        return self._head(self._norm(states))


class _Layer:
    """One layer with all that is to be settled settled."""

    def __init__(self, layer: Any) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self._before, self._between = (
            _normalisation(layer.input_layernorm),
            _normalisation(layer.post_attention_layernorm),
        )
        self._query, self._key, self._value, self._out = (
            _product(module) for module in (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)
        )
        self._gate, self._up, self._down = (_product(module) for module in (mlp.gate_proj, mlp.up_proj, mlp.down_proj))
        self._activation: Product = mlp.act_fn.forward
        self._query_norm, self._key_norm = (
            _normalisation(norm) if norm is not None else None
            for norm in (getattr(attention, "q_norm", None), getattr(attention, "k_norm", None))
        )
        self._size, self._scale = attention.head_dim, attention.scaling

    def output(
        self, states: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor], mask: torch.Tensor, kept: Any
    ) -> torch.Tensor:
        """``(R, width)`` to the same."""
        inputs = self._before(states)
        rows, size = len(inputs), self._size
        query = self._query(inputs).view(rows, -1, size)
        key = self._key(inputs).view(rows, -1, size)
        if self._query_norm is not None and self._key_norm is not None:
            query, key = self._query_norm(query), self._key_norm(key)
        turned, num_queries = _rotated(torch.cat((query, key), 1), rotation), query.shape[1]
        keys, values = kept.add(turned[:, num_queries:], self._value(inputs).view(rows, -1, size))
        grouped = turned[:, :num_queries].view(rows, key.shape[1], -1, size)
        seen = scaled_dot_product_attention(grouped, keys, values, attn_mask=mask, scale=self._scale)
        states = states + self._out(seen.reshape(rows, -1))
        inputs = self._between(states)
        return states + self._down(self._activation(self._gate(inputs)) * self._up(inputs))


def _rotated(heads: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Heads ``(R, H, size)`` turned by their positions."""
    cosines, sines = rotation
    return torch.addcmul(heads * cosines, heads.roll(heads.shape[-1] // 2, -1), sines)


def _normalisation(norm: Any) -> Product:
    """A root-mean-square norm of transformers', in 32 bits inside."""
    weight: torch.Tensor = norm.weight
    epsilon, precision = norm.variance_epsilon, weight.dtype

    def normalised(states: torch.Tensor) -> torch.Tensor:
        wide = states.float()
        scaled = wide * (wide.square().mean(-1, keepdim=True) + epsilon).rsqrt_()
        normal: torch.Tensor = scaled.to(precision) * weight
        return normal

    return normalised


def _product(module: Any) -> Product:
    """A linear layer as a function of ``(R, inputs)``, its adapter included."""
    if type(module) is torch.nn.Linear and not module._forward_hooks and not module._forward_pre_hooks:
        by_onednn: Product | None = vars(module).get("forward")
        return by_onednn or partial(linear, weight=module.weight, bias=module.bias)
    if not isinstance(module, LoraLinear):
        own: Product = module
        return own
    if module.merged or module.disable_adapters:
        return _product(module.get_base_layer())
    return _with_adapter(module)


def _with_adapter(module: LoraLinear) -> Product:
    """A product with its adapter as two thin ones, where that is all that PEFT would do."""
    (name, *others) = module.active_adapters
    base = module.get_base_layer()
    first, second = module.lora_A[name].weight, module.lora_B[name].weight
    is_plain = not others and not module.use_dora[name] and not module.lora_bias[name]
    if not is_plain or type(base) is not torch.nn.Linear or not base.weight.dtype == first.dtype == second.dtype:
        own: Product = module
        return own
    wide, scale = _product(base), module.scaling[name]

    def product(states: torch.Tensor) -> torch.Tensor:
        return torch.addmm(wide(states), linear(states, first), second.t(), alpha=scale)

    return product
