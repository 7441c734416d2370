"""How the next token is drawn, and when a reply has ended: the same for every way of generating.

A sequence has a random stream of its own: all its uniforms are drawn up front from its seed, and token t is read off
the cumulated probabilities at uniform t. So what is written does not depend on what else is in the batch, on how wide
the batch is, or on when a sequence joined it, and a step costs no random numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from transformers import StopStringCriteria

from motif_lite.nouns import Sampling
from motif_lite.planning.limits import DRAWN_TOGETHER
from motif_lite.policies.engine import nucleus

_LARGEST_UNIFORM = 1 - 2**-20
"""Times a sum of 32-bit probabilities it still rounds to less than that sum."""


@dataclass(frozen=True, slots=True)
class Request:
    """One sequence to be written.

    Attributes:
        index: Its place among the replies.
        ids: The prompt; one token at least.
        seed: Of its random stream.
    """

    index: int
    ids: list[int]
    seed: int


@dataclass(frozen=True, slots=True)
class Generated:
    """One sequence as written.

    Attributes:
        ids: New tokens, with the one that ended the turn.
        logprobs: Of each of them, in the model's distribution as it is, before temperature and truncation.
        finish: ``stop`` at a stop token or string, ``length`` at the limit.
    """

    ids: list[int]
    logprobs: list[float]
    finish: Literal["stop", "length"]


def uniforms(seed: int, count: int) -> torch.Tensor:
    """A sequence's random numbers ``(count,)``, in [0, 1), on the CPU."""
    drawn = torch.rand(count, generator=torch.Generator().manual_seed(seed))
    return drawn.clamp_(max=_LARGEST_UNIFORM)


def draw(logits: torch.Tensor, sampling: Sampling, at: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The next token of every row.

    Args:
        logits: ``(B, V)``, in any precision.
        sampling: Temperature 0 takes the likeliest token.
        at: Uniforms ``(B,)``.

    Returns:
        Tokens ``(B,)`` and their log-probabilities ``(B,)`` in the untruncated distribution at temperature 1.
    """
    rows = max(1, DRAWN_TOGETHER // logits.shape[-1])
    if logits.device.type != "cpu" or rows >= len(logits):
        return _draw(logits, at, sampling)
    together = zip(torch.split(logits, rows), torch.split(at, rows), strict=True)
    parts = [_draw(*part, sampling) for part in together]
    tokens, logprobs = (torch.cat(column) for column in zip(*parts, strict=True))
    return tokens, logprobs


def _draw(logits: torch.Tensor, at: torch.Tensor, sampling: Sampling) -> tuple[torch.Tensor, torch.Tensor]:
    """As `draw`, of rows that are worked on together."""
    logits = logits.float()
    if sampling.temperature == 0:
        tokens = logits.argmax(-1, keepdim=True)
        return tokens[:, 0], logits.gather(-1, tokens)[:, 0] - logits.logsumexp(-1)
    likeliest = logits.amax(-1, keepdim=True)
    weights = logits - likeliest  # next to nothing as a temperature would make infinities of logits as they are
    if sampling.temperature == 1:
        total = weights.exp_().sum(-1, keepdim=True)
    else:
        total = weights.exp().sum(-1, keepdim=True)
        weights.div_(sampling.temperature).exp_()
    if sampling.top_k or sampling.top_p < 1 or sampling.min_p > 0:
        weights = _truncated(weights, sampling)
    tokens = _sample(weights, at)
    return tokens[:, 0], (logits.gather(-1, tokens) - likeliest - total.log())[:, 0]


def _sample(weights: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Inverse-CDF sampling, in the vocabulary's order: tokens ``(B, 1)``."""
    cumulated = weights.cumsum(-1)
    place = torch.searchsorted(cumulated, at[:, None] * cumulated[:, -1:], right=True)
    return place.clamp_(max=weights.shape[-1] - 1)  # a row of NaN has no place


def _truncated(weights: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Probabilities of what is left by top-k, top-p and min-p, which cut in this order, as in transformers.

    Each rule comes down to a least probability; tokens as likely as the last one that a rule keeps are kept, too.
    """
    if sampling.top_k:
        weights = _at_least(weights.topk(min(sampling.top_k, weights.shape[-1]), -1).values[:, -1:], weights)
    probabilities = weights / weights.sum(-1, keepdim=True)
    if sampling.top_p < 1:
        least = nucleus.by_halving(_by_sorting, probabilities.device) if probabilities.is_cuda else _by_sorting
        probabilities = _at_least(least(probabilities, sampling.top_p), probabilities)
    if sampling.min_p > 0:
        probabilities = _at_least(sampling.min_p * probabilities.amax(-1, keepdim=True), probabilities)
    return probabilities


def _at_least(least: torch.Tensor, probabilities: torch.Tensor) -> torch.Tensor:
    return probabilities.masked_fill(probabilities < least, 0)


def _by_sorting(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
    """The least probability ``(B, 1)`` in the smallest set of tokens that holds ``top_p``."""
    if probabilities.device.type == "cpu":
        return torch.stack([_edge(_likely(row, top_p), top_p) for row in probabilities])
    return _edge(probabilities.sort(-1).values.flip(-1), top_p)


def _edge(likely: torch.Tensor, top_p: float) -> torch.Tensor:
    """The same, of probabilities ``(..., V)`` in falling order: ``(..., 1)``."""
    size = (likely.cumsum(-1) - likely < top_p).sum(-1, keepdim=True)
    return likely.gather(-1, size.clamp_(min=1) - 1)


def _likely(row: torch.Tensor, top_p: float) -> torch.Tensor:
    """The largest of a distribution ``(V,)``, in falling order: those that may be in its nucleus.

    What is below the bound sums to less than half of what a nucleus leaves out, so the edge is above it. With a
    vocabulary of 152 thousand that is most of it. NumPy sorts the rest with vector instructions.
    """
    values = row.numpy()
    kept = values[values >= (1 - top_p) / (2 * len(values))]
    return torch.from_numpy(np.sort(kept)[::-1].copy()) if len(kept) else row.sort(descending=True).values


def written(tokens: torch.Tensor, logprobs: torch.Tensor, length: int) -> Generated:
    """What stands in a row of tokens and log-probabilities.

    Args:
        length: Where its ending was found; 0 if it has none and the row is whole.
    """
    end = length or len(tokens)
    return Generated(tokens[:end].tolist(), logprobs[:end].tolist(), "stop" if length else "length")


class Endings:
    """Recognises a reply's last token.

    Args:
        stop_ids: Tokens that end a turn.
        strings: Texts that end a reply once they stand in it.
        tokenizer: What ``strings`` are to be recognised in.
    """

    def __init__(self, stop_ids: list[int], strings: Sequence[str], tokenizer: Any, device: torch.device) -> None:
        self.stop_ids = stop_ids
        self._ids = torch.tensor(stop_ids, device=device)
        self._strings = StopStringCriteria(tokenizer, list(strings)) if strings else None
        self.window = self._strings.maximum_token_len if self._strings else 1
        """How many of the latest tokens must be looked at: a stop string has at most this many."""

    def reached(self, latest: torch.Tensor) -> torch.Tensor:
        """Which rows have ended, ``(B,)``.

        Args:
            latest: New tokens ``(B, <= window)`` up to now, without any of the prompt.
        """
        ended = torch.isin(latest[:, -1], self._ids)
        if self._strings is not None:
            ended |= self._strings(latest, None)
        return ended
