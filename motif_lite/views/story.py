"""What happened in a run, in sentences: what its metrics, its marks and its evaluation show, and nothing more."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from motif_lite.evaluation.best_mark import best_mark
from motif_lite.figures import in_percent
from motif_lite.monitor.finding import SIGMAS, Finding
from motif_lite.monitor.findings import Figure
from motif_lite.monitor.trends import Change, Series
from motif_lite.recipe.schema import Recipe
from motif_lite.runs.budget import spent
from motif_lite.runs.records import Comparison, Evaluation, Mark, StepMetrics
from motif_lite.runs.selection import PassRates
from motif_lite.views.formats import best_mark_line, duration, mark_line, percent

_SHARE_OF_RUN = 5
"""The first and the last so many-th part of a run are compared."""

_LEAST_WINDOW = 5
"""Steps."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Adapters that a run has.

    Attributes:
        best_step: The step of ``adapter_best/``; None where it is not there.
        is_trained: There is ``adapter/``.
    """

    best_step: int | None
    is_trained: bool


def sentences(
    recipe: Recipe,
    metrics: Sequence[StepMetrics],
    marks: Sequence[Mark],
    evaluation: Evaluation,
    warnings: Sequence[Finding],
    kept: Kept,
    rates: PassRates | None = None,
) -> list[str]:
    """The run in sentences, the most important last figure first.

    Args:
        warnings: What `findings.diagnose` has found.
        kept: The adapters that there are.
        rates: Of the problems that training has selected from.
    """
    confidence = recipe.evaluation.confidence
    found = [_gain(gain, len(evaluation.comparisons), confidence) for gain in evaluation.comparisons]
    if len(marks) > 1:
        found.append(f"First {mark_line(marks[0])}. Last {mark_line(marks[-1])}.")
    if judged := best_mark(marks, confidence):
        found.append(_sentence(best_mark_line(judged, kept.best_step, is_trained=kept.is_trained)))
    if rates and recipe.data.select:
        found.append(f"Training had selected its problems: {rates.in_words(recipe.data.select)}.")
    if metrics:
        found += [_length(metrics), *_changes(recipe, metrics), _warned(warnings)]
    return found


def _gain(gain: Comparison, num_gains: int, confidence: float) -> str:
    """One of so many gains: what its interval shows, and whether that stands among all of them."""
    low, high = gain.interval
    shown = f"{in_percent(gain.difference, gain.interval, sign='+')} points"
    what = f"{gain.benchmark} ({gain.strategy}, {gain.decoding}, {gain.num_problems:,} problems)"
    if low <= 0 <= high:
        return f"On {what} no gain and no loss has been shown: {shown}."
    verb = "gained" if low > 0 else "lost"
    corrected = gain.p_value_holm
    if num_gains > 1 and corrected is not None and corrected >= 1 - confidence:
        return (
            f"On {what} training may have {verb} accuracy: {shown}, but of {num_gains} gains one may look so by chance "
            f"(p = {corrected:.2g} after Holm's correction): a hint, no proof."
        )
    return f"On {what} training {verb} accuracy: {shown}."


def _length(metrics: Sequence[StepMetrics]) -> str:
    total = spent(metrics)
    skipped = sum(line.update_skipped for line in metrics)
    also = f"; {skipped} updates were skipped, because a gradient was not a number" if skipped else ""
    return f"{total.steps:,} steps of training generated {total.tokens:,} tokens in {duration(total.seconds)}{also}."


def _changes(recipe: Recipe, metrics: Sequence[StepMetrics]) -> Iterator[str]:
    """How the figures of the first steps and those of the last ones differ."""
    figures: list[tuple[str, Figure, bool]] = [
        ("the reward", lambda line: line.reward, False),
        ("the accuracy of training answers", lambda line: line.accuracy, True),
        ("the share of malformed first rounds", lambda line: line.broken_form, True),
        ("the share of groups without a signal", lambda line: line.groups_without_signal, True),
        ("the length of openings in tokens", lambda line: line.mean_tokens.get("openings"), False),
    ]
    width = max(_LEAST_WINDOW, len(metrics) // _SHARE_OF_RUN)
    if len(metrics) < 2 * width:
        yield f"Fewer than {2 * width} steps are too few to compare the first ones with the last."
        return
    steady = []
    for name, figure, is_share in figures:
        change = _change(metrics, figure, width)
        if change is None:
            continue
        if change.is_sure(SIGMAS):
            yield _sentence(f"{name} {'rose' if change.size > 0 else 'fell'} from {_from_to(change, is_share)}")
        else:
            steady.append(name)
    if steady:
        yield _sentence(f"between the first and the last {width} steps no change was found in {_and(steady)}")
    if recipe.data.changes_problems:
        keys = _and([f"data.{key}" for key in ("skip", "curriculum") if getattr(recipe.data, key) is not None])
        yield (
            f"With {keys} the problems of the last steps are easier or harder ones than those of the first: a change "
            f"in reward or accuracy may be theirs, so judge by held-out accuracy."
        )


def _change(metrics: Sequence[StepMetrics], figure: Figure, width: int) -> Change | None:
    series = Series([line.step for line in metrics], [figure(line) for line in metrics])
    last = metrics[-1].step
    before, now = series.oldest(0, last, width), series.newest(last, width)
    return Change(before, now) if before and now else None


def _from_to(change: Change, is_share: bool) -> str:
    return " to ".join(
        f"{percent(span.mean) if is_share else format(span.mean, '.2f')} (steps {span.first} to {span.last})"
        for span in (change.before, change.now)
    )


def _warned(warnings: Sequence[Finding]) -> str:
    if not warnings:
        return "There was no warning."
    return f"Warnings, with remedies below: {', '.join(f'{each.name} (step {each.step})' for each in warnings)}."


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
