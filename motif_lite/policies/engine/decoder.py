"""Tokens through a model's layers with little work for the host: one of every row, or the prompts of some.

A token step of a small batch is short: for a model of 0.4 million parameters, and on any GPU, most of it is Python
between the products. transformers' modules ask for kinds of cache, of attention and of masks in every layer, PEFT looks
for adapters in every product, and Unsloth writes weights of 4 bits out at every step; here all that is settled once,
before the first token. The weights, the cache and the adapter are the model's own.

Only layers of the kind that Llama began are known: norm, attention with rotary positions, norm, gated products. The
engine compares what each makes of a prompt with what the model's own makes of it before it relies on them (`checking`).
"""

from typing import Any

import torch
from torch.nn.functional import rms_norm, scaled_dot_product_attention
from transformers.models.llama.modeling_llama import LlamaDecoderLayer
from transformers.models.mistral.modeling_mistral import MistralDecoderLayer
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer
from transformers.models.qwen3.modeling_qwen3 import Qwen3DecoderLayer

from motif_lite.policies.engine.kv_cache import RowCache
from motif_lite.policies.engine.products import Product, Room, joined, product, products

_KNOWN = (LlamaDecoderLayer, MistralDecoderLayer, Qwen2DecoderLayer, Qwen3DecoderLayer)

Rotation = tuple[torch.Tensor, torch.Tensor]
"""Cosines and sines of positions, each ``(..., 1, size)``."""


def can_decode(model: Any) -> bool:
    """Whether the layers of a causal model are of a known kind, and compute what those of transformers do."""
    layers = getattr(model.get_decoder(), "layers", ())
    if not layers or any(type(layer) not in _KNOWN for layer in layers):
        return False
    parts = [part for layer in layers for part in (layer, layer.self_attn, layer.mlp)]
    norms = [norm for layer in layers for norm in (layer.input_layernorm, layer.post_attention_layernorm)]
    # Unsloth's norms give what they are given, whatever their weights are in.
    in_one_precision = {norm.weight.dtype for norm in norms} == {model.dtype}
    return all(map(_is_known, parts)) and (in_one_precision or _is_unsloths(type(layers[0].self_attn).forward))


def _is_unsloths(forward: Any) -> bool:
    return str(getattr(forward, "__module__", "")).startswith("unsloth.")


def _is_known(part: Any) -> bool:
    """Whether a part computes what its class does; Unsloth's fused products are another way to the same."""
    own = vars(part).get("forward")
    return own is None or _is_unsloths(own)


class Decoder:
    """A model's step from one token per row to the logits of the next, and its reading of prompts.

    It holds what the model's weights and adapter are when it is made, and is good for as long as they stay.

    Args:
        model: A causal model that `can_decode` accepts, in inference mode.
        capacity: Largest number of positions.
        room: Where weights of 4 bits are written out; None leaves them to the model's modules.
    """

    def __init__(self, model: Any, capacity: int, room: Room | None = None) -> None:
        decoder = model.get_decoder()
        self._embed = model.get_input_embeddings()
        self.layers = [Layer(layer, model.dtype, room) for layer in decoder.layers]
        self._norm = _normalisation(decoder.norm, model.dtype)
        self._head = product(model.get_output_embeddings())
        cosines, sines = _rotations(decoder.rotary_emb, self._embed.weight.new_empty(0, dtype=model.dtype), capacity)
        half = sines.shape[-1] // 2
        self._cosines = cosines
        self._sines = torch.cat((-sines[:, :half], sines[:, half:]), -1)  # a half swapped, the sign is here

    def logits(
        self, tokens: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor, cache: RowCache
    ) -> torch.Tensor:
        """Write tokens ``(R,)`` at positions ``(R,)`` into the cache; the logits ``(R, V)`` of what follows them.

        Args:
            mask: ``(R, 1, 1, columns)``, added to scores.
        """
        return self.head(self._output(tokens[:, None], positions[:, None], mask, cache))

    def read(self, ids: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor, cache: RowCache) -> None:
        """Write tokens ``(R, T)`` at positions ``(R, T)`` into the cache.

        Args:
            mask: ``(R, 1, T, columns)``, added to scores.
        """
        self._output(ids, positions, mask, cache)

    def embedded(self, ids: torch.Tensor) -> torch.Tensor:
        """The first layer's states of tokens ``(R, T)``: ``(R * T, width)``."""
        states: torch.Tensor = self._embed(ids).flatten(0, 1)
        return states

    def head(self, states: torch.Tensor) -> torch.Tensor:
        """The last layer's states ``(R, width)`` to logits ``(R, V)``."""
        return self._head(self._norm(states))

    def rotation(self, positions: torch.Tensor) -> Rotation:
        """Of positions ``(R,)``."""
        return self._cosines[positions, None], self._sines[positions, None]

    def _output(self, ids: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor, cache: RowCache) -> torch.Tensor:
        """The last layer's states of all tokens ``(R * T, width)``."""
        rotation = self.rotation(positions.flatten())
        states = self.embedded(ids)
        for layer, kept in zip(self.layers, cache.layers, strict=True):
            states = states + layer.attended(states, rotation, mask, kept)
            states = states + layer.passed(states)
        return states


