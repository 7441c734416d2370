"""How sure an accuracy is, and whether two of them differ.

Samples of one problem are correlated, so n samples of 400 problems are not 400 n independent ones. Intervals are
Wilson's on the *effective* number of samples, the one whose binomial variance equals the variance measured
between problems (Korn and Graubard's idea for surveys); with one sample per problem this is Wilson's interval
itself. Comparisons are paired by problem.

A run is one draw of everything that hangs on its seed. What a *method* is worth, other seeds included, is judged
between seeds (`over_seeds`); what two runs are worth on the problems that both were given, by problem.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean, variance

Outcomes = Mapping[str, Sequence[bool]]
"""By problem id, whether each of its samples was right."""

_DRAWS = 10_000
"""Of the bootstrap."""


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


def in_percent(value: float, bounds: Sequence[float] | None, *, digits: int = 1, sign: str = "", unit: str = "") -> str:
    """A share or a difference of two with its interval, such as ``43.2 % [38.0, 48.5]``.

    Args:
        value: As a fraction, like its bounds; without bounds it stands alone.
        sign: ``+`` to write the sign of what is positive, too.
        unit: What follows the value.
    """
    mean, *ends = (f"{100 * number:{sign}.{digits}f}" for number in (value, *(bounds or ())))
    return f"{mean}{unit} [{', '.join(ends)}]" if ends else f"{mean}{unit}"


def effective_samples(outcomes: Outcomes) -> float:
    """Independent samples that would be as informative: between the number of problems and that of samples."""
    num_problems, num_samples = len(outcomes), sum(map(len, outcomes.values()))
    mean = accuracy(outcomes)
    if num_problems == num_samples or num_problems < 2 or mean in (0.0, 1.0):
        return float(num_problems)
    between = variance([fmean(samples) for samples in outcomes.values()]) / num_problems
    if between == 0:
        return float(num_samples)
    return min(float(num_samples), max(float(num_problems), mean * (1 - mean) / between))


def paired_difference(before: Outcomes, after: Outcomes, confidence: float) -> dict[str, object]:
    """Gain in accuracy on the problems that both have, with a paired t interval and p-value.

    Returns:
        ``{"difference", "interval": [low, high], "p_value", "num_problems"}``.
    """
    shared = [problem for problem in before if problem in after]
    gains = [fmean(after[problem]) - fmean(before[problem]) for problem in shared]
    gain = fmean(gains) if gains else 0.0
    if len(set(gains)) < 2:  # no spread to judge by: nothing changed, or everything by the same amount
        # Binomial bound on how often the next problem would do otherwise (the exact "rule of three").
        other = 1 - (1 - confidence) ** (1 / len(gains)) if gains else 1.0
        return {
            "difference": gain,
            "interval": [max(-1.0, gain - other), min(1.0, gain + other)],
            "p_value": min(1.0, 2 * 0.5 ** len(gains)) if gain else 1.0,  # of the sign test
            "num_problems": len(gains),
        }
    low, high, p_value = _t_test(gains, confidence)
    return {"difference": gain, "interval": [low, high], "p_value": p_value, "num_problems": len(gains)}


def over_seeds(values: Sequence[float], confidence: float) -> dict[str, object]:
    """Mean of one figure per seed, with a t interval over seeds and the p-value of its being zero.

    Seeds are the independent units here: the interval says what another seed may bring, which more test problems
    cannot. Where all seeds agree to the last digit, or there is only one, there is no spread to judge by, and neither
    an interval nor a p-value.

    Returns:
        ``{"mean", "interval": [low, high] or None, "p_value" or None, "num_seeds"}``; a mean of None without values.
    """
    found: dict[str, object] = {"mean": fmean(values) if values else None, "interval": None, "p_value": None}
    if len(values) >= 2 and max(values) - min(values) > 1e-12:
        low, high, p_value = _t_test(values, confidence)
        found |= {"interval": [low, high], "p_value": p_value}
    return found | {"num_seeds": len(values)}


def _t_test(values: Sequence[float], confidence: float) -> tuple[float, float, float]:
    """Interval of the mean, and the two-sided p-value of its being zero; the values must differ."""
    from scipy.stats import ttest_1samp

    test = ttest_1samp(values, 0.0)
    low, high = test.confidence_interval(confidence)
    return float(low), float(high), float(test.pvalue)


def stratified_difference(strata: Sequence[tuple[Outcomes, Outcomes]], confidence: float) -> dict[str, object]:
    """Gain on the problems that both have, for the very runs that were made: pairs of outcomes, one per seed.

    The difference is the mean over seeds of the mean gain per problem. Its interval is a percentile bootstrap that
    draws problems within each seed (10,000 draws of a fixed random stream). The p-value is the exact sign test of the
    problems won against those lost, all seeds together; with one sample per problem this is McNemar's exact test.
    Neither says what other seeds would bring: for that see `over_seeds`.

    Returns:
        ``{"difference", "interval": [low, high], "p_value", "num_problems", "num_better", "num_worse"}``, or nothing
        where no problem is shared.
    """
    import numpy
    from scipy.stats import binomtest

    gains = [
        [fmean(after[problem]) - fmean(before[problem]) for problem in before if problem in after]
        for before, after in strata
    ]
    gains = [each for each in gains if each]
    if not gains:
        return {}
    rng, draws = numpy.random.default_rng(0), numpy.zeros(_DRAWS)
    for each in gains:
        values, counts = numpy.unique(each, return_counts=True)
        draws += rng.multinomial(len(each), counts / len(each), size=_DRAWS) @ values / len(each) / len(gains)
    low, high = numpy.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    better, worse = (sum(sign * gain > 0 for each in gains for gain in each) for sign in (1, -1))
    return {
        "difference": fmean(map(fmean, gains)),
        "interval": [float(low), float(high)],
        "p_value": float(binomtest(better, better + worse).pvalue) if better + worse else 1.0,
        "num_problems": sum(map(len, gains)),
        "num_better": better,
        "num_worse": worse,
    }


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction for as many comparisons as there are p-values; None stays None."""
    from statsmodels.stats.multitest import multipletests

    known = [p for p in p_values if p is not None]
    corrected = iter(multipletests(known, method="holm")[1] if known else [])
    return [None if p is None else float(next(corrected)) for p in p_values]
