"""Gradients that do not depend on which thread was first, and settings that do not depend on the process."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """On a CPU, have PyTorch add up in one order.

    Replies that continue the same tokens take the same hidden state, and the backward pass of indexing adds their
    gradients from several threads at once, in the order in which they come: the last bits of a step with two threads
    were now and then others. A GPU sorts them first; but other operations have no fixed order there, so nothing is
    promised, and nothing is slowed down.
    """
    if device.type != "cpu":
        yield
        return
    before = torch.get_deterministic_debug_mode()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)


def settings_in_order(model: Any) -> None:
    """Have PEFT write the same settings each time: it keeps names in a set, in the order of this process."""
    for config in model.peft_config.values():
        if isinstance(config.target_modules, set):
            config.target_modules = sorted(config.target_modules)
