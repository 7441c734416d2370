"""How much of the difference between openings is sampling noise of their futures."""

from collections import Counter
from collections.abc import Sequence
from statistics import fmean, variance

from motif_lite.nouns import Opening
from motif_lite.rollout.rewards import answer_score
from motif_lite.runs.records import RewardNoise


def reward_noise(openings: Sequence[Opening], group: int, *, resets: bool = False) -> RewardNoise | None:
    """How much of the variance between the openings of a group is noise, from groups with two futures of each or more.

    Openings whose values are the means of the same futures (`allocation`) differ by nothing. With m openings, m_c of
    which share n_c futures with scores of sample variance v_c, noise alone would give a sample variance between them of

        sum over c of  v_c / n_c * m_c * (m - m_c) / (m * (m - 1))

    on average; where nothing is shared that is the mean of v_c / n_c. Both parts are unbiased.

    Args:
        resets: Each chain has futures from a round of its own on (`reset`): one that has a single future in a group of
            several was written to its end by then.

    Returns:
        None where no group has enough futures, e.g. with one of each.
    """
    groups = [openings[start : start + group] for start in range(0, len(openings), group)]
    known = [each for each in groups if _is_sampled(each) and (resets or all(map(_has_known_noise, each)))]
    if not known:
        return None
    return RewardNoise(
        between_openings=fmean(variance(fmean(scores_of(opening)) for opening in each) for each in known),
        sampling=fmean(map(_sampling_variance, known)),
    )


def _is_sampled(group: Sequence[Opening]) -> bool:
    """Whether there is sampling noise between the openings of a group at all."""
    return len(group) > 1 and any(len(opening.evidence) > 1 for opening in group)


def _has_known_noise(opening: Opening) -> bool:
    """Whether its futures tell their variance, or it has ended in its first round: then there is none."""
    return len(opening.evidence) > 1 or len(opening.futures[0].turns) == 1


def _sampling_variance(group: Sequence[Opening]) -> float:
    size = len(group)
    evidence = [frozenset(map(id, opening.evidence)) for opening in group]
    scores = dict(zip(evidence, map(scores_of, group), strict=True))
    parts = (
        variance(scores[each]) / len(scores[each]) * sharing * (size - sharing)
        for each, sharing in Counter(evidence).items()
        if len(each) > 1
    )
    return sum(parts) / (size * (size - 1))


def scores_of(opening: Opening) -> list[float]:
    """The answer scores of an opening's futures, shared ones included."""
    return [answer_score(opening.problem.gold, future.final.text) for future in opening.evidence]
