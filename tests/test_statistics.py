"""Intervals and comparisons, against published and hand-computed values."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motif_lite.evaluation import intervals
from motif_lite.evaluation.intervals import accuracy, effective_samples, interval, paired_difference


def singles(right: int, all_: int) -> dict[str, list[bool]]:
    return {str(number): [number < right] for number in range(all_)}


def rows(*samples: str) -> dict[str, list[bool]]:
    """A problem per text, a sample per character: ``"110"`` is two right of three."""
    return {str(number): [mark == "1" for mark in text] for number, text in enumerate(samples)}


@pytest.mark.parametrize(
    ("right", "all_", "low", "high"),
    [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (50, 100, 0.4038, 0.5962),
     (81, 263, 0.2553, 0.3662)],
)  # fmt: skip
def test_with_one_sample_per_problem_it_is_wilsons_interval(right: int, all_: int, low: float, high: float) -> None:
    assert interval(singles(right, all_), 0.95) == pytest.approx((low, high), abs=1e-4)


def test_samples_that_agree_within_each_problem_count_as_one() -> None:
    alike = rows(*["1111"] * 5, *["0000"] * 5)
    assert effective_samples(alike) == pytest.approx(10, rel=0.15)
    assert interval(alike, 0.95) == pytest.approx(interval(singles(5, 10), 0.95))


def test_samples_that_vary_within_each_problem_as_much_as_between_count_nearly_in_full() -> None:
    mixed = rows("1100", "0011", "1010", "0101", "1001", "1110", "0001", "0110")
    assert 8 < effective_samples(mixed) <= 32
    low, high = interval(mixed, 0.95)
    narrow, wide = interval(singles(16, 32), 0.95), interval(singles(4, 8), 0.95)
    assert narrow[1] - narrow[0] <= high - low < wide[1] - wide[0]


def test_a_higher_confidence_gives_a_wider_interval() -> None:
    lows, highs = zip(*(interval(singles(30, 100), level) for level in (0.5, 0.9, 0.95, 0.999)), strict=True)
    assert list(lows) == sorted(lows, reverse=True)
    assert list(highs) == sorted(highs)


@settings(deadline=None)
@given(
    st.integers(1, 5).flatmap(
        lambda num_samples: st.lists(
            st.lists(st.booleans(), min_size=num_samples, max_size=num_samples), min_size=1, max_size=30
        )
    ),
    st.floats(0.01, 0.999),
)
def test_an_interval_lies_between_0_and_1_and_holds_the_accuracy(samples: list[list[bool]], confidence: float) -> None:
    outcomes = {str(number): each for number, each in enumerate(samples)}
    low, high = interval(outcomes, confidence)
    assert 0.0 <= low <= accuracy(outcomes) + 1e-9
    assert accuracy(outcomes) - 1e-9 <= high <= 1.0
    assert len(samples) <= effective_samples(outcomes) <= len(samples) * len(samples[0])


def test_a_paired_difference_is_the_paired_t_test_on_problem_means() -> None:
    before, after = rows("00", "01", "10", "11", "00"), rows("11", "01", "11", "11", "10")
    found = paired_difference(before, after, 0.95)
    # gains 1, 0, 0.5, 0, 0.5: mean 0.4, standard error 0.18708, t = 2.1381 with 4 degrees of freedom
    assert found["difference"] == pytest.approx(0.4)
    assert found["interval"] == pytest.approx([0.4 - 2.77645 * 0.187083, 0.4 + 2.77645 * 0.187083], abs=1e-4)
    assert found["p_value"] == pytest.approx(0.0993, abs=1e-3)
    assert found["num_problems"] == 5


def test_only_problems_that_both_have_are_paired() -> None:
    before, after = {"a": [True], "b": [False], "c": [True]}, {"b": [True], "c": [True], "d": [False]}
    assert paired_difference(before, after, 0.95)["num_problems"] == 2


def test_nothing_changed_is_no_gain() -> None:
    found = paired_difference(singles(3, 10), singles(3, 10), 0.95)
    bound = 1 - 0.05 ** (1 / 10)  # how often the next problem may still change
    assert found["interval"] == pytest.approx([-bound, bound])
    assert (found["difference"], found["p_value"], found["num_problems"]) == (0.0, 1.0, 10)


def test_a_gain_on_every_problem_is_not_called_chance() -> None:
    found = paired_difference(singles(0, 20), singles(20, 20), 0.95)["p_value"]
    assert isinstance(found, float)
    assert found < 0.05


def test_runs_without_a_common_problem_are_compared_without_an_error() -> None:
    assert paired_difference({"a": [True]}, {"b": [True]}, 0.95)["num_problems"] == 0


@pytest.mark.parametrize("size", range(1, 60))
def test_an_interval_holds_the_accuracy_also_where_all_or_none_are_right(size: int) -> None:
    for right in (False, True):
        low, high = interval({str(index): [right] for index in range(size)}, 0.95)
        assert low <= right <= high


# ------------------------------------------------------------------------------------------------- between seeds


def test_over_seeds_is_the_t_interval_of_the_textbook() -> None:
    # mean 0.2, standard deviation 0.1, t(2, 97.5 %) = 4.3027: half width 4.3027 * 0.1 / sqrt(3) = 0.2484
    found = intervals.over_seeds([0.1, 0.2, 0.3], 0.95)
    assert found["mean"] == pytest.approx(0.2)
    assert found["interval"] == pytest.approx([-0.0484, 0.4484], abs=1e-4)
    assert found["p_value"] == pytest.approx(0.0742, abs=1e-4)  # t = 3.4641 with 2 degrees of freedom
    assert found["num_seeds"] == 3


@pytest.mark.parametrize("values", [[], [0.3], [0.3, 0.3, 0.3], [0.1 + 0.2, 0.3]])
def test_without_spread_over_seeds_nothing_is_claimed(values: list[float]) -> None:
    found = intervals.over_seeds(values, 0.95)
    assert found["interval"] is found["p_value"] is None
    assert found["num_seeds"] == len(values)


def test_the_same_problems_are_paired_within_each_seed() -> None:
    first = {"a": [False], "b": [False], "c": [True], "only here": [True]}, {"a": [True], "b": [True], "c": [True]}
    second = {"a": [True], "d": [False]}, {"a": [False], "d": [False], "only there": [True]}
    found: dict[str, Any] = intervals.stratified_difference([first, second], 0.95)
    assert found["difference"] == pytest.approx((2 / 3 - 1 / 2) / 2)
    assert (found["num_better"], found["num_worse"], found["num_problems"]) == (2, 1, 5)
    assert found["p_value"] == pytest.approx(1.0)  # of three that differ, two to one: every outcome is as extreme
    low, high = found["interval"]
    assert -0.5 <= low < found["difference"] < high <= 0.5


def test_mcnemars_exact_p_value() -> None:
    before = {str(i): [False] for i in range(12)}
    after = {str(i): [i < 6] for i in range(12)}
    found = intervals.stratified_difference([(before, after)], 0.95)
    assert found["p_value"] == pytest.approx(2 * 0.5**6)
    # the share of a binomial of 12 at one half: its 2.5 % and 97.5 % quantiles are 3 and 9
    assert found["interval"] == pytest.approx([0.25, 0.75])
    assert intervals.stratified_difference([(before, after)], 0.95) == found, "the draws are always the same"


def test_with_several_samples_a_problem_counts_by_its_mean() -> None:
    found = intervals.stratified_difference([({"a": [True, False]}, {"a": [True, True]})], 0.95)
    assert (found["difference"], found["num_better"]) == (0.5, 1)


def test_no_shared_problem_is_no_comparison() -> None:
    assert intervals.stratified_difference([({"a": [True]}, {"b": [True]})], 0.95) == {}
    assert intervals.stratified_difference([], 0.95) == {}


def test_holm_multiplies_the_smallest_by_their_number_and_never_falls() -> None:
    assert intervals.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert intervals.holm([None, 0.5, 0.6]) == [None, 1.0, 1.0]
    assert intervals.holm([]) == []
