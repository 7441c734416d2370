"""Intervals and comparisons, against published and hand-computed values."""

from collections.abc import Callable
from math import exp
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from motif_lite.evaluation.differences import (
    Difference,
    OverSeeds,
    accuracy_over_seeds,
    holm,
    over_seeds,
    same_problems,
)
from motif_lite.evaluation.intervals import Outcomes, accuracy, effective_samples, interval


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


def difference(before: Outcomes, after: Outcomes) -> Difference:
    found = same_problems([(before, after)], 0.95)
    assert found is not None
    return found


def test_where_nearly_all_samples_agree_a_few_problems_do_not_make_the_interval_narrow() -> None:
    # half a problem at 0 and at 1 and 46 rights of 48: mean 46.5 / 49; by 48 and by 49, the squares 44.5 + 0.5 - 44.128
    nearly = rows(*["1111"] * 40, *["1110"] * 8)
    assert effective_samples(nearly) == pytest.approx(130.526, abs=0.01), "of 192 samples"


def test_a_paired_difference_is_a_t_interval_of_problem_means_with_half_a_problem_won_and_half_a_problem_lost() -> None:
    found = difference(rows("00", "01", "10", "11", "00"), rows("11", "01", "11", "11", "10"))
    # gains 1, 0, 0.5, 0, 0.5 and half of 1 and of -1: mean 2 / 6; squares 2.5 less 6 / 9, by 5 and by 6: 0.061111
    assert found.difference == pytest.approx(0.4)
    assert found.interval == pytest.approx((1 / 3 - 2.570582 * 0.247207, 1 / 3 + 2.570582 * 0.247207), abs=1e-5)
    assert found.p_value == pytest.approx(2 / 2**3), "of three problems that changed, all are better"
    assert (found.num_problems, found.num_better, found.num_worse) == (5, 3, 0)


def test_only_problems_that_both_have_are_paired() -> None:
    before, after = {"a": [True], "b": [False], "c": [True]}, {"b": [True], "c": [True], "d": [False]}
    assert difference(before, after).num_problems == 2


def test_nothing_changed_is_no_gain_and_the_next_problem_may_still_change() -> None:
    found = difference(singles(3, 10), singles(3, 10))
    # half of 1 and of -1 among eleven: standard error sqrt(1 / 10 / 11), t(10, 97.5 %) = 2.2281
    assert found.interval == pytest.approx((-0.21244, 0.21244), abs=1e-4)
    assert (found.difference, found.p_value, found.num_problems) == (0.0, 1.0, 10)


def test_a_gain_on_every_problem_is_not_called_chance() -> None:
    found = difference(singles(0, 20), singles(20, 20))
    assert found.p_value == pytest.approx(2 * 0.5**20)
    assert found.interval == pytest.approx((0.81016, 1.0), abs=1e-4)


def test_one_problem_shows_nothing() -> None:
    found = difference(singles(0, 1), singles(1, 1))
    assert (found.difference, found.interval, found.p_value) == (1.0, (-1.0, 1.0), 1.0)


def test_runs_without_a_common_problem_are_not_compared() -> None:
    assert same_problems([({"a": [True]}, {"b": [True]})], 0.95) is None
    assert same_problems([], 0.95) is None


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40), st.floats(0.5, 0.999))
def test_an_interval_of_a_gain_has_a_width_and_holds_the_gain(
    pairs: list[tuple[bool, bool]], confidence: float
) -> None:
    before, after = ({str(n): [pair[place]] for n, pair in enumerate(pairs)} for place in (0, 1))
    found = same_problems([(before, after)], confidence)
    assert found is not None
    low, high = found.interval
    assert -1 <= low <= found.difference <= high <= 1
    assert high - low > 0
    assert found.p_value == pytest.approx(
        binomtest(found.num_better, max(1, found.num_better + found.num_worse)).pvalue
        if found.num_better + found.num_worse
        else 1.0
    )  # McNemar's exact test


@pytest.mark.parametrize("size", range(1, 60))
def test_an_interval_holds_the_accuracy_also_where_all_or_none_are_right(size: int) -> None:
    for right in (False, True):
        low, high = interval({str(index): [right] for index in range(size)}, 0.95)
        assert low <= right <= high


# ------------------------------------------------------------------------------------------------- between seeds


def test_over_seeds_is_the_t_interval_of_the_textbook() -> None:
    # mean 0.2, standard deviation 0.1, t(2, 97.5 %) = 4.3027: half width 4.3027 * 0.1 / sqrt(3) = 0.2484
    found = over_seeds([0.1, 0.2, 0.3], 0.95)
    assert found.mean == pytest.approx(0.2)
    assert found.interval == pytest.approx((-0.0484, 0.4484), abs=1e-4)
    assert found.p_value == pytest.approx(0.0742, abs=1e-4)  # t = 3.4641 with 2 degrees of freedom
    assert found.num_seeds == 3


@pytest.mark.parametrize("values", [[], [0.3], [0.3, 0.3, 0.3], [0.1 + 0.2, 0.3]])
@pytest.mark.parametrize("judge", [over_seeds, accuracy_over_seeds])
def test_without_spread_over_seeds_nothing_is_claimed(
    values: list[float], judge: Callable[[list[float], float], OverSeeds]
) -> None:
    found = judge(values, 0.95)
    assert found.interval is None
    assert found.p_value is None
    assert found.num_seeds == len(values)


