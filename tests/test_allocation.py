"""Where a group's futures go: by hand, by exhaustive search, and without bias."""

import random
from collections import Counter
from itertools import product
from statistics import fmean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motif_lite.rollout.allocation import adaptive

GROUPS = st.lists(st.sampled_from("abcd"), min_size=2, max_size=16)


@pytest.mark.parametrize(
    ("progress", "num_futures", "expected"),
    [
        ("abcdefgh", 4, [4] * 8),  # nobody agrees: the paper's allocation
        ("aaaaaaaa", 4, [1] * 8),  # nothing to tell apart
        ("abababab", 4, [4] * 8),  # 16 futures for each half
        ("aaaaaaab", 4, [3, 3, 2, 2, 2, 2, 2, 16]),  # 7 * 1 = 1 * 7: each progress as much as the other
        ("aaaaaabc", 4, [2, 2, 2, 2, 2, 2, 10, 10]),  # sqrt of 12, 7, 7: 12.7, 9.7, 9.7 of 32, in whole numbers
        ("aab", 1, [1, 1, 1]),
        ("ab", 3, [3, 3]),
        ("aa-", 3, [3, 3, 1]),  # a group of one progress and of one that has ended: there is something to tell apart
        ("ab--", 3, [3, 3, 1, 1]),
        ("aab-", 3, [3, 2, 4, 1]),  # sqrt of 2 * 2 and 1 * 3: 4.8 and 4.2 of 9, in whole numbers
        ("---", 3, [1, 1, 1]),  # all have ended
        ("aab", 2, [2, 1, 3]),
    ],
)
def test_futures_go_to_what_sets_the_openings_apart(progress: str, num_futures: int, expected: list[int]) -> None:
    assert adaptive([None if each == "-" else each for each in progress], num_futures) == expected


@given(GROUPS, st.integers(1, 8))
def test_every_opening_has_one_and_the_budget_is_spent_unless_there_is_no_signal(
    progress: list[str], num_futures: int
) -> None:
    futures = adaptive(progress, num_futures)
    assert min(futures) >= 1
    assert sum(futures) == len(progress) * (num_futures if len(set(progress)) > 1 else 1)
    for each in set(progress):
        shares = [count for mine, count in zip(progress, futures, strict=True) if mine == each]
        assert max(shares) - min(shares) <= 1
        assert shares == sorted(shares, reverse=True)


@given(GROUPS, st.integers(1, 4), st.permutations("abcd"))
def test_only_who_agrees_with_whom_matters(progress: list[str], num_futures: int, names: list[str]) -> None:
    renamed = [names["abcd".index(each)] for each in progress]
    assert adaptive(renamed, num_futures) == adaptive(progress, num_futures)


@pytest.mark.parametrize("progress", ["aaab", "aabb", "aabc", "aaaabc", "abbccc"])
def test_no_other_allocation_has_a_smaller_error_where_all_values_are_equally_uncertain(progress: str) -> None:
    size, sharing = len(progress), Counter(progress)

    def error(futures: tuple[int, ...]) -> float:
        return sum(count * (1 - count / size) / n for count, n in zip(sharing.values(), futures, strict=True))

    dealt = adaptive(progress, 3)
    found = tuple(sum(n for each, n in zip(progress, dealt, strict=True) if each == name) for name in sharing)
    others = product(*(range(count, 3 * size) for count in sharing.values()))
    assert error(found) == pytest.approx(min(error(each) for each in others if sum(each) == 3 * size))


def test_advantages_from_pooled_means_are_unbiased_and_closer_than_with_equally_many_futures_each() -> None:
    """2000 groups of five openings with values 0.9 (three), 0.5 and 0; bounds of four standard errors."""
    progress, values = "aaabc", {"a": 0.9, "b": 0.5, "c": 0.0}
    truth = [values[each] - fmean(values[each] for each in progress) for each in progress]
    rng = random.Random(1)

    def advantages(futures: dict[str, int]) -> list[float]:
        means = {name: fmean(rng.random() < values[name] for _ in range(n)) for name, n in futures.items()}
        return [means[each] - fmean(means[each] for each in progress) for each in progress]

    dealt = Counter[str]()
    for each, count in zip(progress, adaptive(progress, 4), strict=True):
        dealt[each] += count
    pooled = [advantages(dealt) for _ in range(2000)]
    for index, true in enumerate(truth):
        seen = [each[index] for each in pooled]
        assert abs(fmean(seen) - true) < 4 * stdev(seen) / 2000**0.5
    error = fmean((a - t) ** 2 for each in pooled for a, t in zip(each, truth, strict=True))
    by_hand = (0.09 / dealt["a"] * 3 * (1 - 3 / 5) + 0.25 / dealt["b"] * (1 - 1 / 5)) / 5
    assert error == pytest.approx(by_hand, rel=0.1), "the formula of the module's docstring"
    alone = (3 * 0.09 / 4 + 0.25 / 4) * (1 - 1 / 5) / 5
    assert error < 0.64 * alone
