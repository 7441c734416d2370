"""The least time that a round of replies can take on this machine: what measured times are held against.

It is what would be left if the machine did nothing else than the arithmetic, or the reading of memory, whichever takes
longer, at the best rates that PyTorch reaches. Counted are

- to read: every *distinct* prompt token once, through all linear layers and attention, but not the output layer;
- to write: every new token through all of that and the output layer; and in each of the steps that the longest reply
  needs, all weights once, and keys and values of all rows that still write.

Arithmetic is at the rate of the best of some matrix products, memory at that of summing a buffer as large as the
weights, keys and values together, for a small model lives in the processor's cache. Embedding, norms, softmax, sampling
and the adapter, which may be folded, are not counted. All numbers have 32 bits.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from math import ceil

import torch

from motif_lite.planning.shapes import ModelShape


@dataclass(frozen=True, slots=True)
class Floor:
    """Seconds that no program on this machine could do without.

    Attributes:
        reading: Of the prompts: arithmetic, memory.
        writing: Of the replies: arithmetic, memory.
    """

    reading: tuple[float, float]
    writing: tuple[float, float]

    @property
    def seconds(self) -> float:
        """Reading comes before writing; within each, arithmetic and memory may overlap."""
        return max(self.reading) + max(self.writing)


def floor(shape: ModelShape, prompts: list[list[int]], lengths: list[int]) -> Floor:
    """The least time for these prompts and replies; see above."""
    attention = 4 * shape.num_layers * shape.attention_dim  # operations per token and token that it sees
    cached = 4 * shape.num_layers * 2 * shape.kv_dim  # bytes per token
    head = shape.vocab_size * shape.hidden_size
    weights = 4 * (shape.num_linear_weights + head)

    positions = _distinct_positions(prompts)
    reading = 2 * shape.num_linear_weights * len(positions) + attention * sum(position + 1 for position in positions)
    seen = sum(
        length * len(prompt) + length * (length - 1) // 2 for prompt, length in zip(prompts, lengths, strict=True)
    )
    writing = 2 * (shape.num_linear_weights + head) * sum(lengths) + attention * seen

    held = sum(len(prompt) + length for prompt, length in zip(prompts, lengths, strict=True))
    bandwidth = bytes_per_second(weights + cached * held)
    return Floor(
        (reading / operations_per_second(), (4 * shape.num_linear_weights + cached * len(positions)) / bandwidth),
        (writing / operations_per_second(), (weights * max(lengths) + cached * seen) / bandwidth),
    )


def _distinct_positions(prompts: list[list[int]]) -> list[int]:
    """Where the prompt tokens stand that have to be read, what is common to prompts once; not the last ones."""
    positions = list(range(len(min(prompts)) - 1))
    for before, prompt in pairwise(sorted(prompts)):
        pairs = zip(before[:-1], prompt[:-1], strict=False)
        shared = next((place for place, (one, other) in enumerate(pairs) if one != other), len(before) - 1)
        positions += range(shared, len(prompt) - 1)
    return positions


@cache
def operations_per_second() -> float:
    """Multiplications and additions in 32 bits, in the best of several matrix products of several sizes.

    By MKL and by oneDNN: which one is faster depends on who made the processor.
    """
    matrices = [torch.randn(size, size) for size in (256, 512, 1024)]
    products = [partial(torch.mm, matrix, matrix) for matrix in matrices]
    if torch._C._has_mkldnn:
        multiply = torch.ops.mkldnn._linear_pointwise
        products += [partial(multiply, matrix, matrix, None, "none", [], "") for matrix in matrices]
    return max(2 * len(work.args[0]) ** 3 / _least_seconds(work) for work in products)


def bytes_per_second(num_bytes: int) -> float:
    """Bytes that are read per second of a buffer of about this size, in the best of several sums."""
    return _bytes_per_second(min(max(1, num_bytes >> 20), 512))


@cache
def _bytes_per_second(num_mib: int) -> float:
    buffer = torch.ones(num_mib << 18)
    times = ceil(64 / num_mib)

    def read() -> None:
        for _ in range(times):
            buffer.sum()

    return times * buffer.nbytes / _least_seconds(read)


def _least_seconds(work: Callable[[], object]) -> float:
    """In the best of several attempts: other processes only ever cost time."""
    seconds = []
    for _ in range(20):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
