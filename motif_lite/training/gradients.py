"""The gradient of an update, looked at before the optimiser takes it."""

from typing import Any

import torch


def gradient_norm(model: Any) -> torch.Tensor:
    """Of all weights that have a gradient; not finite if one of them is not."""
    return torch.nn.utils.get_total_norm([weight.grad for weight in model.parameters() if weight.grad is not None])
