"""What a policy's own `generate` computes on the way: the tokens, and the logits that they were drawn from.

A forward pass beside it would not do. Unsloth has one code path for training, another for reading a prompt and a third
for the tokens after it, and only the last two write futures. So `generate` itself is listened to, left padding by hand,
switching of modes and all, and where a continuation is to be compared, `generate` is made to write just that.

Imports torch and transformers, so it is imported after the backend.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList

from motif_lite.policies.local import LocalPolicy
from motif_lite.types import Sampling


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
    policy: LocalPolicy,
    prompts: Sequence[str],
    num_tokens: int,
    *,
    forced: torch.Tensor | None = None,
    padding_seen: bool = False,
) -> Written:
    """Let the policy write greedily, and never end a reply.

    Args:
        policy: Its width limit must have room for all prompts.
        prompts: Rendered; one call with all of them.
        num_tokens: Of every reply.
        forced: Tokens ``(B, T)`` to write instead of the likeliest.
        padding_seen: Attend to the padding as if it were text: a mistake, to know what a mistake looks like.
    """
    assert len(prompts) <= policy.max_width, "the prompts must go through in one call"
    with _listening(policy, forced, padding_seen) as heard:
        policy.generate(prompts, Sampling(max_tokens=num_tokens, temperature=0.0), seeds=[0] * len(prompts))
    (written,) = heard
    return written


@contextmanager
def _listening(policy: LocalPolicy, forced: torch.Tensor | None, padding_seen: bool) -> Iterator[list[Written]]:
    """Put an ear between the policy and its model's `generate`."""
    generate = policy.model.generate
    heard: list[Written] = []

    def listen(**inputs: Any) -> torch.Tensor:
        config = inputs["generation_config"]
        config.return_dict_in_generate = config.output_logits = True
        config.suppress_tokens = config.eos_token_id
        if padding_seen:
            inputs["attention_mask"] = torch.ones_like(inputs["attention_mask"])
        if forced is not None:
            inputs["logits_processor"] = LogitsProcessorList([_Dictation(forced, inputs["input_ids"].shape[1])])
        output = generate(**inputs)
        sequences: torch.Tensor = output.sequences
        new = sequences[:, inputs["input_ids"].shape[1] :]
        heard.append(Written(new.clone(), torch.stack(output.logits, dim=1).float()))
        return sequences

    policy.model.generate = listen
    try:
        yield heard
    finally:
        policy.model.generate = generate


class _Dictation(LogitsProcessor):
    """Leaves one token to choose from at every position."""

    def __init__(self, ids: torch.Tensor, prompt_tokens: int) -> None:
        self.ids = ids
        self.prompt_tokens = prompt_tokens

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        position = input_ids.shape[1] - self.prompt_tokens
        only = torch.full_like(scores, -torch.inf)
        return only.scatter(1, self.ids[:, position : position + 1].to(scores.device), 0.0)
