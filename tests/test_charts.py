"""Charts as SVG: they are well formed, show their values on pointing, and stay small for long runs."""

from xml.etree import ElementTree

import pytest

from motif_lite.views.charts import HEIGHT, NUM_COLOURS, WIDTH, Chart, Line, number
from motif_lite.views.plots import of_run, smoothed
from tests import records

SVG = "{http://www.w3.org/2000/svg}"


def parsed(chart: Chart) -> ElementTree.Element:
    return ElementTree.fromstring(chart.svg)


def titles(chart: Chart) -> list[str]:
    return [title.text or "" for title in parsed(chart).iter("title")]


def test_each_step_shows_the_values_of_all_lines_there() -> None:
    lines = [Line("one", [(1, 0.5), (2, None), (3, 0.25)]), Line("<b>&", [(1, 10.0), (2, 20.0)])]
    chart = Chart('a "title"', "step", "share", lines)
    assert titles(chart) == ["step 1\none: 0.5\n<b>&: 10", "step 2\n<b>&: 20", "step 3\none: 0.25"]
    assert chart.keys == [("one", 0), ("<b>&", 1)]


def test_marks_show_their_interval_and_their_band_is_drawn() -> None:
    line = Line("held out", [(100, 0.25), (200, 0.5)], [(0.125, 0.375), (0.375, 0.625)], has_dots=True)
    chart = Chart("t", "tokens", "accuracy", [line])
    assert titles(chart) == ["tokens 100\nheld out: 0.25 [0.125, 0.375]", "tokens 200\nheld out: 0.5 [0.375, 0.625]"]
    assert [path.get("class") for path in parsed(chart).iter("path")].count("band") == 1
    assert chart.keys == [], "one line needs no legend"


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [Line("empty", [])],
        [Line("nothing known", [(1, None), (2, None)])],
        [Line("one point", [(5, 1e-12)])],
        [Line("flat", [(step, 3.0) for step in range(9)])],
        [Line("large", [(1, -1e12), (10**9, 1e12)])],
        [Line(f"line {n}", [(1, float(n)), (2, 0.0)]) for n in range(2 * NUM_COLOURS)],
    ],
)
def test_whatever_there_is_to_draw_stays_within_the_drawing(lines: list[Line]) -> None:
    root = parsed(Chart("t", "x", "y", lines))
    for circle in root.iter("circle"):
        assert 0 <= float(circle.get("cx", -1)) <= WIDTH
    for rect in root.iter("rect"):
        assert 0 <= float(rect.get("x", -1)) <= float(rect.get("x", -1)) + float(rect.get("width", -1)) <= WIDTH
    for text in root.iter("text"):
        assert 0 <= float(text.get("y", -1)) <= HEIGHT
    assert "nan" not in ElementTree.tostring(root, encoding="unicode").lower()


def test_a_label_at_the_end_of_the_axis_is_whole() -> None:
    """A digit is about 7 units wide."""
    root = parsed(Chart("t", "tokens", "y", [Line("one", [(0, 1.0), (150_000, 2.0)])]))
    [label] = [text for text in root.iter("text") if text.text == "150k"]
    assert float(label.get("x", WIDTH)) + 7 * len("150k") / 2 <= WIDTH


def test_a_run_of_thousands_of_steps_makes_a_page_that_is_not_large() -> None:
    steps = [records.step(n, reward=n % 7, rewards={"a": n % 5}, share_done=n / 4000) for n in range(1, 4001)]
    charts = of_run(steps, [records.mark(n) for n in range(0, 4001, 400)])
    assert sum(len(chart.svg) for chart in charts) < 1_500_000
    assert all(len(titles(chart)) <= 131 for chart in charts)


def test_means_go_over_a_fifteenth_of_the_run_and_leave_out_what_is_not_known() -> None:
    assert smoothed([1.0, None, 3.0]) == [1.0, None, 3.0]
    values = [0.0, 1.0] * 15
    assert smoothed([*values]) == [0.0, *[0.5] * 29]
    assert smoothed([None, None, *values[2:]])[:3] == [None, None, 0.0]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.12345, "0.1235"), (9999, "9999"), (12500, "12.5k"), (3_200_000, "3.2M"), (-2e9, "-2G")],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text
