r"""A solution in one piece, cut into the replies of several rounds: what a warm start imitates.

The rule:

1. What counts is the text behind a think block. Tags of our form are line breaks, and boxes are taken off, but for the
   last one, which is the final answer. The solution ends with the step that holds it.
2. A step is a sentence: lines are cut behind ``.``, ``!`` and ``?``. The lines of a display (``\[ \]``, ``$$``,
   ``\begin{}``, code) are one step. A step that is nothing but the final answer is left out.
3. The steps go to the rounds in order, with equal shares of the characters, as near as whole steps allow.
4. The reasoning of a round is its steps. The progress of a round is all steps so far that hold a digit or an equals
   sign: the results; of a round before the first of them it is the last step. The answer of the last round is the box.

So a round that sees this progress and the question has what the next steps stand on.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from motif_lite.grading.answers import boxes
from motif_lite.nouns import TAGS
from motif_lite.rollout import reply_format

_TAG = re.compile("|".join(map(re.escape, TAGS)))

_SENTENCE_END = re.compile(r"[.!?][\"')\]*]*\s+(?=\S)")

_NUMBERING = re.compile(r"[\s\-*#>]*\d{1,3}[.)]")
"""Of an item in a list: no sentence ends with it."""

_RESULT = re.compile(r"[\d=]")

_AROUND_AN_ANSWER = re.compile(r"\\[\[\]()]|[\s$.*]")
"""What may stand beside a box on its own."""


def replies(solution: str, num_rounds: int) -> tuple[str, ...] | None:
    """By round, in the strict format; None where there is no boxed answer, or fewer steps than rounds.

    None as well where a hostile text would still put a tag or a box in a wrong place.
    """
    text, answer, place = _unboxed(_TAG.sub("\n", reply_format.behind_thinking(solution)))
    if answer is None:
        return None
    steps = list(_steps(text, answer, place))
    if len(steps) < num_rounds:
        return None
    ends = _ends([len(step) for step in steps], num_rounds)
    reasoning = ["\n".join(steps[start:end]) for start, end in zip([0, *ends], ends, strict=False)]
    answers = [*(_progress(steps[:end]) for end in ends[:-1]), f"\\boxed{{{answer}}}"]
    found = tuple(map(reply_format.written, reasoning, answers))
    return found if _has_form(found, answer) else None


def _has_form(found: Sequence[str], answer: str) -> bool:
    """Whether each reply has its two sections, and the last one alone a box."""
    boxed = [[box.text for box in boxes(reply)] for reply in found]
    is_boxed = not any(boxed[:-1]) and boxed[-1] == [answer]
    return is_boxed and all(map(reply_format.has_strict_format, found))


def _unboxed(text: str) -> tuple[str, str | None, int]:
    """The text without boxes, the content of the last one, and where that stands in the text."""
    parts, end, length, place, answer = list[str](), 0, 0, 0, None
    for box in boxes(text):
        before, inside = (part.replace("\\boxed", " ") for part in (text[end : box.start], box.text))
        parts += [before, inside]
        place = length + len(before)
        length = place + len(inside)
        answer, end = box.text, box.end
    return "".join([*parts, text[end:].replace("\\boxed", " ")]), answer, place


def _steps(text: str, answer: str, place: int) -> Iterator[str]:
    """The steps up to the one that holds the final answer, without one that is nothing else."""
    bare = _AROUND_AN_ANSWER.sub("", answer)
    for start, end in _spans(text):
        step = text[start:end].strip()
        is_last = place < end
        if step and not (is_last and _AROUND_AN_ANSWER.sub("", step) == bare):
            yield step
        if is_last:
            return


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """Where each step begins and ends; together they are the whole text."""
    for start, end, is_display in _blocks(text):
        begun = start
        for match in () if is_display else _SENTENCE_END.finditer(text, start, end):
            if not _NUMBERING.fullmatch(text, begun, match.start() + 1):
                yield begun, match.end()
                begun = match.end()
        yield begun, end


def _blocks(text: str) -> Iterator[tuple[int, int, bool]]:
    """Lines, and displays whole; one that is never closed goes on to the end."""
    start = end = depth = 0
    marks = {"$$": False, "```": False}
    for line in text.splitlines(keepends=True):
        end += len(line)
        depth += sum(line.count(mark) for mark in ("\\[", "\\begin{"))
        depth = max(0, depth - sum(line.count(mark) for mark in ("\\]", "\\end{")))
        for mark in marks:
            marks[mark] ^= bool(line.count(mark) % 2)
        if not depth and not any(marks.values()):
            yield start, end, end - start > len(line)
            start = end
    if start < len(text):
        yield start, len(text), True


def _ends(lengths: Sequence[int], num_rounds: int) -> list[int]:
    """Behind which step each round ends: that nearest to its share, with a step for every round."""
    sums, ends = list(accumulate(lengths, initial=0)), [0]
    for number in range(1, num_rounds):
        share = sums[-1] * number / num_rounds
        above = bisect_left(sums, share)
        nearest = above - (above > 0 and share - sums[above - 1] <= sums[above] - share)
        ends.append(max(ends[-1] + 1, min(nearest, len(lengths) - num_rounds + number)))
    return [*ends[1:], len(lengths)]


def _progress(steps: Sequence[str]) -> str:
    return "\n".join([step for step in steps if _RESULT.search(step)] or steps[-1:])
