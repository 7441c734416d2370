"""Between TRL's padded rows and the packed ones of `policies.packing`."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from motif_lite.policies.packing.packed_model import PackedModel
from motif_lite.policies.packing.tree import pieces

Inputs = Mapping[str, Any]
"""A batch as TRL's trainer has it: tensors ``(B, ...)``, some without rows, by names of its own."""

TokenRows = list[list[int]]


class PackedUpdate:
    """Rows of an update, packed into trees of bounded size.

    Args:
        model: The PEFT model.
        width: A tree has no more tokens than so many padded rows have.
    """

    def __init__(self, model: Any, width: int) -> None:
        self.model = PackedModel(model)
        self._width = width
        self._most_rows: int | None = None

    @property
    def bounds_rows(self) -> bool:
        """A tree has no more rows than the width; before the first `narrow`, short ones may be more."""
        return self._most_rows is not None

    def narrow(self, width: int) -> None:
        """From now on, trees of no more tokens, and no more rows."""
        self._width = self._most_rows = width

    def pieces(self, inputs: Inputs) -> list[Inputs]:
        """A batch in parts that are a tree each; rows with the same beginning go together."""
        ids, mask = (
            torch.cat([inputs[f"{part}_{name}"] for part in ("prompt", "completion")], 1) for name in ("ids", "mask")
        )
        parts = self._split(_rows(ids, mask), ids.shape[1])
        return [inputs] if len(parts) == 1 else [selected(inputs, part) for part in parts]

    def logprobs(
        self, ids: torch.Tensor, mask: torch.Tensor, num_replied: int, temperature: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities and entropies of replies ``(B, num_replied)``; 0 where there is no token.

        Args:
            ids: Prompts, padded on the left, and replies, padded on the right ``(B, T)``.
            mask: 1 where there is a token ``(B, T)``.
            num_replied: Columns of replies.
            temperature: That logits are divided by.
        """
        prompts, replies = (_rows(*both) for both in ((ids[:, :-num_replied], mask[:, :-num_replied]),
                                                     (ids[:, -num_replied:], mask[:, -num_replied:])))  # fmt: skip
        rows = [[*prompt, *reply] for prompt, reply in zip(prompts, replies, strict=True)]
        is_token = mask[:, -num_replied:].bool()
        parts = self._split(rows, ids.shape[1])
        computed = [
            self.model.logprobs([prompts[row] for row in part], [replies[row] for row in part], temperature)
            for part in parts
        ]
        order = [row for part in parts for row in part]
        logprobs, entropies = (torch.cat(column) for column in zip(*computed, strict=True))
        return _spread(logprobs, is_token, order), _spread(entropies, is_token, order)

    def _split(self, rows: TokenRows, columns: int) -> list[list[int]]:
        return [sorted(part) for part in pieces(rows, self._width * columns, self._most_rows)]


def _rows(ids: torch.Tensor, mask: torch.Tensor) -> TokenRows:
    """The tokens of each row, without padding."""
    rows = zip(ids.tolist(), mask.tolist(), strict=True)
    return [[token for token, is_token in zip(*row, strict=True) if is_token] for row in rows]


def _spread(values: torch.Tensor, is_token: torch.Tensor, order: Sequence[int]) -> torch.Tensor:
    """Values of tokens ``(N,)``, row by row in this order, as rows ``(B, T)`` in the batch's."""
    rows = torch.tensor(order, device=values.device)
    spread = values.new_zeros(is_token.shape).masked_scatter(is_token[rows], values)
    return spread[rows.argsort()]


def in_rows(inputs: Inputs, width: int) -> list[Inputs]:
    """A batch in parts of at most so many rows."""
    rows = range(len(inputs["completion_ids"]))
    if len(rows) <= width:
        return [inputs]
    return [selected(inputs, rows[start : start + width]) for start in rows[::width]]


def selected(inputs: Inputs, rows: Sequence[int]) -> Inputs:
    """The batch of some rows."""
    return {
        name: value[list(rows)] if isinstance(value, torch.Tensor) and value.ndim else value
        for name, value in inputs.items()
    }
