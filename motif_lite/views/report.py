"""``report.html``: one self-contained page with the recipe, the accuracies and how training went.

Everything is escaped by Jinja: what a model wrote is text here, whatever it looks like. Plots are inline SVG.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from motif_lite import __version__
from motif_lite.figures import in_percent
from motif_lite.monitor import findings
from motif_lite.recipe.schema import Recipe
from motif_lite.runs import accounting
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.records import Evaluation, Mark, Measurement, RolloutLine, StepMetrics, Subject
from motif_lite.views.explorer import page
from motif_lite.views.formats import about_gains, gain, gib, printable, recipe_toml

_COLOURS = ("#2f6f9f", "#c8553d", "#3f8f5f", "#8a63a8", "#b08a2e")

Series = Mapping[str, Sequence[float | None]]


def write(recipe: Recipe, run: RunDirectory) -> None:
    """Write the report of whatever the run has so far."""
    metrics, marks = run.metrics(), run.marks()
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    environment.filters |= {"gib": gib, "accuracy": _accuracy}
    text = environment.get_template("report.html.j2").render(
        title=printable(run.root.name),
        version=__version__,
        recipe_toml=printable(recipe_toml(recipe)),
        confidence=recipe.evaluation.confidence,
        rows=_rows(run.evaluation(), recipe.evaluation.confidence),
        about_gains=about_gains(run.evaluation()),
        plots=[*_curves(marks), *(_plots(metrics) if metrics else [])],
        costs=accounting.of(run),
        planned=metrics[-1].planned_memory_bytes if metrics else {},
        samples=_samples(run, metrics),
        warnings=findings.diagnose(recipe, metrics, marks),
        explorer=page.PAGE if (run.root / page.PAGE).exists() else "",
    )
    run.write_report(text)


def _accuracy(found: Measurement) -> tuple[str, str]:
    """An accuracy, and its interval."""
    shown, _, interval = in_percent(found.accuracy, found.interval, unit=" %").partition(" [")
    return shown, f"[{interval}"


@dataclass(frozen=True, slots=True)
class _Row:
    """Of the evaluation table."""

    subject: Subject
    before: Measurement | None
    after: Measurement | None
    gain: str


def _rows(evaluation: Evaluation, confidence: float) -> list[_Row]:
    return [
        _Row(
            subject,
            evaluation.find(subject, "before"),
            evaluation.find(subject, "after"),
            gain(evaluation, subject, confidence),
        )
        for subject in evaluation.subjects()
    ]


def _plots(metrics: Sequence[StepMetrics]) -> list[tuple[str, str]]:
    """Titles with SVGs."""
    steps = [line.step for line in metrics]
    total: Series = {"total": [line.reward for line in metrics]}
    plots: list[tuple[str, Series, str]] = [
        ("Reward and its parts", {**_columns([line.rewards for line in metrics]), **total}, "reward"),
        ("Right answer by round", _by_round([line.accuracy_by_round for line in metrics]), "share of trajectories"),
        ("Length of replies", _columns([line.mean_tokens for line in metrics]), "mean tokens"),
        ("Replies cut off", _columns([line.cut_off for line in metrics]), "share"),
        ("Seconds by phase", _columns([line.seconds for line in metrics]), "seconds"),
    ]
    if metrics[0].round_correct is not None:
        kept = _by_round([line.round_correct or () for line in metrics])
        plots.insert(2, ("Rounds that keep what was true", kept, "share of rounds"))
    return [(title, _svg(steps, series, unit)) for title, series, unit in plots]


def _columns(figures: Sequence[Mapping[str, float]]) -> dict[str, list[float | None]]:
    names = dict.fromkeys(name for step in figures for name in step)
    return {name: [step.get(name) for step in figures] for name in names}


def _by_round(figures: Sequence[Sequence[float | None]]) -> dict[str, list[float | None]]:
    return {f"round {index + 1}": [step[index] for step in figures] for index in range(len(figures[0]))}


def _curves(marks: Sequence[Mark]) -> list[tuple[str, str]]:
    """Accuracy on held-out problems against what training took, with intervals."""
    if len(marks) < 2:
        return []
    tokens, seconds = [mark.tokens for mark in marks], [mark.seconds for mark in marks]
    return [
        ("Held-out accuracy by generated tokens", _curve(tokens, marks, "generated tokens")),
        ("Held-out accuracy by seconds of training", _curve(seconds, marks, "seconds of training")),
    ]


def _curve(taken: Sequence[float], marks: Sequence[Mark], label: str) -> str:
    figure, axes = _canvas()
    low, high = zip(*(mark.interval for mark in marks), strict=True)
    axes.fill_between(taken, low, high, color=_COLOURS[0], alpha=0.2, linewidth=0)
    axes.plot(taken, [mark.accuracy for mark in marks], color=_COLOURS[0], linewidth=1.5, marker=".")
    axes.set_xlabel(label)
    axes.set_ylabel("accuracy")
    axes.xaxis.set_major_formatter(EngFormatter())
    return _drawn(figure)


def _svg(steps: Sequence[int], series: Series, unit: str) -> str:
    figure, axes = _canvas()
    for colour, (name, values) in zip(cycle(_COLOURS), series.items(), strict=False):
        points = [float("nan") if value is None else value for value in values]
        axes.plot(steps, points, label=name, color=colour, linewidth=1.5, marker="." if len(steps) < 40 else "")
    axes.set_xlabel("step")
    axes.set_ylabel(unit)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(series) > 1:
        axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return _drawn(figure)


def _canvas() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.6, 2.8))
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    return figure, axes


def _drawn(figure: Figure) -> str:
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", bbox_inches="tight", metadata={"Date": None})
    return drawn.getvalue()[drawn.getvalue().index("<svg") :]


@dataclass(frozen=True, slots=True)
class _Sample:
    """An opening with its first future, to be shown."""

    question: str
    gold: str
    rewards: str
    rounds: list[str]
    num_right: int
    num_futures: int


def _samples(run: RunDirectory, metrics: Sequence[StepMetrics]) -> list[_Sample]:
    """Openings of the last step: with the highest, the middle and the lowest reward."""
    if not metrics:
        return []
    ranked = sorted(run.rollouts_of(metrics[-1].step), key=lambda line: sum(line.rewards.values()))
    places = dict.fromkeys((len(ranked) - 1, len(ranked) // 2, 0)) if ranked else {}
    return [_sample(ranked[place]) for place in places]


def _sample(line: RolloutLine) -> _Sample:
    return _Sample(
        question=printable(line.question),
        gold=printable(line.gold),
        rewards=", ".join(f"{name} {value:.2f}" for name, value in line.rewards.items()),
        rounds=[printable(turn.reply) for turn in (line.opening, *line.futures[0].rounds)],
        num_right=sum(future.correct for future in line.futures),
        num_futures=len(line.futures),
    )
