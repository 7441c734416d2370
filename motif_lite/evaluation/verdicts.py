"""Why a reply earns what it earns: which box counts, and which rule decided."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from motif_lite.grading.answers import Boxed, boxes, grade, ruling, ruling_on_answer
from motif_lite.grading.rulings import Ruling
from motif_lite.rollout.rewards import answer_score

AT_ONCE = 1000
"""Replies that are graded together."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A graded reply.

    Attributes:
        boxed: The last box, whose content counts; None without a box.
        num_boxes: Of the reply, those inside of others left out.
        score: What it contributes to ``future_accuracy``: 2, 1 or 0.
        if_boxed: The ruling if the whole reply stood in a box; None where it has one.
    """

    ruling: Ruling
    boxed: Boxed | None
    num_boxes: int
    score: float
    if_boxed: Ruling | None


def verdict(gold: str, reply: str) -> Verdict:
    """Grade a whole reply, as training does."""
    found = boxes(reply)
    return Verdict(
        ruling=ruling(gold, reply),
        boxed=found[-1] if found else None,
        num_boxes=len(found),
        score=answer_score(gold, reply),
        if_boxed=None if found else ruling_on_answer(gold, reply.strip()),
    )


def verdicts(pairs: Sequence[tuple[str, str]], on_progress: Callable[[int, int], None]) -> list[Verdict]:
    """Grade many replies, several at a time.

    Args:
        pairs: Of gold answers and whole replies.
        on_progress: Told how many pairs are done, of how many.
    """
    done: list[Verdict] = []
    for start in range(0, len(pairs), AT_ONCE):
        some = pairs[start : start + AT_ONCE]
        grade([(gold, _in_a_box(reply)) for gold, reply in some], _within(on_progress, start, len(some), len(pairs)))
        done += [verdict(*pair) for pair in some]
        on_progress(len(done), len(pairs))
    return done


def _in_a_box(reply: str) -> str:
    """The reply, in a box if it has none."""
    return reply if boxes(reply) else f"\\boxed{{{reply.strip()}}}"


def _within(on_progress: Callable[[int, int], None], start: int, size: int, total: int) -> Callable[[int, int], None]:
    """Tell of the progress of a part as that of the whole."""
    return lambda done, of: on_progress(start + done * size // of, total)
