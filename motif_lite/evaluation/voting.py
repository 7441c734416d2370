"""A majority vote over final answers: votes are counted by what answers mean, as the judge sees it, not by spelling.

Where the gold answer is a rule, they are counted by spelling: ``44+19+35`` and ``98`` are equal, and to a rule they are
two answers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from motif_lite.grading.answers import grade, is_correct, last_boxed, ruling_on_answer
from motif_lite.grading.rule_golds import is_rule
from motif_lite.nouns import OnProgress
from motif_lite.runs.records import GradedReply


@dataclass(frozen=True, slots=True)
class Vote:
    """An answer with those who gave it.

    Attributes:
        answer: In its most common spelling; of equally common ones, in one that leaves no operation to do.
        samples: Places of the replies that gave it, in order.
    """

    answer: str
    samples: tuple[int, ...]

    @property
    def count(self) -> int:
        """Replies that gave it."""
        return len(self.samples)


def votes(replies: Sequence[str], on_progress: OnProgress | None = None, *, by_spelling: bool = False) -> list[Vote]:
    """The boxed answers of whole replies, most votes first; of equally many, the one that was given first.

    A reply without a box has no vote, nor has one that boxes a rule, which only a gold answer may be. Answers that
    leave an operation to do count with the answer that they equal.

    Args:
        on_progress: Told how many spellings were compared, of how many.
        by_spelling: Answers that are spelled otherwise are others.

    Raises:
        GradingError: The judge's process cannot be started.
    """
    spellings: dict[str, list[int]] = {}
    for place, reply in enumerate(replies):
        boxed = last_boxed(reply)
        if boxed is not None and boxed.text.strip() and not is_rule(boxed.text.strip()):
            spellings.setdefault(boxed.text.strip(), []).append(place)
    classes: dict[str, list[str]] = {}
    for done, spelling in enumerate(sorted(spellings, key=lambda each: -len(spellings[each])), start=1):
        known = spelling if by_spelling else _class_of(spelling, list(classes))
        classes.setdefault(known, []).append(spelling)
        if on_progress is not None:
            on_progress(done, len(spellings))
    found = [
        Vote(_most_common(alike, spellings), tuple(sorted(place for each in alike for place in spellings[each])))
        for alike in classes.values()
    ]
    return sorted(found, key=lambda vote: (-vote.count, vote.samples[0]))


def majority_is_right(samples: Sequence[GradedReply]) -> bool:
    """Whether the answer with most votes is right, as it is spelled; no answer is wrong."""
    counted = votes([each.final for each in samples], by_spelling=is_rule(samples[0].gold))
    if not counted:
        return False
    judged = samples[0].gold, f"\\boxed{{{counted[0].answer}}}"
    grade([judged])
    return is_correct(*judged)


def _most_common(alike: Sequence[str], spellings: Mapping[str, Sequence[int]]) -> str:
    """Of spellings of one answer, most common first."""
    first = [each for each in alike if len(spellings[each]) == len(spellings[alike[0]])]
    done = (each for each in first if not any(ruling_on_answer(other, each).undone for other in first))
    return next(done, first[0])


def _class_of(spelling: str, known: Sequence[str]) -> str:
    """The first known answer that means the same; the spelling itself where there is none."""
    pairs = [(answer, spelling) for answer in known] + [(spelling, answer) for answer in known]
    grade((one, f"\\boxed{{{other}}}") for one, other in pairs)  # several at a time
    return next((answer for answer in known if _equal(answer, spelling)), spelling)


def _equal(one: str, other: str) -> bool:
    """Whether two answers mean the same, whichever of them is taken for the right one."""
    rulings = (ruling_on_answer(one, other), ruling_on_answer(other, one))
    return any(ruling.correct or ruling.undone for ruling in rulings)
