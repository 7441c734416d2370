"""Which figures of a run are drawn, and how."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from statistics import fmean

from motif_lite.runs.budget import spent
from motif_lite.runs.costs import Costs
from motif_lite.runs.records import Mark, StepMetrics
from motif_lite.views.charts import Chart, Line

_SMOOTHED_OVER = 15
"""The part of a run whose mean is drawn over its single steps."""

_DOTS_UP_TO = 60
"""Marks."""

Column = Mapping[str, Sequence[float | None]]
"""Of one figure: a value per step, by name of its parts."""


def of_run(metrics: Sequence[StepMetrics], marks: Sequence[Mark], preparing: Costs | None = None) -> list[Chart]:
    """All charts of a run, the most important first.

    Args:
        preparing: What was done before its first step took.
    """
    charts = [by_tokens(metrics, marks, preparing)] if metrics else []
    if len(marks) > 1:
        charts.append(_held_out(marks))
    return [*charts, *_by_step(metrics)] if metrics else charts


def tokens(metrics: Sequence[StepMetrics], preparing: Costs | None = None) -> list[int]:
    """Generated up to and with each step, what was done before them included."""
    sums = accumulate((sum(line.tokens.values()) for line in metrics), initial=spent((), preparing).tokens)
    return list(sums)[1:]


def by_tokens(metrics: Sequence[StepMetrics], marks: Sequence[Mark], preparing: Costs | None = None) -> Chart:
    """Accuracy in training against generated tokens, with held-out marks on top."""
    places = tokens(metrics, preparing)
    accuracies, width = [line.accuracy for line in metrics], _width(len(metrics))
    lines = [Line("training", list(zip(places, accuracies, strict=True)), is_faint=width > 1)]
    if width > 1:
        lines.append(Line(f"mean of {width} steps", list(zip(places, smoothed(accuracies), strict=True))))
    if marks:
        lines.append(marks_line("held out", [mark.tokens for mark in marks], marks))
    colours = {"training": 0, f"mean of {width} steps": 0, "held out": 1}
    return Chart("Accuracy by generated tokens", "tokens", "accuracy", lines, colours)


def smoothed(values: Sequence[float | None]) -> list[float | None]:
    """The mean of each value and those before it: over a fixed part of the run."""
    width = _width(len(values))
    windows = (values[max(0, place - width + 1) : place + 1] for place in range(len(values)))
    known = ([value for value in window if value is not None] for window in windows)
    return [fmean(window) if window else None for window in known]


def _width(num_steps: int) -> int:
    return max(1, num_steps // _SMOOTHED_OVER)


def _held_out(marks: Sequence[Mark]) -> Chart:
    line = marks_line("held out", [mark.seconds for mark in marks], marks)
    return Chart("Held-out accuracy by seconds of training", "seconds", "accuracy", [line], {line.name: 1})


def marks_line(name: str, places: Sequence[float], marks: Sequence[Mark]) -> Line:
    """Marks with their intervals."""
    points = [(place, mark.accuracy) for place, mark in zip(places, marks, strict=True)]
    return Line(name, points, [mark.interval for mark in marks], has_dots=len(marks) <= _DOTS_UP_TO)


def _by_step(metrics: Sequence[StepMetrics]) -> list[Chart]:
    reward: Column = {"total": [line.reward for line in metrics], **_columns([line.rewards for line in metrics])}
    plots: list[tuple[str, Column, str]] = [
        ("Reward and its parts", reward, "reward"),
        ("Right answer by round", _by_round([line.accuracy_by_round for line in metrics]), "share of trajectories"),
        ("Length of replies", _columns([line.mean_tokens for line in metrics]), "mean tokens"),
        ("Replies cut off", _columns([line.cut_off for line in metrics]), "share"),
        ("Seconds by phase", _columns([line.seconds for line in metrics]), "seconds"),
    ]
    if metrics[0].round_correct is not None:
        kept = _by_round([line.round_correct or () for line in metrics])
        plots.insert(2, ("Rounds that keep what was true", kept, "share of rounds"))
    steps = [line.step for line in metrics]
    return [Chart(title, "step", unit, _lines(steps, column)) for title, column, unit in plots]


def _lines(steps: Sequence[int], column: Column) -> list[Line]:
    return [Line(name, list(zip(steps, values, strict=True))) for name, values in column.items()]


def _columns(figures: Sequence[Mapping[str, float]]) -> dict[str, list[float | None]]:
    names = dict.fromkeys(name for step in figures for name in step)
    return {name: [step.get(name) for step in figures] for name in names}


def _by_round(figures: Sequence[Sequence[float | None]]) -> dict[str, list[float | None]]:
    most = max(map(len, figures))
    return {f"round {n + 1}": [step[n] if n < len(step) else None for step in figures] for n in range(most)}
