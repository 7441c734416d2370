"""Whether replies were drawn from the model that is trained.

Rollouts come from an engine with kernels, a cache and a precision of its own. If it computed something else than the
trainer does, updates would be for replies that the trained model would not have written, and nothing would fail. So
the trainer's own forward pass reads one opening of every step once more.

A fresh adapter changes nothing in the first step, so what differs there is rounding. Later steps may differ by ten
times as much. An engine that leaves the adapter out, or has an old one, is seen once the adapter is that far from it:
in 32 bits within some steps, in 16 bits late.

After a warm start, or with a trained adapter as ``model.name``, the adapter does something from the first step on. What
differs there is rounding only if the engine has the adapter, so the first comparison of a process is made without it,
too: an engine that is nearer to the model without it has left it out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from motif_lite.context import RunContext
from motif_lite.nouns import Reply
from motif_lite.policies.out_of_memory import MEMORY_ERRORS, free_memory_of, is_out_of_memory

MOST_OFF = 0.1
"""Mean distance of log-probabilities that is no rounding in any precision."""

_TIMES_AS_MUCH = 10
"""As in the first step; openings differ, too."""

_LEAST_OFF = 1e-3
"""What is rounding in any case, 32 bits included."""

_OTHER_PRECISION = "rollout.weights, rollout.server and training.autocast"
"""Keys that a resumed run may change, with which rounding is another."""

_PLEASE = "please report it with the model's name (metrics.jsonl has every step's sampling_mismatch)"

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
        model: The PEFT model behind it.
        context: Whose observer is told, once, when they differ by more than rounding; of a resumed run, the first
            step's figure is that of metrics.jsonl.
    """

    def __init__(self, logprobs: Logprobs, model: Any, context: RunContext) -> None:
        self._logprobs, self._model, self._observer = logprobs, model, context.observer
        self._first = next((line.sampling_mismatch for line in context.run.metrics()), None)
        self._is_resumed = self._first is not None
        self._has_compared = self._has_told = False

    def of(self, drawn: Drawn | None, step: int) -> float | None:
        """Mean absolute difference of a reply's log-probabilities.

        None where what wrote it does not tell them, and where there is no memory to compute them again.
        """
        if drawn is None or not drawn.reply.logprobs:
            return None
        try:
            found = self._difference(drawn)
            if not self._has_compared:
                self._require_adapter(drawn, found, step)
        except MEMORY_ERRORS as error:
            if not is_out_of_memory(error):
                raise
            free_memory_of(error)
            self._tell(f"step {step}: no memory to compare an opening's log-probabilities with the trainer's")
            return None
        self._has_compared = True
        self._first = found if self._first is None else self._first
        if not found <= min(MOST_OFF, max(_LEAST_OFF, _TIMES_AS_MUCH * self._first)):
            changed = f"; unless one of {_OTHER_PRECISION} was changed since, " if self._is_resumed else ": "
            self._tell(
                f"step {step}: log-probabilities of an opening differ by {found:.2g} on average from those that the "
                f"trainer computes for it, by {self._first:.2g} in the first step{changed}replies are not drawn from "
                f"the model that is trained; {_PLEASE}"
            )
        return found

    def _require_adapter(self, drawn: Drawn, found: float, step: int) -> None:
        """Tell of replies that are nearer to the model without its adapter."""
        if found <= _LEAST_OFF:
            return
        with self._model.disable_adapter():
            without = self._difference(drawn)
        if without < found / 2:
            self._tell(
                f"step {step}: log-probabilities of an opening differ by {found:.2g} on average from those that the "
                f"trainer computes for it, and by {without:.2g} without the adapter: replies are drawn without it, so "
                f"not from the model that is trained; {_PLEASE}"
            )

    def _difference(self, drawn: Drawn) -> float:
        reply = drawn.reply
        ids = torch.tensor([[*drawn.prompt, *reply.token_ids]], device=self._model.device)
        with torch.no_grad():
            [own] = self._logprobs(ids, len(reply.token_ids)).float().cpu()
        return float((own - torch.tensor(reply.logprobs)).abs().mean())

    def _tell(self, what: str) -> None:
        if not self._has_told:
            self._has_told = True
            self._observer.note(what)
