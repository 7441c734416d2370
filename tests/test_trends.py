"""Windows of steps, worked out by hand."""

import pytest

from motif_lite.monitor.trends import Series, Span

STEPS = list(range(1, 7))
FIGURES = Series(STEPS, [0.0, 2.0, 1.0, 5.0, 6.0, 7.0])
OVERALL = (4 + 1 + 16 + 1 + 1) / 2 / 5
"""Half the mean of the squared differences from step to step."""


def test_the_newest_window_ends_at_the_step_that_is_looked_at() -> None:
    assert FIGURES.newest(3, 2) == Span(2, 3, 1.5, (4 + 1) / 2 / 2, 2)
    assert FIGURES.newest(1, 2) is None


def test_a_windows_variance_is_never_less_than_that_from_step_to_step() -> None:
    quiet, wide = FIGURES.newest(6, 3), FIGURES.newest(6, 6)
    assert quiet is not None and wide is not None
    assert quiet.variance == pytest.approx(OVERALL), "within the window it is 1"
    assert wide.variance == pytest.approx(8.3), "the sample variance"
    assert wide.error == pytest.approx((8.3 / 6) ** 0.5)


def test_a_rise_is_measured_from_the_lowest_window_before_and_a_fall_from_the_highest() -> None:
    up, down = FIGURES.worst_change(6, 2, 1), FIGURES.worst_change(6, 2, -1)
    assert up is not None and down is not None
    assert (up.before.first, up.before.last, up.now.first, up.now.last, up.size) == (1, 2, 5, 6, 5.5)
    assert (down.before.first, down.before.last, down.size) == (3, 4, 3.5)
    assert FIGURES.worst_change(3, 2, 1) is None, "two windows do not fit"


def test_a_change_is_sure_beyond_so_many_standard_errors() -> None:
    change = FIGURES.worst_change(6, 2, 1)
    assert change is not None
    sigmas = 5.5 / (2 * OVERALL / 2) ** 0.5
    assert change.is_sure(sigmas - 0.01)
    assert not change.is_sure(sigmas + 0.01)


def test_the_highest_window_is_the_newest_of_equals() -> None:
    assert FIGURES.highest(3, 2).last == 3
    assert Series(STEPS, [1.0] * 6).highest(6, 2).last == 6, "not the first"


def test_steps_without_the_figure_are_left_out() -> None:
    series = Series(STEPS, [None, 2.0, None, 4.0, None, None])
    window = series.newest(6, 2)
    assert window == Span(2, 4, 3.0, 2.0, 2)
    assert series.mean(Span(1, 3, 0.0, 0.0, 3)) == 2.0
    assert series.mean(Span(5, 6, 0.0, 0.0, 2)) is None
    assert Series(STEPS, [None] * 6).newest(6, 1) is None


def test_the_oldest_window_begins_after_a_step_and_ends_before_another() -> None:
    window = FIGURES.oldest(2, 5, 2)
    assert window is not None
    assert (window.first, window.last) == (3, 4)
    assert FIGURES.oldest(2, 3, 2) is None
