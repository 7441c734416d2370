"""Whether two accuracies differ: on the same problems, and over seeds.

A run is one draw of everything that hangs on its seed. What two runs are worth on the problems that both were given is
judged by problem (`same_problems`); what a *method* is worth, other seeds included, between seeds (`over_seeds`).
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd, lcm, sqrt
from statistics import fmean, stdev

from motif_lite.evaluation.intervals import HALF_A_PROBLEM, Outcomes, mean_with_halves, on_the_logit_scale

_EXACT = 10**8
"""Additions up to which the sign-flip test goes through all flips: a fraction of a second."""

_FLIPS = 9999
"""Random ones, where there are too many."""


@dataclass(frozen=True, slots=True)
class Difference:
    """In accuracy, on the same problems.

    Attributes:
        p_value: Of its being zero.
        num_better: Problems on which more samples are right, over all seeds that have the problem.
        num_worse: Those on which fewer are.
    """

    difference: float
    interval: tuple[float, float]
    p_value: float
    num_problems: int
    num_better: int
    num_worse: int


@dataclass(frozen=True, slots=True)
class OverSeeds:
    """One figure per seed.

    Attributes:
        mean: None without seeds.
        interval: None, as is the p-value of the mean's being zero, where there is no spread to judge by.
    """

    mean: float | None
    interval: tuple[float, float] | None
    p_value: float | None
    num_seeds: int


@dataclass(frozen=True, slots=True)
class _Gain:
    """Of one problem, in whole numbers.

    Attributes:
        parts: By seed that has the problem, of the sum of all gains, in units that are the same for all problems.
        most: Its part, over these seeds, if every sample were wrong before and right after.
    """

    parts: dict[int, int]
    most: int

    @property
    def part(self) -> int:
        """Over all seeds."""
        return sum(self.parts.values())


def same_problems(pairs: Sequence[tuple[Outcomes, Outcomes]], confidence: float) -> Difference | None:
    """Gain on the problems that both have, for the very runs that were made.

    The difference is the mean over seeds of the mean gain per problem. A problem that several seeds have is one
    problem: its gains are averaged first. The interval is a t interval over problems, each held against the means of
    its seeds, with half a problem won and half a problem lost added. The p-value is that of a sign-flip test on
    problems; with one sample per problem this is McNemar's exact test. Neither says what other seeds would bring: for
    that see `over_seeds`.

    Args:
        pairs: Outcomes before and after, or of the reference and a variant, one pair per seed.
        confidence: Coverage of the interval.

    Returns:
        None where no problem is shared.
    """
    gains = _gains(pairs)
    if not gains:
        return None
    difference = sum(gain.part for gain in gains) / sum(gain.most for gain in gains)
    low, high = _t_interval(gains, confidence)
    return Difference(
        difference,
        (max(-1.0, min(low, difference)), min(1.0, max(high, difference))),
        _sign_flip([gain.part for gain in gains if gain.part]),
        num_problems=len(gains),
        num_better=sum(gain.part > 0 for gain in gains),
        num_worse=sum(gain.part < 0 for gain in gains),
    )


def over_seeds(values: Sequence[float], confidence: float) -> OverSeeds:
    """Mean of one difference per seed, with a t interval over seeds and the p-value of its being zero.

    Seeds are the independent units here: the interval says what another seed may bring, which more test problems
    cannot. Where all seeds agree to the last digit, or there is only one, there is no spread to judge by, and neither
    an interval nor a p-value. Over few seeds of which some collapse the interval is too narrow; the p-value is right
    there, too, as a difference of two that are alike is symmetric (docs/statistics.md).
    """
    if not _differ(values):
        return OverSeeds(fmean(values) if values else None, None, None, len(values))
    from scipy.stats import ttest_1samp

    test = ttest_1samp(values, 0.0)
    low, high = test.confidence_interval(confidence)
    return OverSeeds(fmean(values), (float(low), float(high)), float(test.pvalue), len(values))


def accuracy_over_seeds(accuracies: Sequence[float], confidence: float) -> OverSeeds:
    """Mean of one accuracy per seed, with a t interval over seeds on the logit scale, and no p-value.

    Near 0 and 1 it covers more often than the t interval as it is, and stays between them.
    """
    if not _differ(accuracies):
        return OverSeeds(fmean(accuracies) if accuracies else None, None, None, len(accuracies))
    mean = fmean(accuracies)
    reach = _t(confidence, len(accuracies) - 1) * stdev(accuracies) / sqrt(len(accuracies))
    return OverSeeds(mean, on_the_logit_scale(mean, reach), None, len(accuracies))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction for as many comparisons as there are p-values; None stays None."""
    from statsmodels.stats.multitest import multipletests

    known = [p for p in p_values if p is not None]
    corrected = iter(multipletests(known, method="holm")[1] if known else [])
    return [None if p is None else float(next(corrected)) for p in p_values]


