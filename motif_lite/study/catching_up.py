"""How soon a variant is where the reference ends.

Marks are noisy: on a curve that has flattened, some mark before the end is as high as the end by luck. So a goal is
the reference's end less its noise, it must be kept until the end, and what the variant takes is held against what the
reference itself takes to the same goal: a twin of the reference takes 100 %.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from math import exp, inf, log, sqrt
from typing import Any

from motif_lite.evaluation import differences
from motif_lite.study import curves
from motif_lite.study.curves import Curve

Json = dict[str, Any]
"""A table of table.json or of cost.json, which are written for people and other programs, and not read again."""

HALF = 0.5
"""The share of the reference's cost at which a variant is held against the reference's end."""

GOAL_NOISE = 2.0
"""Standard errors that the goal lies below the reference's end, and must at least lie above its start."""


def catching_up(own: Mapping[str, Curve], reference: Mapping[str, Curve], num_problems: int, confidence: float) -> Json:
    """How soon a variant is where the reference ends, on validation problems, each seed against its own reference.

    Args:
        own: The variant's curves by seed, in tokens or seconds.
        reference: The reference's.
        num_problems: That each mark is measured on.
        confidence: Coverage of the intervals.

    Returns:
        Nothing without curves. ``at_half``: accuracy at half of what the reference spends, linear between marks, less
        the reference's at its end, over the seeds whose variant has begun by then (`differences.over_seeds`).
        ``reach``: see `_reach`.
    """
    seeds = [seed for seed in own if own[seed] and reference.get(seed)]
    if not seeds:
        return {}
    ends = {seed: reference[seed][-1] for seed in seeds}
    halves = {seed: HALF * ends[seed][0] for seed in seeds}
    gains = [curves.at(own[s], half) - ends[s][1] for s, half in halves.items() if curves.start(own[s]) <= half]
    return {
        "at_half": asdict(differences.over_seeds(gains, confidence)),
        "reach": _reach([(own[seed], reference[seed]) for seed in seeds], num_problems, confidence),
    }


def _reach(pairs: list[tuple[Curve, Curve]], num_problems: int, confidence: float) -> Json:
    """From which mark on a variant stays within noise of the reference's end, against the reference's own such mark.

    Returns:
        ``num_seeds``; ``num_in_noise``: those whose goal is within noise of the reference's start; where there are
        none, ``num_reached``: those where the variant gets to the goal and stays; where these are all, ``share``: the
        geometric mean of the variant's cost by the reference's, both at marks, and ``interval``: a t interval over
        seeds of its logarithm, widened by the distance to the marks before; a bound of None is not known.
    """
    goals = [_goal(reference, num_problems) for _, reference in pairs]
    found: Json = {"num_seeds": len(pairs), "num_in_noise": goals.count(None)}
    if found["num_in_noise"]:
        return found
    spans = [
        (_span(own, goal), _span(reference, goal))
        for (own, reference), goal in zip(pairs, goals, strict=True)
        if goal is not None
    ]
    reached = [(mine, its) for mine, its in spans if mine and its]
    found["num_reached"] = len(reached)
    return found | (_shares(reached, confidence) if len(reached) == len(pairs) else {})


def _goal(reference: Curve, num_problems: int) -> float | None:
    """The reference's end less its noise; None if it is within noise of the start."""
    start, end = reference[0][1], reference[-1][1]
    allowed = GOAL_NOISE * noise(end, num_problems)
    return end - allowed if end - start > 2 * allowed else None


def _span(curve: Curve, goal: float) -> tuple[float, float] | None:
    """Costs of the mark from which on the curve stays at the goal, after that of the mark before it.

    A first mark that cost something has nothing before it. One that cost nothing has no share of the reference's cost,
    and the next one stands for it.
    """
    place = curves.stays_from(curve, goal)
    if place is None or len(curve) < 2:
        return None
    if place == 0 and curve[0][0] > 0:
        return 0.0, curve[0][0]
    place = max(place, 1)
    return curve[place - 1][0], curve[place][0]


def _shares(spans: list[tuple[tuple[float, float], tuple[float, float]]], confidence: float) -> Json:
    logs = [log(mine[1] / its[1]) for mine, its in spans]
    over = differences.over_seeds(logs, confidence)
    found: Json = {"share": exp(sum(logs) / len(logs)), "interval": None}
    if len(spans) < 2:
        return found
    reach = 0.0 if over.interval is None else (over.interval[1] - over.interval[0]) / 2
    low = _mean_log((mine[0], its[1]) for mine, its in spans) - reach
    high = _mean_log((mine[1], its[0]) for mine, its in spans) + reach
    return found | {"interval": [exp(low), None if high == inf else exp(high)]}


def _mean_log(ratios: Iterable[tuple[float, float]]) -> float:
    """Of quotients, of which one side may be zero."""
    logs = [-inf if not above else inf if not below else log(above / below) for above, below in ratios]
    return sum(logs) / len(logs)


def noise(accuracy: float, num_problems: int) -> float:
    """Standard error of the difference of two such marks, if their problems were drawn apart; they are the same."""
    share = (accuracy * num_problems + 0.5) / (num_problems + 1)  # no mark is without noise
    return sqrt(2 * share * (1 - share) / num_problems)
