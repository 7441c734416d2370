"""How many futures each opening of a group gets, where ``rollout.allocation = "adaptive"``.

All that a future sees of its opening is the progress that is passed on. Openings of one problem with the same progress
have the same value, and their futures are draws from one distribution: they are pooled. What remains to be decided is
how many futures each *distinct* progress gets. With m openings, of which m_c pass on progress c with value variance
v_c, and n_c futures for it, the squared error of the group's advantages (reward less the group's mean) is

    sum over c of  v_c / n_c * m_c * (1 - m_c / m)

so a progress that only one opening has deserves almost as much as one that half the group shares, and one that all
have deserves nothing: the group has no signal. The variances are not known beforehand, and learning them from a first
wave of futures gained nothing (docs/adaptive-futures.md), so all v_c count equally. The allocation then depends on the
openings only, never on how futures turn out: means stay unbiased, and all futures still go in one wide batch.

An opening that has ended (``rollout.early_finish``) has a known value. It takes no part of the budget, but sets its
group apart from openings that go on.
"""

from collections import Counter
from collections.abc import Sequence


def adaptive(progress: Sequence[str | None], num_futures: int) -> list[int]:
    """Futures of each opening of one group, at least one and in all at most as many as ``num_futures`` each.

    A group of one progress keeps to one each. Where no two openings agree, each gets ``num_futures``. One that has
    ended gets one: itself.

    Args:
        progress: What each opening passes on, in any form that is equal where it is equal; None if it has ended.
        num_futures: Of each opening that goes on, on average, if the whole budget is spent.
    """
    going_on = [each for each in progress if each is not None]
    sharing = Counter(going_on)
    futures = dict(sharing)
    if len(set(progress)) > 1:
        for _ in range(len(going_on) * (num_futures - 1)):
            futures[max(futures, key=lambda each: _gain(sharing[each], len(progress), futures[each]))] += 1
    return _split(progress, sharing, futures)


def _gain(num_sharing: int, num_openings: int, num_futures: int) -> float:
    """By how much one more future lowers the error: the next term of a convex sum, so taking the largest is optimal."""
    return num_sharing * (num_openings - num_sharing) / (num_futures * (num_futures + 1))


def _split(progress: Sequence[str | None], sharing: Counter[str], futures: dict[str, int]) -> list[int]:
    """Deal each progress's futures out to its openings as evenly as can be, the first ones first."""
    seen: Counter[str] = Counter()
    dealt = []
    for each in progress:
        if each is None:
            dealt.append(1)
            continue
        share, left_over = divmod(futures[each], sharing[each])
        dealt.append(share + (seen[each] < left_over))
        seen[each] += 1
    return dealt
