"""What a policy computes while it writes: the tokens, and the logits that they were drawn from.

A forward pass beside it would not do. Unsloth has one code path for training, another for reading a prompt and a third
for the tokens after it, and only the last two write futures; our engine has a cache and an attention of its own. So the
policy itself is listened to, switching of modes and all, at the one place that every way of generating comes through:
`sampler.draw`. Where a continuation is to be compared, that is what it is told to have drawn.

Imports torch and transformers, so it is imported after the backend.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from motif_lite.nouns import Sampling
from motif_lite.policies.engine import sampler
from motif_lite.policies.local import LocalPolicy


@dataclass(frozen=True, slots=True)
class Written:
    """What one generate call wrote.

    Attributes:
        ids: Tokens ``(B, T)``.
        logits: ``(B, T, V)`` before any sampling setting, as 32-bit numbers.
    """

    ids: torch.Tensor
    logits: torch.Tensor

    def log_probabilities(self, ids: torch.Tensor) -> torch.Tensor:
        """Of tokens ``(B, T)``, each where it stands."""
        return self.logits.log_softmax(-1).gather(-1, ids[..., None])[..., 0]


def write(
    policy: LocalPolicy, prompts: Sequence[str], num_tokens: int, *, forced: torch.Tensor | None = None
) -> Written:
    """Let the policy write greedily, and never end a reply.

    Args:
        policy: Its width limit must have room for all prompts.
        prompts: Rendered, no two alike, for the engine moves those together; one call with all of them.
        num_tokens: Of every reply.
        forced: Tokens ``(B, T)`` to write instead of the likeliest; none that ends a turn.
    """
    assert len(set(prompts)) == len(prompts) <= policy.max_width, "each prompt must have its row, in one call"
    with _listening(policy.stop_ids, forced) as heard:
        policy.generate(prompts, Sampling(max_tokens=num_tokens, temperature=0.0), seeds=[0] * len(prompts))
    ids, logits = zip(*heard[:num_tokens], strict=True)  # the engine may look up some steps after the last token
    return Written(torch.stack(ids, dim=1), torch.stack(logits, dim=1))


@contextmanager
def _listening(stop_ids: list[int], forced: torch.Tensor | None) -> Iterator[list[tuple[torch.Tensor, torch.Tensor]]]:
    """Put an ear between a policy and `sampler.draw`: per step tokens ``(B,)`` and logits ``(B, V)``."""
    draw = sampler.draw
    heard: list[tuple[torch.Tensor, torch.Tensor]] = []

    def listen(logits: torch.Tensor, sampling: Sampling, at: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = logits.float()
        endless = logits.index_fill(-1, torch.tensor(stop_ids, device=logits.device), -torch.inf)
        tokens, logprobs = draw(endless, sampling, at)
        if forced is not None:
            tokens = forced[:, min(len(heard), forced.shape[1] - 1)].to(logits.device)
        heard.append((tokens, logits.clone()))
        return tokens, logprobs

    sampler.draw = listen
    try:
        yield heard
    finally:
        sampler.draw = draw
