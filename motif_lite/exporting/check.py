"""Whether an exported model is adapter and base: by the log-probabilities of replies that the run itself sampled."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from motif_lite.errors import ModelError, RunError
from motif_lite.exporting.records import Bound, Difference
from motif_lite.nouns import OnProgress
from motif_lite.policies.protocol import TrainablePolicy
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.rollout_lines import RolloutLine, RolloutTurn

NUM_REPLIES, MOST_TOKENS = 8, 128
"""So many of the last step's replies, and of each so many tokens from its beginning."""

_MOST_LOST = 0.25
"""So much of the adapter's effect may be lacking, where that can be told."""


@dataclass(frozen=True, slots=True)
class OwnReply:
    """A reply of the run with its prompt, as token ids."""

    prompt: list[int]
    reply: list[int]


def own_replies(run: RunDirectory, policy: TrainablePolicy) -> list[OwnReply]:
    """Replies of the last training step: first rounds and last ones in turn.

    Raises:
        RunError: The run has kept none.
    """
    steps = run.metrics()
    turns = [turn for line in run.rollouts_of(steps[-1].step) for turn in _turns(line)] if steps else []
    found = [OwnReply(policy.encode(turn.prompt), policy.encode(turn.reply)[:MOST_TOKENS]) for turn in turns]
    found = [each for each in found if each.prompt and each.reply][:NUM_REPLIES]
    if not found:
        raise RunError(f"{run.root / 'rollouts.jsonl'}: has no reply of the last step to check the export with")
    return found


def _turns(line: RolloutLine) -> Iterator[RolloutTurn]:
    yield line.opening
    if line.futures and line.futures[0].rounds:
        yield line.futures[0].rounds[-1]


def logprobs(model: Any, replies: Sequence[OwnReply], on_progress: OnProgress) -> torch.Tensor:
    """Of all tokens of the replies ``(N,)``, at temperature 1, on the CPU.

    Args:
        model: A causal model of transformers, with an adapter or without.
    """
    found = []
    with torch.inference_mode():
        for done, each in enumerate(replies, start=1):
            ids = torch.tensor([each.prompt + each.reply], device=model.device)
            logits = model(input_ids=ids, use_cache=False).logits[0, len(each.prompt) - 1 : -1].float()
            chosen = ids[0, len(each.prompt) :, None]
            found.append((logits.gather(-1, chosen)[:, 0] - logits.logsumexp(-1)).cpu())
            on_progress(done, len(replies))
    return torch.cat(found)


def difference(exported: torch.Tensor, reference: torch.Tensor, base: torch.Tensor, num_replies: int) -> Difference:
    """How an export differs.

    Args:
        exported: Log-probabilities ``(N,)`` under the exported model, as are the next two under others.
        reference: Under adapter and base.
        base: Under the base alone.

    Raises:
        ModelError: The exported model computes infinities, or no numbers.
    """
    if not exported.isfinite().all():
        raise ModelError("the exported model computes infinities, or no numbers; export it with --quantisation f32")
    off, effect = (exported - reference).double(), (base - reference).double()
    squares = float(effect @ effect)
    lost, error = None, None
    if squares > 0:
        lost = float(off @ effect) / squares
        rest = off - lost * effect
        error = math.sqrt(float(rest @ rest) / max(1, len(off) - 1) / squares)
    return Difference(
        replies=num_replies, tokens=len(off), mean=float(off.abs().mean()), largest=float(off.abs().max()),
        effect=float(effect.abs().mean()), lost=lost, lost_error=error,
    )  # fmt: skip


def require_equal(found: Difference, bound: Bound, what: str) -> None:
    """Refuse an export that is not adapter and base.

    Raises:
        ModelError: It differs by more than the bound, or lacks the adapter.
    """
    if found.can_tell and found.lost is not None and found.lost > _MOST_LOST:
        complaint = (
            f"it lacks {100 * found.lost:.0f} % of what the adapter changes. Updates much smaller than the weights "
            f"are lost in rounding: --quantisation f16 keeps more of them than bf16, and f32 all"
        )
    elif found.mean > bound.mean:
        complaint = f"log-probabilities differ by {found.mean:.3g} on average; the bound is {bound.mean:g}"
    elif found.largest > bound.largest:
        complaint = f"a token's log-probability differs by {found.largest:.3g}; the bound is {bound.largest:g}"
    else:
        return
    raise ModelError(
        f"{what} is not the trained model: {complaint} ({found.tokens} tokens of the run's own replies); nothing was "
        f"exported"
    )
