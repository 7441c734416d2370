"""A study's figures as SVG: accuracy along training, means over seeds with bands. The same figures, the same bytes."""

import io
from collections.abc import Sequence

import matplotlib
import numpy
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from motif_lite.evaluation import differences
from motif_lite.study import curves
from motif_lite.study.catching_up import Json
from motif_lite.study.curves import Curve

_COLOURS = (
    "#2f6f9f", "#c8553d", "#3f8f5f", "#8a63a8", "#b08a2e", "#4fb3bf", "#d17fa9", "#6b6b6b", "#8fae3a", "#9c5b34",
)  # fmt: skip
_GRID_POINTS = 101


def by_tokens(found: Json) -> str:
    """plot.svg: validation accuracy against tokens generated in training; the untrained as lines."""
    marks = {name: [seed["marks"] for seed in v["seeds"].values()] for name, v in found["variants"].items()}
    labels = {name: _label(variant) for name, variant in found["variants"].items()}
    levels = {
        name: variant["accuracy"]["mean"]
        for name, variant in found["variants"].items()
        if not variant["trains"] and variant["accuracy"]["mean"] is not None
    }
    return _drawn(found["title"], "tokens generated in training", marks, labels, levels, found["confidence"])


def by_seconds(found: Json, cost: Json) -> str:
    """seconds.svg: the same against seconds of training."""
    marks = {name: [seed["marks"] for seed in v["seeds"].values()] for name, v in cost["variants"].items()}
    labels = {name: _label(variant) for name, variant in found["variants"].items()}
    return _drawn(found["title"], "seconds of training", marks, labels, {}, found["confidence"])


def _label(variant: Json) -> str:
    mean = variant["accuracy"]["mean"]
    return str(variant["label"]) if mean is None else f"{variant['label']}: {100 * mean:.1f} %"


def _drawn(
    title: str,
    unit: str,
    marks: dict[str, list[Curve]],
    labels: dict[str, str],
    levels: dict[str, float],
    confidence: float,
) -> str:
    bands: set[str] = set()
    with matplotlib.rc_context({"svg.hashsalt": "motif_lite"}):  # names of parts of the figure are else drawn at random
        figure = Figure(figsize=(8.4, 4.6))
        axes = figure.subplots()
        for place, name in enumerate(marks):  # a variant keeps its colour while others are not done yet
            colour, style = _COLOURS[place % len(_COLOURS)], "-" if place < len(_COLOURS) else "--"
            if name in levels:
                axes.axhline(100 * levels[name], color=colour, linestyle=":", linewidth=1.5, label=labels[name])
            elif known := [curve for curve in marks[name] if curve]:
                bands.add(_curve(axes, known, labels[name], colour, style, confidence))
        axes.set_title(title, loc="left", fontsize=11)
        axes.set_xlabel(f"{unit}{_legend_of(bands)}")
        axes.set_ylabel("validation accuracy, %")
        axes.set_ylim(-2, 102)
        axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(
                title="final test accuracy", fontsize=8, title_fontsize=8, frameon=False, loc="center left",
                bbox_to_anchor=(1.0, 0.5),
            )  # fmt: skip
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", bbox_inches="tight", metadata={"Date": None})
    return drawn.getvalue()


def _curve(axes: Axes, known: Sequence[Curve], label: str, colour: str, style: str, confidence: float) -> str:
    """The mean with its band, on a common grid; returns what the band is."""
    grid = numpy.linspace(curves.start(*known), sum(curve[-1][0] for curve in known) / len(known), _GRID_POINTS)
    percent = 100 * numpy.array([[curves.at(curve, cost) for cost in grid] for curve in known])
    mean = percent.mean(0)
    axes.plot(grid, mean, label=label, color=colour, linestyle=style)
    axes.plot(grid[-1:], mean[-1:], marker="o", markersize=4, color=colour)
    if len(known) == 1:
        return ""
    low, high = zip(*(_band(point, confidence) for point in percent.T / 100), strict=True)
    axes.fill_between(grid, 100 * numpy.array(low), 100 * numpy.array(high), color=colour, alpha=0.12, linewidth=0)
    return f"{100 * confidence:g} % t interval over seeds" if len(known) > 2 else "lowest to highest of two seeds"


def _band(accuracies: numpy.ndarray, confidence: float) -> tuple[float, float]:
    """Bounds at a point of the grid, from the accuracies of the seeds."""
    interval = differences.accuracy_over_seeds(accuracies.tolist(), confidence).interval
    if interval is None or len(accuracies) < 3:
        return float(accuracies.min()), float(accuracies.max())
    return interval


def _legend_of(bands: set[str]) -> str:
    return f"\n(bands: {'; '.join(sorted(filter(None, bands)))})" if any(bands) else ""
