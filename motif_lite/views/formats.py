"""Figures, durations and replies as text: what the console, the tables and the report share.

What a model writes is shown as text and nothing else: no markup of it is interpreted, and control characters are
made visible, so that a reply cannot drive the terminal.
"""

import math
from collections.abc import Iterable

import tomli_w
from rich.console import Console
from rich.text import Text

from motif_lite.evaluation.best_mark import BestMark
from motif_lite.figures import in_percent
from motif_lite.planning.machine import GIB
from motif_lite.recipe.schema import Recipe
from motif_lite.runs.records import Evaluation, Mark, Measurement, StepMetrics, Subject

_SPARKS = "▁▂▃▄▅▆▇█"


def print_text(console: Console, text: str) -> None:
    """Print text as it is: no markup in it is interpreted, no control character gets through, no line is broken."""
    console.print(Text(printable(text)), soft_wrap=True)


def expected_steps(metrics: StepMetrics) -> int:
    """Steps of the whole run: of its limit, or as many as will spend its budget if all are like those so far."""
    return round(metrics.step / metrics.share_done) if metrics.share_done else metrics.step


def mark_line(mark: Mark) -> str:
    """A measurement along the way on one line."""
    return (
        f"held out, step {mark.step}: {in_percent(mark.accuracy, mark.interval, unit=' %')} after "
        f"{mark.tokens:,} tokens, {duration(mark.seconds)}"
    )


def best_mark_line(found: BestMark, kept: int | None, *, is_trained: bool) -> str:
    """Which adapter to use, and why, in a sentence.

    Args:
        kept: The step of ``adapter_best/``; None where it is not there.
        is_trained: The run has come to its end, so that there is another one.
    """
    best, last = found.best, found.last
    if not is_trained:
        where = ", its adapter is in adapter_best/" if kept == best.step else ""
        return f"held out, the best mark so far is that of step {best.step} ({percent(best.accuracy)}){where}"
    if best is last:
        return f"held out, the last mark is the best one ({percent(last.accuracy)}): use adapter/"
    compared = (
        f"step {best.step} ({percent(best.accuracy)}) against the last, step {last.step} ({percent(last.accuracy)})"
    )
    if found.difference is None:
        return f"held out, {compared}: not compared, as an early version measured one of them; use adapter/"
    counts = f"{found.difference.num_better} problems won, {found.difference.num_worse} lost"
    told = f"p = {found.p_value:.2g}, corrected for the choice from {found.num_others + 1} marks"
    if found.is_better:
        use = "use adapter_best/" if kept == best.step else "its adapter was not kept; use that of a checkpoint near it"
        return f"held out, {compared}: {counts}, more than noise ({told}): {use}"
    return f"held out, {compared}: {counts}, not more than noise ({told}): use adapter/"


def step_line(metrics: StepMetrics) -> str:
    """One step on one line."""
    shown = ", ".join(f"{name} {value}" for name, value in facts(metrics))
    return (
        f"step {metrics.step}/{expected_steps(metrics)}: reward {metrics.reward:.2f}, "
        f"accuracy {percent(metrics.accuracy)}, {shown}"
    )


def gain(evaluation: Evaluation, subject: Subject, confidence: float) -> str:
    """The paired gain in points with its interval; empty where it was not measured.

    An asterisk marks one of several that differs from zero after Holm's correction for all of them (`about_gains`).
    """
    found = evaluation.gain(subject)
    if found is None:
        return ""
    stands = found.p_value_holm is not None and found.p_value_holm < 1 - confidence
    return in_percent(found.difference, found.interval, sign="+") + " *" * (stands and len(evaluation.comparisons) > 1)


def about_gains(evaluation: Evaluation) -> str:
    """What the asterisk of a gain says; empty where there is one gain or none, or where it was not computed."""
    number = len(evaluation.comparisons)
    if number < 2 or any(each.p_value_holm is None for each in evaluation.comparisons):
        return ""
    return f"* also after Holm's correction over {number} gains; a gain without * is a hint"


def accuracy_with_cost(found: Measurement) -> str:
    """An accuracy with its interval and cost."""
    shown = in_percent(found.accuracy, found.interval, unit=" %")
    return f"{shown}, {found.generated_tokens:,} tokens, {found.seconds:.0f} s"


def gib(num_bytes: int) -> str:
    """Bytes as GiB: ``1.3``, or ``0.07`` where that is little."""
    size = num_bytes / GIB
    return f"{size:.1f}" if size >= 0.1 else f"{size:.2f}"


def recipe_toml(recipe: Recipe) -> str:
    """The resolved recipe as TOML; keys without a value are left out, and a table of files that holds none."""
    return tomli_w.dumps(recipe.model_dump(exclude_none=True, exclude=None if recipe.code else {"code"}))


def sparkline(values: Iterable[float], width: int) -> str:
    """A line of bars, scaled to the values' own range."""
    shown = list(values)[-width:]
    low, high = min(shown, default=0.0), max(shown, default=0.0)
    span = high - low
    shares = [(value - low) / span if 0 < span < math.inf else 0.0 for value in shown]
    return "".join(_SPARKS[round(share * (len(_SPARKS) - 1))] for share in shares)


def percent(value: float) -> str:
    """``43.2 %``."""
    return f"{100 * value:.1f} %"


def duration(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def printable(text: str) -> str:
    """Text that cannot drive a terminal: control characters and lone surrogates become visible signs."""
    return "".join(char if char == "\n" or char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def excerpt(text: str, num_lines: int, width: int) -> Text:
    """The beginning of a text, without markup, in at most so many lines."""
    flat = printable(" ⏎ ".join(text[: num_lines * width].split("\n")))
    room = num_lines * max(20, width - 18)
    return Text(flat if len(flat) <= room else flat[: room - 1] + "…")


def facts(metrics: StepMetrics) -> list[tuple[str, str]]:
    """The figures of a step worth showing, with their names."""
    shown = [("right by round", by_round(metrics.accuracy_by_round))]
    if metrics.round_correct is not None:
        shown.append(("rounds kept true", by_round(metrics.round_correct)))
    shown += [
        ("groups without signal", percent(metrics.groups_without_signal)),
        *([("groups refilled", str(metrics.groups_refilled))] if metrics.groups_refilled else []),
        ("broken form", percent(metrics.broken_form)),
        ("cut off, openings / futures", " / ".join(percent(value) for value in metrics.cut_off.values())),
        ("seconds", " + ".join(f"{name} {value:.1f}" for name, value in metrics.seconds.items())),
    ]
    planned, peaks = metrics.planned_memory_bytes, metrics.peak_memory_bytes
    memory = ", ".join(f"{gib(peaks[phase])} of {gib(size)}" for phase, size in planned.items() if phase in peaks)
    if memory:
        shown.append(("GiB used of planned", memory))
    return shown


def by_round(values: Iterable[float | None]) -> str:
    """Accuracies by round: ``12 / 40 / 75 %``."""
    return " / ".join("-" if value is None else f"{100 * value:.0f}" for value in values) + " %"


def confidence_in_words(recipe: Recipe) -> str:
    """``95 %``."""
    return f"{100 * recipe.evaluation.confidence:g} %"
