"""A verdict in words."""

from collections.abc import Iterator

from motif_lite.evaluation.verdicts import Verdict
from motif_lite.grading.rulings import Ruling
from motif_lite.rollout.rewards import INSIDE_ANSWER
from motif_lite.views.formats import excerpt


def lines(verdict: Verdict, width: int) -> Iterator[str]:
    """The verdict with its rule, which box it is about, and what the reply scores.

    Args:
        width: Columns; longer answers are cut.
    """
    yield _ruling(verdict.ruling)
    if verdict.boxed is not None:
        which = "the only box" if verdict.num_boxes == 1 else f"the last of {verdict.num_boxes} boxes"
        place = f"characters {verdict.boxed.start + 1} to {verdict.boxed.end}"
        yield f"answer    {excerpt(verdict.boxed.text, 1, width).plain}"
        yield f"from      {which}, {place}"
    if verdict.if_boxed is not None:
        yield f"in a box  the whole reply would be {_ruling(verdict.if_boxed)}"
    yield f"score     {verdict.score:g} of {INSIDE_ANSWER:g}{_place(verdict.score)}"


def in_one_line(verdict: Verdict) -> str:
    """The verdict with its rule, and which box it is about: ``right: the same number, the only box, in <answer>``."""
    ruling = _ruling(verdict.ruling)
    if verdict.boxed is None:
        return ruling
    which = "the only box" if verdict.num_boxes == 1 else f"the last of {verdict.num_boxes} boxes"
    place = {INSIDE_ANSWER: ", inside <answer>", 0.0: ""}.get(verdict.score, ", not inside <answer>")
    return f"{ruling} ({which}{place})"


def _ruling(ruling: Ruling) -> str:
    if ruling.correct is None:
        return f"no verdict, counts as wrong: {ruling.rule}"
    return f"{'right' if ruling.correct else 'wrong'}: {ruling.rule}"


def _place(score: float) -> str:
    if not score:
        return ""
    return ": the box is inside <answer>" if score == INSIDE_ANSWER else ": the box is not inside <answer>"
