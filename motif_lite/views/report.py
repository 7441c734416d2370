"""``report.html``: one self-contained page with the recipe, the accuracies and how training went.

Everything is escaped by Jinja: what a model wrote is text here, whatever it looks like. Plots are inline SVG.
"""

import io
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from motif_lite import __version__
from motif_lite.monitor import findings
from motif_lite.recipe.schema import Recipe
from motif_lite.runs import accounting
from motif_lite.runs.directory import RunDirectory
from motif_lite.views.formats import gain, gib, measured, printable, recipe_toml

_COLOURS = ("#2f6f9f", "#c8553d", "#3f8f5f", "#8a63a8", "#b08a2e")

Series = Mapping[str, Sequence[float | None]]


def write(recipe: Recipe, run: RunDirectory) -> None:
    """Write the report of whatever the run has so far."""
    metrics, marks = run.metrics(), run.marks()
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    environment.filters["gib"] = gib
    page = environment.get_template("report.html.j2").render(
        title=printable(run.root.name),
        version=__version__,
        recipe_toml=printable(recipe_toml(recipe)),
        confidence=recipe.evaluation.confidence,
        rows=_rows(run.evaluation()),
        plots=[*_curves(marks), *(_plots(metrics) if metrics else [])],
        costs=accounting.of(run),
        planned=metrics[-1].get("planned_memory_bytes", {}) if metrics else {},
        samples=_samples(run, metrics),
        warnings=findings.diagnose(recipe, metrics, marks),
    )
    run.write_report(page)


def _rows(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The evaluation table: a row per benchmark, strategy and decoding."""
    return [
        {
            "benchmark": benchmark,
            "strategy": strategy,
            "decoding": decoding,
            "before": _result(evaluation, benchmark, "before", strategy, decoding),
            "after": _result(evaluation, benchmark, "after", strategy, decoding),
            "gain": gain(dict(evaluation), benchmark, strategy, decoding),
        }
        for benchmark, strategy, decoding in measured(dict(evaluation))
    ]


def _result(evaluation: Mapping[str, Any], benchmark: str, when: str, strategy: str, decoding: str) -> Any:
    return evaluation["benchmarks"][benchmark].get(when, {}).get(strategy, {}).get(decoding)


def _plots(metrics: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Titles with SVGs."""
    steps = [line["step"] for line in metrics]
    plots: list[tuple[str, Series, str]] = [
        ("Reward and its parts", _columns(metrics, "rewards") | {"total": [m["reward"] for m in metrics]}, "reward"),
        ("Right answer by round", _lists(metrics, "accuracy_by_round"), "share of trajectories"),
        ("Length of replies", _columns(metrics, "mean_tokens"), "mean tokens"),
        ("Replies cut off", _columns(metrics, "cut_off"), "share"),
        ("Seconds by phase", _columns(metrics, "seconds"), "seconds"),
    ]
    if "round_correct" in metrics[0]:
        plots.insert(2, ("Rounds that keep what was true", _lists(metrics, "round_correct"), "share of rounds"))
    return [(title, _svg(steps, series, unit)) for title, series, unit in plots]


def _columns(metrics: Sequence[Mapping[str, Any]], key: str) -> dict[str, list[float | None]]:
    names = dict.fromkeys(name for line in metrics for name in line[key])
    return {name: [line[key].get(name) for line in metrics] for name in names}


def _lists(metrics: Sequence[Mapping[str, Any]], key: str) -> dict[str, list[float | None]]:
    return {f"round {index + 1}": [line[key][index] for line in metrics] for index in range(len(metrics[0][key]))}


def _curves(marks: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Accuracy on held-out problems against what training took, with intervals."""
    if len(marks) < 2:
        return []
    axes = [("generated tokens", "tokens"), ("seconds of training", "seconds")]
    return [(f"Held-out accuracy by {label}", _curve([m[key] for m in marks], marks, label)) for label, key in axes]


def _curve(taken: Sequence[float], marks: Sequence[Mapping[str, Any]], label: str) -> str:
    figure, axes = _canvas()
    low, high = zip(*(mark["interval"] for mark in marks), strict=True)
    axes.fill_between(taken, low, high, color=_COLOURS[0], alpha=0.2, linewidth=0)
    axes.plot(taken, [mark["accuracy"] for mark in marks], color=_COLOURS[0], linewidth=1.5, marker=".")
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


def _samples(run: RunDirectory, metrics: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Openings of the last step: with the highest, the middle and the lowest reward."""
    if not metrics:
        return []
    last = run.rollouts_of(metrics[-1]["step"])
    ranked = sorted(last, key=lambda line: sum(line["rewards"].values()))
    places = dict.fromkeys((len(ranked) - 1, len(ranked) // 2, 0)) if ranked else {}
    return [
        {
            "question": printable(line["question"]),
            "gold": printable(line["gold"]),
            "rewards": ", ".join(f"{name} {value:.2f}" for name, value in line["rewards"].items()),
            "rounds": [printable(line["opening"]["reply"])]
            + [printable(turn["reply"]) for turn in line["futures"][0]["rounds"]],
            "num_right": sum(future["correct"] for future in line["futures"]),
            "num_futures": len(line["futures"]),
        }
        for line in (ranked[place] for place in places)
    ]
