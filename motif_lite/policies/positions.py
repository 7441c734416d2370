"""Whether padding on the left changes what a model computes, and whether a context is as long as it was trained for."""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from motif_lite.errors import ModelError
from motif_lite.planning.limits import PROVEN, why_padding_counts

_log = logging.getLogger(__name__)

_TOKENS, _PADDING = 6, 5

_OFFSET = 8
"""Rows that a table of positions may have in front."""

_MOST_OFF = 0.1
"""Of the logits' spread; roundings of 16-bit and 4-bit models stay below 0.02."""


@torch.no_grad()
def require_positions(model: Any, model_name: str) -> None:
    """Refuse a model whose log-probabilities in training would be those of other positions.

    Types whose padded rows were compared before are not tried again.

    Args:
        model: In whatever mode; it is left as it was.

    Raises:
        ModelError: Left padding changes its logits.
    """
    if model.config.get_text_config(decoder=True).model_type in PROVEN:
        return
    was_training = model.training
    model.eval()
    try:
        off = _off(model)
    finally:
        model.train(was_training)
    if not off < _MOST_OFF:
        raise ModelError(f"{model_name}: {why_padding_counts(model.config.model_type)}")


def require_room(model: Any, model_name: str, context_tokens: int) -> None:
    """Say that a context is longer than a model knows positions; refuse it where it has learned each of them.

    Raises:
        ModelError: There is no position for the last tokens.
    """
    config = model.config.get_text_config(decoder=True)
    known = getattr(config, "max_position_embeddings", None)
    if not isinstance(known, int) or context_tokens <= (most := _longest(config, known)):
        return
    told = (
        f"{model_name}: knows {most:,} positions (max_position_embeddings in its config.json), and "
        f"model.max_seq_length is {context_tokens:,}"
    )
    if _learns_positions(model, known):
        raise ModelError(f"{told}; --set model.max_seq_length={most}, or take another model")
    _log.warning("%s: what it writes beyond them may make no sense; --set model.max_seq_length=%d", told, most)


def _longest(config: Any, known: int) -> int:
    """Positions, with those that scaling of its rotary embedding adds."""
    longest = known
    for scaling in _scalings(getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None)):
        factor, original = scaling.get("factor"), scaling.get("original_max_position_embeddings") or known
        if isinstance(factor, int | float) and isinstance(original, int):
            longest = max(longest, int(factor * original))
    return longest


def _scalings(found: Any) -> Iterator[Mapping[str, Any]]:
    """The settings of a rotary embedding, or of several, by the kind of layer."""
    if isinstance(found, Mapping):
        yield found
        for each in found.values():
            yield from _scalings(each)


def _learns_positions(model: Any, known: int) -> bool:
    """Whether a table of the decoder has a row for each position, or a few more as in OPT."""
    tables = (module for module in model.get_decoder().modules() if isinstance(module, torch.nn.Embedding))
    words = model.get_input_embeddings()
    return any(known <= table.num_embeddings <= known + _OFFSET for table in tables if table is not words)


def _off(model: Any) -> float:
    """How far a padded row's last logits are from the row's own, as a part of their spread."""
    num_rows = model.get_input_embeddings().num_embeddings
    ids = torch.arange(1, _TOKENS + 1, device=model.device)[None] * max(1, num_rows // (2 * _TOKENS)) % num_rows
    padded = torch.cat((ids.new_zeros(1, _PADDING), ids), 1)
    mask = torch.cat((ids.new_zeros(1, _PADDING), torch.ones_like(ids)), 1)
    plain = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0, -1].float()
    shifted = model(input_ids=padded, attention_mask=mask, use_cache=False).logits[0, -1].float()
    return float((shifted - plain).norm() / (plain - plain.mean()).norm())
