r"""``chain_sum``: a task whose problems do not fit into one round, for a model of under a million parameters.

A question is a chain of labelled digits, ``a0b4c5d3=``; the answer is their sum modulo ten. A round begins with
the sum so far, one step of work is a line ``label digit running-sum``, and progress is the last label with its
running sum, ``d=2``:

    <reasoning>          <reasoning>
    =0                   =2
    a00                  e79
    b44                  ...
    c59                  </reasoning>
    d32                  <answer>
    </reasoning>         \boxed{5}
    <answer>             </answer>
    d=2
    </answer>

A policy that stops too early in a round cannot finish in the last one; a policy that writes too much is cut off
and passes on nothing useful. Guessing is right one time in ten; in ``chain_sum_26``, whose sums are modulo 26 and
written as letters, one time in 26, and its chains take four rounds.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_lowercase, ascii_uppercase

from motif_lite.nouns import Problem


@dataclass(frozen=True, slots=True)
class Task:
    """How hard it is.

    Attributes:
        symbols: A sign for each sum, of one token; as many as the modulus.
        lengths: Digits of the shortest and of the longest chain.
    """

    symbols: str
    lengths: tuple[int, int]

    def sum_of(self, digits: Sequence[int]) -> str:
        """The sum modulo the number of symbols, as its symbol."""
        return self.symbols[sum(digits) % len(self.symbols)]


TASKS = {
    "chain_sum": Task("0123456789", (13, 14)),
    "chain_sum_26": Task(ascii_uppercase, (18, 19)),
}
EASY = TASKS["chain_sum"]


def problems(num_problems: int, *, seed: int, split: str, name: str = "chain_sum") -> list[Problem]:
    """Draw problems at random; the same seed and split always give the same list.

    Args:
        name: Of the task.
    """
    task, rng = TASKS[name], random.Random(f"{name}/{seed}/{split}")
    drawn = []
    for index in range(num_problems):
        digits = [rng.randrange(10) for _ in range(rng.randint(*task.lengths))]
        drawn.append(Problem(f"{name}/{split}/{seed}/{index}", question(digits), task.sum_of(digits)))
    return drawn


def question(digits: list[int]) -> str:
    """Write digits as a question: ``[0, 4]`` is ``a0b4=``."""
    return "".join(f"{label}{digit}" for label, digit in zip(ascii_lowercase, digits, strict=False)) + "="


def digits_of(question: str) -> list[int]:
    """Read the digits back from a question."""
    return [int(digit) for digit in question.removesuffix("=")[1::2]]


def reply(digits: list[int], start: int, stop: int, task: Task = EASY) -> str:
    """A perfect round that does the steps ``start`` to ``stop - 1``, in the strict format.

    It begins with the sum so far, so that every line adds to the one above it: a small model learns one way to
    add, not another for the first line of a round. It ends with the boxed sum if ``stop`` reaches the end of the
    chain, and with progress otherwise.
    """
    lines = [f"{ascii_lowercase[i]}{digits[i]}{task.sum_of(digits[: i + 1])}\n" for i in range(start, stop)]
    total = task.sum_of(digits[:stop])
    left = f"\\boxed{{{total}}}" if stop == len(digits) else f"{ascii_lowercase[stop - 1]}={total}"
    return f"<reasoning>\n={task.sum_of(digits[:start])}\n{''.join(lines)}</reasoning>\n<answer>\n{left}\n</answer>"


def read_progress(question: str, progress: str, task: Task = EASY) -> int | None:
    """How many steps a progress note stands for; None if it is not a true statement about the question.

    Takes any text as progress. Used to tell in which round a trajectory went wrong.
    """
    digits = digits_of(question)
    progress = progress.strip()
    if len(progress) != 3 or progress[1] != "=" or progress[0] not in ascii_lowercase[: len(digits)]:
        return None
    steps = ascii_lowercase.index(progress[0]) + 1
    return steps if progress[2] == task.sum_of(digits[:steps]) else None
