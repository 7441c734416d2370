"""Keys and values of many sequences of different lengths, allocated once.

A row holds one sequence from its first token on, without padding. A forward pass writes its new tokens into the slots
that it was told, and sees the rows that it was told: nothing is moved or grown while tokens are generated.
"""

from typing import Any

import torch
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin


class RowCache(Cache):
    """Rows of at most ``capacity`` tokens, one block of memory per layer for its keys and values.

    Args:
        num_layers: Of the model.
        num_rows: Sequences held at a time.
        capacity: Most tokens of each.
    """

    def __init__(self, num_layers: int, num_rows: int, capacity: int) -> None:
        super().__init__(layers=[_Layer(num_rows, capacity) for _ in range(num_layers)])
        self.nowhere = num_rows * capacity
        """The slot for what is to be forgotten: padding."""

    def attend(self, rows: torch.Tensor | slice, columns: int, slots: torch.Tensor) -> None:
        """Say what the next forward pass is about.

        Args:
            rows: Which of the rows its batch stands for, in order.
            columns: How many tokens of each it sees, the new ones included.
            slots: Where its new tokens go ``(B * T,)``: row * capacity + position.
        """
        for layer in self.layers:
            layer.rows, layer.columns, layer.slots = rows, columns, slots

    def copy(self, sources: torch.Tensor, targets: torch.Tensor, columns: int) -> None:
        """Copy the first ``columns`` tokens of some rows ``(R,)`` to others ``(R,)``."""
        for layer in self.layers:
            for block in (layer.keys, layer.values):
                block[targets, :columns] = block[sources, :columns]


class _Layer(CacheLayerMixin):
    """One layer's keys and values, each ``(rows, capacity, heads, head_size)``."""

    def __init__(self, num_rows: int, capacity: int) -> None:
        super().__init__()
        self.num_rows, self.capacity = num_rows, capacity
        self.rows: torch.Tensor | slice = slice(0)
        self.columns = 0
        self.slots = torch.empty(0)

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocate, now that the model has shown its shapes and precision ``(B, heads, T, head_size)``."""
        _, heads, _, size = key_states.shape
        self._allocate(key_states, heads, size)

    def _allocate(self, like: torch.Tensor, heads: int, size: int) -> None:
        """All slots, `RowCache.nowhere` last, and the same without it by row.

        Zeros, for what is masked is multiplied by nothing, and nothing times NaN is NaN.
        """
        self.slotted = like.new_zeros(2, self.num_rows * self.capacity + 1, heads, size)
        self.keys, self.values = self.slotted[:, :-1].view(2, self.num_rows, self.capacity, heads, size)
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write new tokens ``(B, heads, T, size)``; return what their rows hold ``(B, heads, columns, size)``."""
        both = torch.cat((key_states, value_states), 1)
        return self.add(both.transpose(1, 2).flatten(0, 1))

    def add(self, both: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The same with new tokens ``(B * T, 2 * heads, head_size)``: the heads of keys, then those of values."""
        keys_values = both.view(len(both), 2, -1, both.shape[-1]).transpose(0, 1)
        if not self.is_initialized:
            self._allocate(both, *keys_values.shape[2:])
        self.slotted.index_copy_(1, self.slots, keys_values)
        return self._seen(self.keys), self._seen(self.values)

    def _seen(self, block: torch.Tensor) -> torch.Tensor:
        return block[self.rows, : self.columns].transpose(1, 2)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """(Columns of a mask, offset); the engine makes its own masks."""
        return self.columns, 0

    def get_seq_length(self) -> int:
        """Rows have lengths of their own, and positions are always given."""
        return 0

    def get_max_length(self) -> int:
        """Tokens that a row can hold."""
        return self.capacity
