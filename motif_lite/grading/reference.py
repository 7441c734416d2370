"""The reference's rule for a right answer, to measure what the paper measured; rewards and accuracies use `answers`.

It is text in text, anywhere in the final reply: an earlier box counts, and another spelling does not.
"""

_DIGITS_ALONE = "aime24"
"""The one benchmark whose answers the reference looks for without a box."""


def is_correct(gold: str, reply: str, *, source: str) -> bool:
    """Whether the reference counts a final reply as right.

    Args:
        source: Of the benchmark, as a recipe names it.
    """
    return (gold if source == _DIGITS_ALONE else f"\\boxed{{{gold}}}") in reply
