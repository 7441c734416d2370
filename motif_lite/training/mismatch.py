"""Whether replies were drawn from the model that is trained.

Rollouts come from an engine with kernels, a cache and a precision of its own. If it computed something else than the
trainer does, updates would be for replies that the trained model would not have written, and nothing would fail. So
the trainer's own forward pass reads one opening of every step once more. In 16 bits rounding makes a difference of some
hundredths; a wrong model, adapter or position makes one of tenths and more.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from motif_lite.nouns import Reply
from motif_lite.observer import Observer

MOST_OFF = 0.1
"""Mean distance of log-probabilities that is rounding. Up to 0.063 was measured for single tokens of a 4-bit model."""

Logprobs = Callable[[torch.Tensor, int], torch.Tensor]
"""Of the last so many tokens of rows ``(B, T)``, at temperature 1 ``(B, so many)``."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A reply as it was drawn, and the tokens of its prompt."""

    prompt: Sequence[int]
    reply: Reply


class Mismatch:
    """What rollouts and trainer differ by, step by step.

    Args:
        logprobs: By the trainer's forward pass.
        observer: Told once, when they differ by more than rounding.
    """

    def __init__(self, logprobs: Logprobs, device: torch.device, observer: Observer) -> None:
        self._logprobs, self._device, self._observer = logprobs, device, observer
        self._has_told = False

    def of(self, drawn: Drawn | None, step: int) -> float | None:
        """Mean absolute difference of a reply's log-probabilities; None where what wrote it does not tell them."""
        if drawn is None or not drawn.reply.logprobs:
            return None
        reply = drawn.reply
        ids = torch.tensor([[*drawn.prompt, *reply.token_ids]], device=self._device)
        with torch.no_grad():
            [own] = self._logprobs(ids, len(reply.token_ids)).float().cpu()
        found = float((own - torch.tensor(reply.logprobs)).abs().mean())
        if not found <= MOST_OFF and not self._has_told:
            self._has_told = True
            self._observer.note(
                f"step {step}: log-probabilities of an opening differ by {found:.2g} on average from those that the "
                f"trainer computes for it: replies are not drawn from the model that is trained; please report it with "
                f"the model's name (metrics.jsonl has every step's sampling_mismatch)"
            )
        return found
