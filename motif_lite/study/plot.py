"""A study's figures as SVG: accuracy along training, means over seeds with bands. The same figures, the same bytes."""

import io
from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from motif_lite.evaluation import intervals
from motif_lite.study import curves
from motif_lite.study.curves import Curve
from motif_lite.study.results import Json

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
    end = sum(curve[-1][0] for curve in known) / len(known)
    grid = [end * place / (_GRID_POINTS - 1) for place in range(_GRID_POINTS)]
    columns = [[100 * curves.at(curve, cost) for curve in known] for cost in grid]
    axes.plot(grid, [sum(column) / len(column) for column in columns], label=label, color=colour, linestyle=style)
    axes.plot([end], [sum(columns[-1]) / len(known)], marker="o", markersize=4, color=colour)
    if len(known) == 1:
        return ""
    bounds = [_band(column, confidence) for column in columns]
    low, high = [max(0.0, low) for low, _ in bounds], [min(100.0, high) for _, high in bounds]
    axes.fill_between(grid, low, high, color=colour, alpha=0.12, linewidth=0)
    return f"{100 * confidence:g} % t interval over seeds" if len(known) > 2 else "lowest to highest of two seeds"


def _band(column: Sequence[float], confidence: float) -> tuple[float, float]:
    interval = intervals.over_seeds(column, confidence)["interval"] if len(column) > 2 else None
    return (interval[0], interval[1]) if isinstance(interval, list) else (min(column), max(column))


def _legend_of(bands: set[str]) -> str:
    return f"\n(bands: {'; '.join(sorted(filter(None, bands)))})" if any(bands) else ""
