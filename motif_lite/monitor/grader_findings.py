"""Warnings about verdicts: answers that nobody can compare, and a grader that something else kills or starves."""

from collections.abc import Iterator, Sequence

from motif_lite.grading.server import CPU_SECONDS, MEMORY_BYTES
from motif_lite.monitor import remedies
from motif_lite.monitor.finding import Finding, is_above
from motif_lite.recipe.schema import Recipe
from motif_lite.runs.records import StepMetrics

FEW = 0.01
"""Share of the replies that may go without a verdict, or be graded twice, before it is worth a word."""


def of_grader(recipe: Recipe, lines: Sequence[StepMetrics]) -> Iterator[Finding]:
    """What is seen of the grader in a window of steps."""
    return (finding for finding in (_beyond_judging(recipe, lines), _disturbed(lines)) if finding)


def _beyond_judging(recipe: Recipe, lines: Sequence[StepMetrics]) -> Finding | None:
    """Significantly more than `FEW` of the answers cannot be compared within the grader's limits."""
    num_failed, num_replies = sum(line.grader_failures for line in lines), _num_replies(lines)
    if not _are_many(num_failed, num_replies):
        return None
    text = (
        f"in steps {lines[0].step} to {lines[-1].step} {num_failed} of {num_replies} replies have an answer that "
        f"cannot be compared within {CPU_SECONDS:g} s of processor time and {MEMORY_BYTES >> 20} MiB; they count as "
        f"wrong"
    )
    return Finding("answers that cannot be graded", lines[-1].step, text, remedies.gradable(recipe))


def _disturbed(lines: Sequence[StepMetrics]) -> Finding | None:
    """Verdicts are lost, or comparisons are often made again, through no fault of theirs."""
    num_lost, num_retries = sum(line.grader_losses for line in lines), sum(line.grader_retries for line in lines)
    if not num_lost and not _are_many(num_retries, _num_replies(lines)):
        return None
    text = (
        f"in steps {lines[0].step} to {lines[-1].step} {num_retries} comparisons of answers were killed or got no "
        f"processor time and were made again; replies that count as wrong because that happened each time: {num_lost}"
    )
    return Finding("the grader is disturbed", lines[-1].step, text, remedies.FREE_THE_MACHINE)


def _are_many(number: int, of: int) -> bool:
    """Significantly more than `FEW`."""
    return of > 0 and is_above(number / of, FEW, of)


def _num_replies(lines: Sequence[StepMetrics]) -> int:
    return sum(sum(line.prompts.values()) for line in lines)
