"""An update that several processes share: each propagates its own rows back, then all have the whole gradient.

Losses and gradients of rows are parts of the whole that are added up; that is why a process may compute its rows in as
many pieces as its memory wants.
"""

import zlib
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import torch

from motif_lite.errors import TrainingError
from motif_lite.ranks import Ranks
from motif_lite.training.loss_figures import LossFigures, Pieces
from motif_lite.training.packing import Inputs, selected


def own_rows(inputs: Inputs, ranks: Ranks) -> Inputs:
    """The rows of a batch that this process propagates back.

    Raises:
        TrainingError: The processes do not have the same rows in the same order. TRL shuffles them by PyTorch's own
            stream, which a model with dropout, or code of the user's, may draw from in one process more than in others.
    """
    if ranks.count == 1:
        return inputs
    sums = ranks.gather(int, lambda: zlib.crc32(inputs["completion_ids"].cpu().numpy().tobytes()))
    if len(set(sums)) > 1:
        raise TrainingError(
            "the processes of this run shuffle the rows of a step differently, because PyTorch's random numbers were "
            "drawn unequally in them, as by a model's dropout or a reward of your own: leave --processes out"
        )
    lengths = (inputs["prompt_mask"].sum(1) + inputs["completion_mask"].sum(1)).tolist()
    return selected(inputs, evenly(lengths, ranks))


def evenly(lengths: Sequence[int], ranks: Ranks) -> range:
    """The rows in a row that one of several processes computes, so that all have about as many tokens.

    Args:
        lengths: Of all rows, in tokens; there are at least as many rows as processes.
    """
    middles = [end - length / 2 for end, length in zip(accumulate(lengths), lengths, strict=True)]
    bounds = [0]
    for number in range(1, ranks.count):
        wanted = sum(middle < sum(lengths) * number / ranks.count for middle in middles)
        bounds.append(min(max(wanted, bounds[-1] + 1), len(lengths) - (ranks.count - number)))
    return range(*[*bounds, len(lengths)][ranks.number : ranks.number + 2])


def shared(ranks: Ranks, model: Any, own: Callable[[], tuple[torch.Tensor, LossFigures]]) -> torch.Tensor:
    """The loss of a whole batch; the model has its gradient, and TRL's metrics have its figures.

    Args:
        own: Propagates this process's rows back; gives their part of the loss, and their figures.

    Raises:
        TrainingError: In some process there was not enough memory.
    """
    found: list[tuple[torch.Tensor, LossFigures]] = []

    def done() -> tuple[float, Pieces]:
        found.append(own())
        return float(found[0][0]), found[0][1].pieces

    told = ranks.gather(tuple[float, Pieces], done)
    [(loss, figures)] = found
    figures.end([piece for _, pieces in told for piece in pieces])
    ranks.add_up([weight.grad for weight in model.parameters() if weight.grad is not None])
    return loss.new_tensor(sum(part for part, _ in told))
