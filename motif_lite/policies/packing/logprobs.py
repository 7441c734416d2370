"""Log-probabilities of chosen tokens, without all their logits at once.

A token's log-probability depends on one hidden state, so its gradient is one vector of that state's size. It is
computed in the forward pass while the logits are there; the backward pass only scales it. So the output layer
multiplies no more often than where all logits are kept, and memory holds a few of them at a time.
"""

from typing import Any

import torch

from motif_lite.planning.limits import LOGIT_CHUNK_BYTES


def token_logprobs(
    head: Any, states: torch.Tensor, targets: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities and entropies ``(N,)`` in 32 bits; entropies have no gradient.

    Args:
        head: The output layer, with frozen weights, at most scaled by a constant.
        states: What it is given ``(N, hidden)``.
        targets: The token that each state was to predict ``(N,)``.
        temperature: That logits are divided by.
    """
    found: tuple[torch.Tensor, torch.Tensor] = _Chosen.apply(states, head, targets, temperature)  # type: ignore[no-untyped-call]
    return found


class _Chosen(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, states: torch.Tensor, head: Any, targets: torch.Tensor, temperature: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        wants_gradient = ctx.needs_input_grad[0]
        size = max(1, LOGIT_CHUNK_BYTES // (4 * head.weight.shape[0]))
        chunks = zip(torch.split(states, size), torch.split(targets, size), strict=True)
        parts = [_chunk(head, part, chosen, temperature, wants_gradient) for part, chosen in chunks]
        logprobs, entropies, slopes = (torch.cat(column) for column in zip(*parts, strict=True))
        ctx.save_for_backward(slopes)
        ctx.mark_non_differentiable(entropies)
        return logprobs, entropies

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (slopes,) = ctx.saved_tensors
        return (gradients[0][:, None] * slopes).to(slopes.dtype), None, None, None


def _chunk(
    head: Any, states: torch.Tensor, targets: torch.Tensor, temperature: float, wants_gradient: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log-probabilities ``(n,)``, entropies ``(n,)`` and the former's gradients ``(n, hidden)``."""
    with torch.set_grad_enabled(wants_gradient):
        given = states.detach().requires_grad_(wants_gradient)
        computed = head(given)
    logits = computed.detach().float() / temperature
    normalizer = logits.logsumexp(-1)
    logprobs = logits.gather(-1, targets[:, None])[:, 0] - normalizer
    probabilities = (logits - normalizer[:, None]).exp_()
    entropies = normalizer - logits.mul_(probabilities).sum(-1)
    del logits
    if not wants_gradient:
        return logprobs, entropies, states[:0]
    slopes = probabilities.neg_()
    slopes[torch.arange(len(targets), device=targets.device), targets] += 1
    (found,) = torch.autograd.grad(computed, given, slopes.div_(temperature).to(computed.dtype))
    return logprobs, entropies, found
