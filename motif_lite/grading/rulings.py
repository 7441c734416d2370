"""What is said about a pair of answers: the verdict and the rule that decided."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ruling:
    """A verdict with its reason.

    Attributes:
        correct: None where it is not known: the rules leave the pair to math-verify, or that could not finish.
        rule: What decided, in words that can follow "right:" or "wrong:".
        undone: The answer is equivalent to the gold one and wrong all the same: an operation is left to do.
    """

    correct: bool | None
    rule: str
    undone: bool = False
