"""Which mark of a run is the best, and whether it is better than the last one by more than noise.

The best mark is the one with the highest accuracy, the later one of two that are equal. The best of many marks is high
by luck, too: so it counts as better than the last one only if a paired test says so that is corrected for all marks
that it was chosen from. All marks of a run are measured on the same problems.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from motif_lite.evaluation.differences import Difference, same_problems
from motif_lite.runs.records import Mark


@dataclass(frozen=True, slots=True)
class BestMark:
    """The best mark of a run against its last one.

    Attributes:
        difference: Of the best one less the last one, paired; None if they are the same mark, or if one of them does
            not say which problems it got right.
        num_others: Marks that it was chosen from, itself aside.
        p_value: Of the difference, times the number of other marks (Bonferroni); 1 without a difference.
        is_better: By more than noise.
    """

    best: Mark
    last: Mark
    difference: Difference | None
    num_others: int
    p_value: float
    is_better: bool


def is_best(accuracy: float, earlier: Sequence[Mark]) -> bool:
    """Whether a new mark of this accuracy is the best so far."""
    return all(accuracy >= mark.accuracy for mark in earlier)


def best_mark(marks: Sequence[Mark], confidence: float) -> BestMark | None:
    """The best of all marks; None where there are fewer than two.

    Args:
        confidence: 1 less the share of runs whose best mark is found better than the last one by luck alone, at most.
    """
    if len(marks) < 2:
        return None
    best, last = max(marks, key=lambda mark: (mark.accuracy, mark.step)), marks[-1]
    difference = _paired(last, best, confidence) if best is not last else None
    num_others = len(marks) - 1
    p_value = min(1.0, difference.p_value * num_others) if difference else 1.0
    return BestMark(best, last, difference, num_others, p_value, is_better=p_value < 1 - confidence)


def _paired(last: Mark, best: Mark, confidence: float) -> Difference | None:
    if last.outcomes is None or best.outcomes is None:
        return None
    before, after = (
        {str(number): [each == "1"] for number, each in enumerate(mark.outcomes or "")} for mark in (last, best)
    )
    return same_problems([(before, after)], confidence)
