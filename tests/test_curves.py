"""Curves along training, with numbers that can be checked in the head."""

import pytest

from motif_lite.study import curves

RISE = [(0.0, 0.2), (100.0, 0.6), (200.0, 0.5)]


@pytest.mark.parametrize(
    ("cost", "accuracy"), [(-5, 0.2), (0, 0.2), (25, 0.3), (100, 0.6), (150, 0.55), (200, 0.5), (999, 0.5)]
)
def test_between_marks_a_curve_is_linear_and_beyond_them_it_stays(cost: float, accuracy: float) -> None:
    assert curves.at(RISE, cost) == pytest.approx(accuracy)


def test_two_marks_at_one_cost_are_a_jump() -> None:
    assert curves.at([(0, 0.1), (10, 0.2), (10, 0.4), (20, 0.4)], 10) == pytest.approx(0.4)


def test_a_mean_curve_is_exact_at_the_marks_of_every_seed() -> None:
    assert curves.mean([[(0, 0.0), (10, 1.0)], [(0, 0.0), (5, 0.5), (20, 0.8)]]) == [
        (0, 0.0), (5, pytest.approx(0.5)), (10, pytest.approx(0.8)), (20, pytest.approx(0.9)),
    ]  # fmt: skip


def test_a_curve_stays_somewhere_from_the_mark_after_the_last_that_is_lower() -> None:
    assert curves.stays_from(RISE, 0.5) == 1
    assert curves.stays_from(RISE, 0.2) == 0
    assert curves.stays_from(RISE, 0.55) is None, "it was there, and does not stay"
    assert curves.stays_from([(0, 0.2), (10, 0.6), (20, 0.4), (30, 0.6)], 0.5) == 3
