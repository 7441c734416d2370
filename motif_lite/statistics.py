"""How sure an accuracy is, and whether two of them differ.

Samples of one problem are alike, so n samples of 400 problems are not 400 n independent ones. Intervals are
Wilson's on the *effective* number of samples, the one whose binomial variance equals the variance measured
between problems (Korn and Graubard's idea for surveys); with one sample per problem this is Wilson's interval
itself. Comparisons are paired by problem.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean, variance

Outcomes = Mapping[str, Sequence[bool]]
"""By problem id, whether each of its samples was right."""


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

    share, size = accuracy(outcomes), effective_samples(outcomes)
    low, high = proportion_confint(share * size, size, alpha=1 - confidence, method="wilson")
    # At 0 and 1 the bound that is the accuracy itself comes out a rounding error inside of it.
    return max(0.0, min(share, float(low))), min(1.0, max(share, float(high)))


def effective_samples(outcomes: Outcomes) -> float:
    """Independent samples that would be as informative: between the number of problems and that of samples."""
    num_problems, num_samples = len(outcomes), sum(map(len, outcomes.values()))
    share = accuracy(outcomes)
    if num_problems == num_samples or num_problems < 2 or share in (0.0, 1.0):
        return float(num_problems)
    between = variance([fmean(samples) for samples in outcomes.values()]) / num_problems
    if between == 0:
        return float(num_samples)
    return min(float(num_samples), max(float(num_problems), share * (1 - share) / between))


def paired_difference(before: Outcomes, after: Outcomes, confidence: float) -> dict[str, object]:
    """Gain in accuracy on the problems that both have, with a paired t interval and p-value.

    Returns:
        ``{"difference", "interval": [low, high], "p_value", "num_problems"}``.
    """
    from scipy.stats import ttest_1samp

    shared = [problem for problem in before if problem in after]
    gains = [fmean(after[problem]) - fmean(before[problem]) for problem in shared]
    gain = fmean(gains) if gains else 0.0
    if len(set(gains)) < 2:  # no spread to judge by: nothing changed, or everything did alike
        # Binomial bound on how often the next problem would do otherwise (the exact "rule of three").
        other = 1 - (1 - confidence) ** (1 / len(gains)) if gains else 1.0
        return {
            "difference": gain,
            "interval": [max(-1.0, gain - other), min(1.0, gain + other)],
            "p_value": min(1.0, 2 * 0.5 ** len(gains)) if gain else 1.0,  # of the sign test
            "num_problems": len(gains),
        }
    test = ttest_1samp(gains, 0.0)
    low, high = test.confidence_interval(confidence)
    return {
        "difference": gain,
        "interval": [float(low), float(high)],
        "p_value": float(test.pvalue),
        "num_problems": len(gains),
    }
