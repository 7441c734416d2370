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
from motif_lite.ranks import Followed, Ranks
from motif_lite.training.loss_figures import LossFigures, Pieces
from motif_lite.training.packing import Inputs, selected


def own_rows(inputs: Inputs, ranks: Ranks) -> Inputs:
    """The rows of a batch that this process propagates back.

    It asks nobody: a process that runs out of memory comes here again, the others do not.
    """
    if ranks.count == 1:
        return inputs
    lengths = (inputs["prompt_mask"].sum(1) + inputs["completion_mask"].sum(1)).tolist()
    return selected(inputs, evenly(lengths, ranks))


def sum_of(inputs: Inputs, ranks: Ranks) -> int:
    """Of the rows of a batch in their order, where several processes compare them."""
    if ranks.count == 1:
        return 0
    return zlib.crc32(inputs["completion_ids"].cpu().numpy().tobytes())


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


def shared(ranks: Ranks, model: Any, own: Callable[[], tuple[torch.Tensor, LossFigures, int]]) -> torch.Tensor:
    """The loss of a whole batch; the model has its gradient, and TRL's metrics have its figures.

    Args:
        own: Propagates this process's rows back; gives their part of the loss, their figures, and `sum_of` all rows.

    Raises:
        TrainingError: In some process there was not enough memory. Or the processes do not have the same rows in the
            same order: TRL shuffles them by PyTorch's own stream, which a model with dropout, or code of the user's,
            may draw from in one process more than in others.
        Followed: The same, on a helper.
    """
    found: list[tuple[torch.Tensor, LossFigures]] = []

    def done() -> tuple[float, Pieces, int]:
        loss, figures, rows = own()
        found.append((loss, figures))
        return float(loss), figures.pieces, rows

    told = ranks.gather(tuple[float, Pieces, int], done)
    if len({rows for _, _, rows in told}) > 1:  # as all of them see; the main process tells it
        raise (TrainingError if ranks.is_main else Followed)(
            "the processes of this run shuffle the rows of a step differently, because PyTorch's random numbers were "
            "drawn unequally in them, as by a model's dropout or a reward of your own; to continue with one process, "
            "--resume without --processes"
        )
    [(loss, figures)] = found
    figures.end([piece for _, pieces, _ in told for piece in pieces])
    ranks.add_up([weight.grad for weight in model.parameters() if weight.grad is not None])
    return loss.new_tensor(sum(part for part, _, _ in told))
