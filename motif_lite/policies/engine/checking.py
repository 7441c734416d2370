"""Whether our decoder computes what the model does, part by part, on one real prompt.

Logits cannot tell. In 16 bits rounding grows from layer to layer, up to 4 % of the logits' norm for a random model of
Qwen2.5-3B's shape, which is as much as wrong positions change those of a trained one (docs/measurements.md). So each
part of each layer is given the states that the model's own part had, and rounding has no time to grow.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from motif_lite.planning.limits import CHECKED_TOKENS
from motif_lite.policies.engine.decoder import Decoder
from motif_lite.policies.engine.kv_cache import RowCache

MOST_OFF = {torch.float32: 1e-4, torch.bfloat16: 0.06, torch.float16: 7.5e-3}
"""Largest distance from what the model's own part gives that is rounding, as a share of its norm."""

_LOGITS_OFF = {torch.float32: 1e-3, torch.bfloat16: 0.3, torch.float16: 0.1}
"""The same for logits, which rounding has grown in: what is left to find is that the parts are put together wrongly."""


@dataclass(slots=True)
class _Layer:
    """What one of the model's layers was given and what its parts gave, each ``(T, width)``."""

    states: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    attended: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    passed: torch.Tensor = field(default_factory=lambda: torch.empty(0))


@dataclass(frozen=True, slots=True)
class Difference:
    """Between a part of a decoder and the model's own.

    Attributes:
        part: Its name.
        share: The distance as a share of the norm of what the model's own gives; not a number where either is not.
        most: What of it is rounding.
    """

    part: str
    share: float
    most: float


def fault(model: Any, decoder: Decoder, ids: list[int], precision: torch.dtype) -> str | None:
    """The first part of a decoder that is not the model's, in words; None where all are. Arguments as `differences`."""
    found = differences(model, decoder, ids, precision)
    return next((each.part for each in found if not each.share <= each.most), None)


def differences(model: Any, decoder: Decoder, ids: list[int], precision: torch.dtype) -> Iterator[Difference]:
    """How far each part of a decoder is from the model's own, in the order in which a token passes them.

    Args:
        model: The causal model, in inference mode.
        ids: A prompt's tokens, of which the first `CHECKED_TOKENS` are taken; a single one is taken twice. Of positions
            beyond them, no more is asked than that they are the rotary embedding's own.
        precision: Of the products, which may be lower than that of the states between them.
    """
    most, device = MOST_OFF[precision], model.device
    tokens = torch.tensor([(ids if len(ids) > 1 else ids * 2)[:CHECKED_TOKENS]], device=device)
    with _watched(model) as layers:
        own = model(input_ids=tokens, use_cache=False).logits[0, -1:]
    is_same = torch.equal(decoder.embedded(tokens), layers[0].states)
    yield Difference("the embedding", 0.0 if is_same else math.inf, 0.0)
    length = tokens.shape[1]
    positions = torch.arange(length, device=device)
    hidden = positions > positions[:, None]
    mask = torch.zeros(length, length, dtype=model.dtype, device=device).masked_fill_(hidden, -torch.inf)[None, None]
    cache, rows = RowCache(len(layers), 1, length), slice(1)
    for number, (layer, ours, kept) in enumerate(zip(layers, decoder.layers, cache.layers, strict=True)):
        for some in (slice(0, length - 1), slice(length - 1, length)):  # prompts are read, the last token is a step
            kept.rows, kept.columns, kept.slots = rows, some.stop, positions[some]
            rotation = decoder.rotation(positions[some])
            found = ours.attended(layer.states[some], rotation, mask[:, :, some, : some.stop], kept)
            yield Difference(f"attention of layer {number}", _share(found, layer.attended[some]), most)
        passed = ours.passed(layer.states + layer.attended)
        yield Difference(f"the products of layer {number}", _share(passed, layer.passed), most)
    last = layers[-1]
    headed = decoder.head((last.states + last.attended + last.passed)[-1:])
    yield Difference("the output layer", _share(headed, own), most)
    cache.attend(torch.zeros(1, dtype=torch.long, device=device), length - 1, positions[:-1])
    decoder.read(tokens[:, :-1], positions[None, :-1], mask[:, :, :-1, :-1], cache)
    cache.attend(rows, length, positions[-1:])
    logits = decoder.logits(tokens[:, -1], positions[-1:], mask[:, :, -1:], cache)
    yield Difference("the logits", _share(logits, own), _LOGITS_OFF[precision])


def _share(ours: torch.Tensor, own: torch.Tensor) -> float:
    """What nine of ten rows that we computed ``(T, width)`` differ by at most, as a share of their norm.

    A single row may be an unlucky one: half of what it differs by counts.
    """
    own = own.float()
    distance = torch.linalg.vector_norm(ours.float() - own, dim=-1)
    shares = distance / torch.linalg.vector_norm(own, dim=-1).clamp_(min=torch.finfo(torch.float32).tiny)
    return float(shares.quantile(0.9)) / (1 if len(ours) > 1 else 2)


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