def _differ(values: Sequence[float]) -> bool:
    return len(values) >= 2 and max(values) - min(values) > 1e-12


def _t(confidence: float, degrees: float) -> float:
    """Standard errors that a two-sided interval reaches from its middle."""
    from scipy import stats

    return float(stats.t.ppf((1 + confidence) / 2, degrees))


def _gains(pairs: Sequence[tuple[Outcomes, Outcomes]]) -> list[_Gain]:
    """Of each problem that both have; every seed that shares problems has the same weight."""
    shared = [[problem for problem in before if problem in after] for before, after in pairs]
    size = lcm(*map(len, filter(None, shared)))
    samples = lcm(*{len(row) for pair in pairs for outcomes in pair for row in outcomes.values()})
    found: dict[str, dict[int, int]] = defaultdict(dict)
    for seed, (before, after) in enumerate(pairs):
        for problem in shared[seed]:
            rights = (sum(rows) * samples // len(rows) for rows in (after[problem], before[problem]))
            found[problem][seed] = next(rights) - next(rights)
    return [
        _Gain(
            {seed: gain * size // len(shared[seed]) for seed, gain in gains.items()},
            sum(samples * size // len(shared[seed]) for seed in gains),
        )
        for gains in found.values()
    ]


def _t_interval(gains: Sequence[_Gain], confidence: float) -> tuple[float, float]:
    """Over problems: of the mean over seeds, with Welch's degrees of freedom where seeds have nothing in common."""
    whole = sum(gain.most for gain in gains)
    middle = total = spread = 0.0
    for group in _groups(gains):
        share = sum(gain.most for gain in group) / whole
        added = HALF_A_PROBLEM * share
        mean, variance = mean_with_halves(_as_of_one_sample(group), (-1.0, 1.0), added)
        middle += share * mean
        total += share**2 * variance
        spread += (share**2 * variance) ** 2 / (len(group) + 2 * added - 1)
    reach = _t(confidence, total**2 / spread) * sqrt(total)
    return middle - reach, middle + reach


def _groups(gains: Sequence[_Gain]) -> list[list[_Gain]]:
    """The fewest groups of problems such that each seed has problems of one alone."""
    found: list[tuple[set[int], list[_Gain]]] = []
    for gain in gains:
        linked = [group for group in found if not group[0].isdisjoint(gain.parts)]
        found = [group for group in found if group[0].isdisjoint(gain.parts)]
        linked.append(({*gain.parts}, [gain]))
        found.append((set().union(*(seeds for seeds, _ in linked)), [each for _, group in linked for each in group]))
    return [group for _, group in found]


def _as_of_one_sample(group: Sequence[_Gain]) -> list[float]:
    """A value for each problem whose mean is the group's, and whose standard error is that of its mean over seeds.

    The mean over seeds of the seeds' means moves with a problem by what this differs from the mean on each seed that
    has it (the delta method, as for ratios in surveys). Where all seeds have the same problems, a problem's value is
    its gain.
    """
    rows: dict[int, list[int]] = defaultdict(list)
    for gain in group:
        for seed, part in gain.parts.items():
            rows[seed].append(part)
    unit = lcm(*map(len, rows.values()))  # in which means are whole numbers, too
    means = {seed: sum(row) * (unit // len(row)) for seed, row in rows.items()}
    total, most = sum(map(sum, rows.values())) * unit, sum(gain.most for gain in group) * unit
    moved = (sum(part * unit - means[seed] for seed, part in gain.parts.items()) for gain in group)
    return [(total + len(group) * each) / most for each in moved]


def _sign_flip(parts: Sequence[int]) -> float:
    """Two-sided p-value of a sum whose terms might as well have the other sign; exact unless there are many flips.

    Args:
        parts: None of them zero.
    """
    steps = [part // gcd(*parts) for part in parts]
    if sum(map(abs, steps)) * len(steps) > _EXACT:
        return _sampled_sign_flip(steps)
    return _exact_sign_flip(steps)


def _exact_sign_flip(steps: Sequence[int]) -> float:
    """Over all flips: how likely each sum of those steps is that are positive, one step after the other."""
    import numpy

    total = sum(map(abs, steps))
    chances = numpy.zeros(total + 1)
    chances[0] = 1.0
    for size in map(abs, steps):
        chances[size:] = (chances[size:] + chances[:-size]) / 2
        chances[:size] /= 2
    sums = 2 * numpy.arange(total + 1) - total
    return min(1.0, float(chances[abs(sums) >= abs(sum(steps))].sum()))


def _sampled_sign_flip(steps: Sequence[int]) -> float:
    """With random flips, always the same ones."""
    import numpy
    from scipy.stats import permutation_test

    test = permutation_test(
        (steps,), lambda rows, axis: rows.mean(axis), permutation_type="samples", vectorized=True,
        n_resamples=_FLIPS, batch=500, rng=numpy.random.default_rng(0),
    )  # fmt: skip
    return float(test.pvalue)
