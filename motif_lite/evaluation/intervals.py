"""How sure an accuracy is.

Samples of one problem are correlated, so n samples of 400 problems are not 400 n independent ones. Intervals are
Wilson's on the *effective* number of samples, the one whose binomial variance equals the variance measured
between problems (Korn and Graubard's idea for surveys); with one sample per problem this is Wilson's interval
itself. `motif_lite.evaluation.differences` compares accuracies. docs/statistics.md has the coverage of all intervals.
"""

from collections.abc import Mapping, Sequence
from math import exp, log
from statistics import fmean

Outcomes = Mapping[str, Sequence[bool]]
"""By problem id, whether each of its samples was right."""

HALF_A_PROBLEM = 0.5
"""Added at each end of the scale where a variance is measured between problems.

Where nearly all problems are alike, the few that differ decide the variance, and too often there is none among those
that were drawn. Half a problem at each end is Agresti and Coull's remedy; with hundreds of problems it changes nothing.
"""


def accuracy(outcomes: Outcomes) -> float:
    """Share of right samples; problems have equally many."""
    return fmean(right for samples in outcomes.values() for right in samples)


def interval(outcomes: Outcomes, confidence: float) -> tuple[float, float]:
    """Wilson interval of the accuracy, clustered by problem.

    Args:
        outcomes: At least one problem; equally many samples for each.
        confidence: Coverage, e.g. 0.95.
    """
    from statsmodels.stats.proportion import proportion_confint

    mean, size = accuracy(outcomes), effective_samples(outcomes)
    low, high = proportion_confint(mean * size, size, alpha=1 - confidence, method="wilson")
    # At 0 and 1 the bound that is the accuracy itself comes out a rounding error inside of it.
    return max(0.0, min(mean, float(low))), min(1.0, max(mean, float(high)))


def effective_samples(outcomes: Outcomes) -> float:
    """Independent samples that would be as informative: between the number of problems and that of samples."""
    num_problems, num_samples = len(outcomes), sum(map(len, outcomes.values()))
    if num_problems == num_samples:
        return float(num_problems)
    mean, variance = mean_with_halves([fmean(samples) for samples in outcomes.values()], (0.0, 1.0), HALF_A_PROBLEM)
    return min(float(num_samples), max(float(num_problems), mean * (1 - mean) / variance))


def mean_with_halves(values: Sequence[float], ends: tuple[float, float], weight: float) -> tuple[float, float]:
    """Mean, and its variance, of values to which one at each end of their scale is added.

    Args:
        values: At least one.
        ends: The least and the greatest value that there can be.
        weight: Of each of the two that are added, where a value counts 1; more than 0.
    """
    size = len(values) + 2 * weight
    mean = (sum(values) + weight * sum(ends)) / size
    squares = sum((value - mean) ** 2 for value in values) + weight * sum((end - mean) ** 2 for end in ends)
    return mean, squares / (size - 1) / size


def on_the_logit_scale(share: float, reach: float) -> tuple[float, float]:
    """Bounds ``share +- reach`` that stay between 0 and 1: of the logit, with the slope that it has at the share.

    Args:
        share: Between 0 and 1, and neither.
        reach: Half the width of the interval.
    """
    middle, slope = log(share / (1 - share)), 1 / (share * (1 - share))
    low, high = (1 / (1 + exp(-min(max(middle + sign * reach * slope, -700.0), 700.0))) for sign in (-1, 1))
    return low, high
