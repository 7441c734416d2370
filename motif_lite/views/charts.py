"""Line charts as inline SVG: no script, no font, no network; where the pointer is, a title shows the values there.

Colours are the page's: a line has the class ``s0``, ``s1``, ... of style.css.j2, so one drawing suits a light page, a
dark one and paper.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

WIDTH, HEIGHT = 420, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 18, 10, 36

_MOST_STRIPS = 120
"""Places along a chart that show their values: more cannot be pointed at."""

NUM_COLOURS = 6


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a chart.

    Attributes:
        points: x and y, in the order of x; None where there is no value.
        band: Lowest and highest value at each point; None without.
        has_dots: Each point is drawn, and has a title of its own.
        is_faint: In the background of others.
    """

    name: str
    points: Sequence[tuple[float, float | None]]
    band: Sequence[tuple[float, float]] | None = None
    has_dots: bool = False
    is_faint: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure of a page.

    Attributes:
        unit: What is on the y axis.
        colours: By name of a line; by default in their order.
    """

    title: str
    x_label: str
    unit: str
    lines: Sequence[Line]
    colours: Mapping[str, int] | None = None

    @property
    def keys(self) -> list[tuple[str, int]]:
        """Names of lines with their colours; none where there is one line."""
        return [(line.name, self._colour(line)) for line in self.lines] if len(self.lines) > 1 else []

    @property
    def svg(self) -> str:
        """The drawing."""
        return "".join(_drawn(self, self._colour))

    def _colour(self, line: Line) -> int:
        return (self.colours or {}).get(line.name, list(self.lines).index(line)) % NUM_COLOURS


class _Scale:
    """Values to places, along one axis."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        if high - low < 1e-9 * max(1.0, abs(high)):
            low, high = low - (abs(low) or 1) * 0.5, high + (abs(high) or 1) * 0.5
        self.low, self.high, self._start, self._end = low, high, start, end

    def __call__(self, value: float) -> float:
        return self._start + (value - self.low) / (self.high - self.low) * (self._end - self._start)

    def ticks(self, most: int) -> list[float]:
        """Round numbers within the scale."""
        raw = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
        first = math.ceil(self.low / step - 1e-9)
        return [number * step for number in range(first, math.floor(self.high / step + 1e-9) + 1)]


def number(value: float) -> str:
    """A value as a reader takes it in: ``0.123``, ``12.5k``, ``3.2M``."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'k' else size):.4g}{letter}"
    return f"{value:.4g}"


def _drawn(chart: Chart, colour: Callable[[Line], int]) -> Iterator[str]:
    ys = [y for line in chart.lines for _, y in line.points if y is not None]
    ys += [end for line in chart.lines for ends in line.band or () for end in ends]
    x = _Scale([x for line in chart.lines for x, _ in line.points], _LEFT, WIDTH - _RIGHT)
    y = _Scale(ys, HEIGHT - _BOTTOM, _TOP)
    label = escape(f"{chart.title}: {chart.unit} by {chart.x_label}")
    yield f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
    yield from _axes(chart, x, y)
    for line in chart.lines:
        yield f'<g class="s{colour(line)}">'
        yield from _line(line, x, y)
        yield "</g>"
    yield from _strips(chart, x)
    for line in (each for each in chart.lines if each.has_dots):
        yield f'<g class="s{colour(line)}">'
        yield from _dots(chart, line, x, y)
        yield "</g>"
    yield "</svg>"


def _axes(chart: Chart, x: _Scale, y: _Scale) -> Iterator[str]:
    bottom = HEIGHT - _BOTTOM
    for value in y.ticks(5):
        yield f'<path class="grid" d="M{_LEFT} {y(value):.1f}H{WIDTH - _RIGHT}"/>'
        yield f'<text x="{_LEFT - 5}" y="{y(value) + 4:.1f}" text-anchor="end">{number(value)}</text>'
    yield f'<path class="axis" d="M{_LEFT} {bottom}H{WIDTH - _RIGHT}"/>'
    for value in x.ticks(5):
        yield f'<text x="{x(value):.1f}" y="{bottom + 14}" text-anchor="middle">{number(value)}</text>'
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    yield f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(chart.x_label)}</text>'
    turned = f'transform="rotate(-90 11 {HEIGHT / 2 - 10})"'
    yield f'<text x="11" y="{HEIGHT / 2 - 10}" text-anchor="middle" {turned}>{escape(chart.unit)}</text>'


def _line(line: Line, x: _Scale, y: _Scale) -> Iterator[str]:
    if line.band:
        ends = list(zip((x(place) for place, _ in line.points), line.band, strict=True))
        upper = [f"{place:.1f} {y(high):.1f}" for place, (_, high) in ends]
        lower = [f"{place:.1f} {y(low):.1f}" for place, (low, _) in reversed(ends)]
        yield f'<path class="band" d="M{"L".join(upper + lower)}Z"/>'
    pieces = list[list[str]]([[]])
    for place, value in line.points:
        if value is None:
            pieces.append([])
        else:
            pieces[-1].append(f"{x(place):.1f} {y(value):.1f}")
    path = "".join(f"M{'L'.join(piece if len(piece) > 1 else piece * 2)}" for piece in pieces if piece)
    if path:
        yield f'<path class="line{" faint" if line.is_faint else ""}" stroke-linecap="round" d="{path}"/>'


def _dots(chart: Chart, line: Line, x: _Scale, y: _Scale) -> Iterator[str]:
    for place, (at, value) in enumerate(line.points):
        if value is not None:
            band = f" [{number(line.band[place][0])}, {number(line.band[place][1])}]" if line.band else ""
            title = escape(f"{chart.x_label} {number(at)}\n{line.name}: {number(value)}{band}")
            yield f'<circle class="dot" cx="{x(at):.1f}" cy="{y(value):.1f}" r="3.5"><title>{title}</title></circle>'


def _strips(chart: Chart, x: _Scale) -> Iterator[str]:
    """Places along the x axis whose title has the values of all lines there, those with dots aside."""
    lines = [line for line in chart.lines if not line.has_dots]
    places = sorted({at for line in lines for at, _ in line.points})
    shown = places[:: max(1, math.ceil(len(places) / _MOST_STRIPS))]
    by_name = {line.name: dict(line.points) for line in lines}
    edges = [_LEFT, *((x(one) + x(other)) / 2 for one, other in pairwise(shown)), WIDTH - _RIGHT]
    for at, (left, right) in zip(shown, pairwise(edges), strict=True) if shown else ():
        values = [(name, points.get(at)) for name, points in by_name.items()]
        told = [f"{name}: {number(value)}" for name, value in values if value is not None]
        title = escape("\n".join([f"{chart.x_label} {number(at)}", *told]))
        yield (
            f'<rect class="strip" x="{left:.1f}" y="{_TOP}" width="{right - left:.1f}" '
            f'height="{HEIGHT - _BOTTOM - _TOP}"><title>{title}</title></rect>'
        )
