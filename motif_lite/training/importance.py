"""Tokens that another engine or precision has drawn, weighed as if the policy that is trained had drawn them.

A token's weight is its probability under the policy before the step's first update, divided by that under the sampler,
at most ``training.importance_cap``: truncated importance sampling. It is a constant, and the same in every update of
the step. Both probabilities are of the whole distribution at temperature 1, which is that of sampling (a rule of
recipes). Top-k, top-p and min-p cut it afterwards, here as without weights: of what they leave out nothing is sampled,
so no weight could bring it back, and what they leave is renormalised alike by two distributions that are nearly equal.

The first update computes the policy's log-probabilities anyway. TRL reads a batch's advantages only after that forward
pass, and takes one for each token as well as one for each row, so they are weighed in between. All of its losses have
the advantage as a factor, its sign aside, which a weight leaves as it is.
"""

from collections.abc import Sequence
from math import nan
from typing import Any

import torch

from motif_lite.nouns import Reply
from motif_lite.recipe.training import TrainingSection
from motif_lite.training.old_logprobs import OLD
from motif_lite.training.packing import Inputs

_DRAWN = "sampling_per_token_logps"
"""TRL's name for the log-probabilities of what wrote the replies, in a batch."""


def drawn_logprobs(training: TrainingSection, replies: Sequence[Reply], fillers: int = 0) -> list[list[float]] | None:
    """Of replies as they were drawn, token by token, for TRL to hand on with its rows; None where nobody asks for them.

    Args:
        fillers: Rows of one token behind them, which are trained by no advantage and count in no figure.
    """
    if training.importance_cap is None:
        return None
    return [list(reply.logprobs) for reply in replies] + [[nan]] * fillers


class ImportanceWeights:
    """Weighs the advantages of the pieces of a batch, one after the other.

    Args:
        cap: The largest weight; None where nothing is weighed.
        metrics: TRL's lists by name. The mean weight of a piece's tokens and the share that was cut are appended.
    """

    def __init__(self, cap: float | None, metrics: dict[str, list[float]]) -> None:
        self._cap, self._metrics = cap, metrics
        self._piece: dict[str, Any] | None = None

    def begin(self, piece: Inputs) -> Inputs:
        """A piece for TRL's loss. It is a copy: the batch that it is of may be used by later updates."""
        if self._cap is None:
            return piece
        self._piece = {**piece}
        return self._piece

    def weigh(self, logprobs: torch.Tensor) -> None:
        """Give the piece that has begun an advantage for each token ``(B, T)``; other forward passes have none.

        Args:
            logprobs: Of its tokens ``(B, T)``, by the forward pass of its loss.
        """
        piece, self._piece = self._piece, None
        if piece is None or self._cap is None:
            return
        ratios = (piece.get(OLD, logprobs).detach().float() - piece[_DRAWN]).exp()
        is_known = piece["completion_mask"].bool() & ~ratios.isnan()
        weights = torch.where(is_known, ratios, 1.0).clamp(max=self._cap)
        piece["advantages"] = piece["advantages"][:, None] * weights
        self._metrics["importance_weight"].append(weights[is_known].mean().item())
        self._metrics["importance_cut"].append((ratios[is_known] > self._cap).float().mean().item())