class Layer:
    """One layer with all that is to be settled settled."""

    def __init__(self, layer: Any, dtype: torch.dtype, room: Room | None) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self._before, self._between = (
            _normalisation(layer.input_layernorm, dtype),
            _normalisation(layer.post_attention_layernorm, dtype),
        )
        self._query_key_value = joined((attention.q_proj, attention.k_proj, attention.v_proj), room)
        self._gate_up = products((mlp.gate_proj, mlp.up_proj), room)
        self._out, self._down = (products((module,), room) for module in (attention.o_proj, mlp.down_proj))
        self._activation: Product = mlp.act_fn.forward
        self._query_norm, self._key_norm = (
            _normalisation(norm, dtype) if norm is not None else None
            for norm in (getattr(attention, "q_norm", None), getattr(attention, "k_norm", None))
        )
        self._size, self._scale = attention.head_dim, attention.scaling
        self._num_queries, self._num_keys = (
            layer.out_features // self._size for layer in (attention.q_proj, attention.k_proj)
        )

    def attended(self, states: torch.Tensor, rotation: Rotation, mask: torch.Tensor, kept: Any) -> torch.Tensor:
        """What attention adds to states ``(R * T, width)``, with a mask ``(R, 1, T, columns)``."""
        heads = self._query_key_value(self._before(states)).view(len(states), -1, self._size)
        query, key, _ = torch.split(heads, [self._num_queries, self._num_keys, self._num_keys], 1)
        if self._query_norm is not None and self._key_norm is not None:
            query.copy_(self._query_norm(query))
            key.copy_(self._key_norm(key))
        _rotate(heads[:, : self._num_queries + self._num_keys], rotation)
        keys, values = kept.add(heads[:, self._num_queries :])
        [added] = self._out(self._seen(query, keys, values, mask))
        return added

    def passed(self, states: torch.Tensor) -> torch.Tensor:
        """What the gated products add to states ``(R * T, width)``."""
        gate, up = self._gate_up(self._between(states))
        [added] = self._down(self._activation(gate) * up)
        return added

    def _seen(self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Queries ``(R * T, heads, size)`` over keys ``(R, key heads, columns, size)``: ``(R * T, heads * size)``."""
        (rows, key_heads, columns, size), length = keys.shape, mask.shape[2]
        if length == 1:  # the queries of a key head as so many queries of one head: no key is repeated
            grouped = query.view(rows, key_heads, -1, size)
            seen = scaled_dot_product_attention(grouped, keys, values, attn_mask=mask, scale=self._scale)
            return seen.reshape(rows, -1)
        heads = query.shape[1]
        keys, values = (
            each[:, :, None].expand(-1, -1, heads // key_heads, -1, -1).reshape(rows, heads, columns, size)
            for each in (keys, values)
        )
        states = query.view(rows, length, heads, size).transpose(1, 2)
        seen = scaled_dot_product_attention(states, keys, values, attn_mask=mask, scale=self._scale)
        return seen.transpose(1, 2).reshape(rows * length, -1)


def _rotations(rotary: Any, like: torch.Tensor, capacity: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines ``(capacity, size)``, by transformers' rotary embedding or by Unsloth's."""
    if hasattr(rotary, "get_cached"):
        rotary.extend_rope_embedding(like, seq_len=capacity)
        cosines, sines = rotary.get_cached(capacity, like.device.index or 0)
        return cosines[:capacity].to(like), sines[:capacity].to(like)
    cosines, sines = rotary(like, torch.arange(capacity, device=like.device)[None])
    return cosines[0], sines[0]


def _rotate(heads: torch.Tensor, rotation: Rotation) -> None:
    """Turn heads ``(R, H, size)`` by their positions."""
    cosines, sines = rotation
    torch.addcmul(heads * cosines, heads.roll(heads.shape[-1] // 2, -1), sines, out=heads)


def _normalisation(norm: Any, dtype: torch.dtype) -> Product:
    """A root-mean-square norm of transformers'."""
    weight: torch.Tensor = norm.weight.to(dtype)
    epsilon: float = norm.variance_epsilon
    return lambda states: rms_norm(states, weight.shape, weight, epsilon)
