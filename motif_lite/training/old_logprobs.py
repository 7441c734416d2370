"""Log-probabilities of a step's replies before its first update, for the policy ratio of the later ones.

The first update computes them anyway: the policy that it starts from is the one that wrote the replies. TRL would
compute them in a pass of its own, whose rounding differs from that of the update, and which an update that runs out of
memory could not repeat in smaller pieces.
"""

from typing import Any

import torch

from motif_lite.training.packing import Inputs

OLD, _PLACES = "old_per_token_logps", "places"
"""TRL's name for them in a batch, and ours for where its rows come from; TRL ignores names that it does not know."""


class OldLogprobs:
    """Collects the log-probabilities of a batch that is computed in pieces.

    Args:
        inputs: TRL's batch ``(B, ...)``; in a later update it holds them already, and nothing is collected.
    """

    def __init__(self, inputs: dict[str, Any]) -> None:
        self._inputs = inputs
        self._kept: list[tuple[torch.Tensor, torch.Tensor]] = []

    @property
    def batch(self) -> Inputs:
        """The batch, with the place of each row where log-probabilities are still to be collected."""
        ids = self._inputs["completion_ids"]
        return self._inputs if self._is_known else self._inputs | {_PLACES: torch.arange(len(ids), device=ids.device)}

    def keep(self, piece: Inputs, logprobs: torch.Tensor) -> None:
        """Of a piece's rows ``(rows, T)``, as its loss was computed from, detached."""
        if not self._is_known:
            self._kept.append((piece[_PLACES], logprobs))

    def end(self) -> None:
        """Put them into the batch, now that all its pieces are computed; 0 for rows of other processes."""
        if not self._is_known:
            places, logprobs = (torch.cat(column) for column in zip(*self._kept, strict=True))
            ids = self._inputs["completion_ids"]
            self._inputs[OLD] = logprobs.new_zeros(len(ids), logprobs.shape[1]).index_copy(0, places, logprobs)

    @property
    def _is_known(self) -> bool:
        return OLD in self._inputs
