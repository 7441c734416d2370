"""How soon a variant is where the reference ends, with curves whose marks can be read off."""

from math import sqrt

import pytest

from motif_lite.study.catching_up import Json, catching_up, noise
from motif_lite.study.curves import Curve

N = 400
RISING: Curve = [(0, 0.2), (10, 0.4), (20, 0.5), (30, 0.58), (40, 0.6)]
"""Within two standard errors of its end, 6.9 points, from 30 on."""


def reach(own: list[Curve], reference: list[Curve], num_problems: int = N) -> Json:
    mine, its = ({str(seed): curve for seed, curve in enumerate(curves)} for curves in (own, reference))
    found: Json = catching_up(mine, its, num_problems, 0.95)["reach"]
    return found


def scaled(curve: Curve, by: float) -> Curve:
    return [(by * cost, accuracy) for cost, accuracy in curve]


def test_a_twin_of_the_reference_takes_all_that_the_reference_takes() -> None:
    found = reach([RISING] * 3, [RISING] * 3)
    assert found["share"] == pytest.approx(1)
    assert found["interval"] == pytest.approx([20 / 30, 30 / 20]), "marks say no more, though the seeds agree"


def test_each_seed_is_held_against_its_own_reference() -> None:
    """On the second seed everything costs ten times as much: that is no difference between the two."""
    found = reach([scaled(RISING, 0.5), scaled(RISING, 5)], [RISING, scaled(RISING, 10)])
    assert found["share"] == pytest.approx(0.5)


def test_the_interval_is_of_the_logarithm_and_widened_by_the_marks() -> None:
    found = reach([scaled(RISING, by) for by in (0.5, 1, 2)], [RISING] * 3)
    assert found["share"] == pytest.approx(1), "a geometric mean"
    wide = 2 ** (4.3027 / sqrt(3))  # one standard deviation is a factor of 2
    assert found["interval"] == pytest.approx([20 / 30 / wide, 30 / 20 * wide], rel=1e-3)


def test_to_be_there_once_is_not_enough() -> None:
    dips = [(0, 0.2), (10, 0.6), (20, 0.4), (30, 0.5), (40, 0.6)]
    assert reach([dips], [RISING])["share"] == pytest.approx(40 / 30)
    falls = [(0, 0.2), (10, 0.6), (20, 0.6), (30, 0.6), (40, 0.5)]
    assert reach([falls, RISING], [RISING] * 2) == {"num_seeds": 2, "num_in_noise": 0, "num_reached": 1}


def test_a_goal_within_noise_of_the_start_is_no_goal() -> None:
    flat = [(0, 0.5), (10, 0.51), (20, 0.6)]
    assert reach([RISING] * 2, [RISING, flat]) == {"num_seeds": 2, "num_in_noise": 1}
    assert reach([RISING], [RISING], num_problems=20)["num_in_noise"] == 1, "20 problems do not tell 20 from 60 %"


def test_what_is_there_at_the_first_mark_may_have_been_there_at_once() -> None:
    fast = [(0, 0.2), (10, 0.9), (40, 0.9)]
    found = reach([fast] * 2, [RISING] * 2)
    assert (found["share"], found["interval"]) == (pytest.approx(10 / 30), pytest.approx([0, 0.5]))
    ahead = [(0, 0.7), (10, 0.9), (40, 0.9)]
    assert reach([ahead] * 2, [RISING] * 2) == found, "a start that cost nothing counts as the first mark after it"


def test_a_start_that_is_there_and_cost_something_counts_as_it_is() -> None:
    """A warm start, or a selection of problems, is paid for before the first mark."""
    warm = [(5, 0.7), (10, 0.9), (40, 0.9)]
    found = reach([warm] * 2, [RISING] * 2)
    assert (found["share"], found["interval"]) == (pytest.approx(5 / 30), pytest.approx([0, 5 / 20]))


def test_a_reference_that_is_there_at_its_first_mark_leaves_no_upper_bound() -> None:
    fast = [(0, 0.2), (10, 0.6), (40, 0.6)]
    assert reach([RISING] * 2, [fast] * 2)["interval"] == [pytest.approx(20 / 10), None]


def test_a_seed_without_marks_is_left_out() -> None:
    assert catching_up({"1": []}, {"1": []}, N, 0.95) == {}
    assert catching_up({"1": RISING, "2": RISING}, {"1": RISING}, N, 0.95)["at_half"]["num_seeds"] == 1


def test_noise_is_the_standard_error_of_a_difference_and_never_zero() -> None:
    assert noise(0.5, 400) == pytest.approx(sqrt(2 * 0.25 / 400))
    assert noise(1.0, 400) > 0


def test_half_way_there_is_no_accuracy_where_what_precedes_the_steps_takes_more() -> None:
    """A warm start: what the policy was before it is not known."""
    found = catching_up({"1": [(25, 0.5), (40, 0.6)], "2": [(20, 0.5), (40, 0.6)]}, {"1": RISING, "2": RISING}, N, 0.95)
    assert (found["at_half"]["num_seeds"], found["at_half"]["mean"]) == (1, pytest.approx(0.5 - RISING[-1][1]))
