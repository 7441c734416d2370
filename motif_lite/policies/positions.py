"""Whether padding on the left changes what a model computes: trainers pad prompts there, and pass no positions."""

from typing import Any

import torch

from motif_lite.errors import ModelError
from motif_lite.planning.limits import PROVEN, why_padding_counts

_TOKENS, _PADDING = 6, 5

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


def _off(model: Any) -> float:
    """How far a padded row's last logits are from the row's own, as a part of their spread."""
    num_rows = model.get_input_embeddings().num_embeddings
    ids = torch.arange(1, _TOKENS + 1, device=model.device)[None] * max(1, num_rows // (2 * _TOKENS)) % num_rows
    padded = torch.cat((ids.new_zeros(1, _PADDING), ids), 1)
    mask = torch.cat((ids.new_zeros(1, _PADDING), torch.ones_like(ids)), 1)
    plain = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0, -1].float()
    shifted = model(input_ids=padded, attention_mask=mask, use_cache=False).logits[0, -1].float()
    return float((shifted - plain).norm() / (plain - plain.mean()).norm())