def test_an_accuracy_over_seeds_has_its_t_interval_on_the_logit_scale() -> None:
    # mean 0.9, half width of t 4.3027 * 0.05 / sqrt(3) = 0.12421, by the slope 0.9 * 0.1: 1.38011 around log 9
    found = accuracy_over_seeds([0.85, 0.9, 0.95], 0.95)
    assert found.interval == pytest.approx((1 / (1 + exp(1.38011) / 9), 1 / (1 + exp(-1.38011) / 9)), abs=1e-4)
    low, high = accuracy_over_seeds([0.0, 1.0], 0.95).interval or (1.0, 0.0)
    assert 0 <= low < high <= 1


def test_problems_that_each_seed_has_alone_are_compared_within_each_seed() -> None:
    first = {"a": [False], "b": [False], "c": [True], "only here": [True]}, {"a": [True], "b": [True], "c": [True]}
    second = {"a2": [True], "d": [False]}, {"a2": [False], "d": [False], "only there": [True]}
    found = same_problems([first, second], 0.95)
    assert found is not None
    assert found.difference == pytest.approx((2 / 3 - 1 / 2) / 2)
    assert (found.num_better, found.num_worse, found.num_problems) == (2, 1, 5)
    # one of 1/4 down and two of 1/6 up sum to 1/12: of the eight flips, all but none are that far from 0
    assert found.p_value == pytest.approx(1.0)


def test_seeds_with_different_gains_do_not_widen_the_interval_of_these_very_runs() -> None:
    """All problems of one seed are won, all of the other lost: what another seed brings is not asked here."""
    pairs = [({f"{seed}/{n}": [seed == 1] for n in range(50)}, {f"{seed}/{n}": [seed == 0] for n in range(50)})
             for seed in (0, 1)]  # fmt: skip
    found = same_problems(pairs, 0.95)
    assert found is not None
    assert found.difference == 0
    assert found.interval[1] - found.interval[0] < 0.1


def test_a_problem_that_every_seed_has_counts_once() -> None:
    before, after = singles(0, 12), singles(6, 12)
    one, five = same_problems([(before, after)], 0.95), same_problems([(before, after)] * 5, 0.95)
    assert one == five, "five seeds that agree on every problem say no more of other problems than one"
    assert one is not None
    assert one.p_value == pytest.approx(2 * 0.5**6), "McNemar's exact test"


@pytest.mark.parametrize(("pool", "size"), [(1319, 200), (500, 100), (301, 300)])
def test_seeds_that_share_some_of_their_problems_have_nearly_the_interval_of_seeds_that_share_none(
    pool: int, size: int
) -> None:
    """What few problems have in common with others is no reason to know less."""
    rng = Random(pool)
    pairs, apart = [], []
    for seed in range(5):
        rows = {f"{number}": ([rng.random() < 0.4], [rng.random() < 0.6]) for number in rng.sample(range(pool), size)}
        before, after = ({number: both[place] for number, both in rows.items()} for place in (0, 1))
        pairs.append((before, after))
        apart.append(tuple({f"{seed}/{number}": row for number, row in each.items()} for each in (before, after)))
    found, alone = same_problems(pairs, 0.95), same_problems([(a, b) for a, b in apart], 0.95)
    assert found and alone
    assert found.difference == pytest.approx(alone.difference)
    widths = [high - low for low, high in (found.interval, alone.interval)]
    assert widths[0] == pytest.approx(widths[1], rel=0.2)


def test_a_skewed_change_without_a_gain_is_not_called_one() -> None:
    """On nine of ten problems one sample of eight more is right, on the tenth nine of ten that were are lost."""
    before = rows(*["11110000"] * 80, *["11111111"] * 10)
    after = rows(*["11111000"] * 80, *["00000000"] * 10)
    found = difference(before, after)
    assert found.difference == 0
    assert (found.num_better, found.num_worse, found.p_value) == (80, 10, 1.0)


def test_a_test_with_more_flips_than_can_be_gone_through_draws_some_always_the_same() -> None:
    chance = Random(1)
    pairs = [
        ({f"{seed}/{n}": [chance.random() < 0.5 for _ in range(7)] for n in range(size)},
         {f"{seed}/{n}": [chance.random() < 0.6 for _ in range(7)] for n in range(size)})
        for seed, size in enumerate((499, 503))
    ]  # fmt: skip
    found = same_problems(pairs, 0.95)
    assert found is not None
    assert found.p_value == pytest.approx(1 / 5000), "of 9,999 flips none is as far from 0, and the sums have two ends"
    assert found == same_problems(pairs, 0.95)


def test_with_several_samples_a_problem_counts_by_its_mean() -> None:
    found = difference({"a": [True, False]}, {"a": [True, True]})
    assert (found.difference, found.num_better) == (0.5, 1)


def test_holm_multiplies_the_smallest_by_their_number_and_never_falls() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([None, 0.5, 0.6]) == [None, 1.0, 1.0]
    assert holm([]) == []
