"""Whether our decoder computes what the model does, part by part, on one real prompt.

Logits cannot tell. In 16 bits rounding grows from layer to layer, up to 4 % of the logits' norm for a random model of
Qwen2.5-3B's shape, which is as much as wrong positions change those of a trained one (docs/measurements.md). So each
part of each layer is given the states that the model's own part had, and rounding has no time to grow.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from motif_lite.policies.engine.decoder import Decoder
from motif_lite.policies.engine.kv_cache import RowCache

MOST_OFF = {torch.float32: 1e-4, torch.bfloat16: 0.06, torch.float16: 7.5e-3}
"""Largest distance from what the model's own part gives that is rounding, as a share of its norm."""

MOST_TOKENS = 64
"""Of the prompt: more would find no other fault."""


@dataclass(slots=True)
class _Layer:
    """What one of the model's layers was given and what its parts gave, each ``(T, width)``."""

    states: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    attended: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    passed: torch.Tensor = field(default_factory=lambda: torch.empty(0))


def fault(model: Any, decoder: Decoder, ids: list[int]) -> str | None:
    """The first part of a decoder that is not the model's, in words; None where all are.

    Args:
        model: The causal model, in inference mode.
        ids: A prompt's tokens; a single one is taken twice.
    """
    device = model.device
    tokens = torch.tensor([(ids if len(ids) > 1 else ids * 2)[:MOST_TOKENS]], device=device)
    with _watched(model) as layers:
        logits = model(input_ids=tokens, use_cache=False).logits[0]
    length = tokens.shape[1]
    cache = RowCache(len(layers), 1, length)
    first, row = torch.arange(length - 1, device=device), torch.zeros(1, dtype=torch.long, device=device)
    hidden = torch.ones(length, length, dtype=torch.bool, device=device).triu(1)
    mask = torch.zeros(length, length, dtype=model.dtype, device=device).masked_fill_(hidden, -torch.inf)
    states = torch.empty(0)
    for number, (own, ours, kept) in enumerate(zip(layers, decoder.layers, cache.layers, strict=True)):
        kept.rows, kept.columns, kept.slots = row, length - 1, first  # all but the last token are read together
        read = ours.attended(own.states[:-1], decoder.rotation(first), mask[None, None, :-1, :-1], kept)
        kept.rows, kept.columns, kept.slots = slice(1), length, first[-1:] + 1  # the last one as a step
        step = ours.attended(own.states[-1:], decoder.rotation(first[-1:] + 1), mask[None, None, -1:], kept)
        if _is_off(torch.cat((read, step)), own.attended):
            return f"attention of layer {number}"
        states = own.states + own.attended
        if _is_off(ours.passed(states), own.passed):
            return f"the products of layer {number}"
        states = states + own.passed
    return "the output layer" if _is_off(decoder.head(states[-1:]), logits[-1:]) else None


def _is_off(ours: torch.Tensor, own: torch.Tensor) -> bool:
    """Whether what we computed ``(T, width)`` differs by more than rounding; not a number differs, too."""
    own = own.float()
    distance = torch.linalg.vector_norm(ours.float() - own, dim=-1)
    shares = distance / torch.linalg.vector_norm(own, dim=-1).clamp_(min=torch.finfo(torch.float32).tiny)
    return not bool(shares.quantile(0.9) <= MOST_OFF[ours.dtype])


@contextmanager
def _watched(model: Any) -> Iterator[list[_Layer]]:
    """Remember what passes through a model's layers meanwhile."""
    found, handles = [], []
    for layer in model.get_decoder().layers:
        seen = _Layer()
        found.append(seen)
        handles += [
            layer.register_forward_pre_hook(_take(seen, "states"), with_kwargs=True),
            layer.self_attn.register_forward_hook(_keep(seen, "attended")),
            layer.mlp.register_forward_hook(_keep(seen, "passed")),
        ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _take(seen: _Layer, name: str) -> Any:
    def take(module: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        states = arguments[0] if arguments else keywords["hidden_states"]
        setattr(seen, name, states.flatten(0, -2).clone())

    return take


def _keep(seen: _Layer, name: str) -> Any:
    def keep(module: Any, arguments: Any, output: Any) -> None:
        states = output[0] if isinstance(output, tuple) else output
        setattr(seen, name, states.flatten(0, -2).clone())

    return keep
