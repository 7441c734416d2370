"""How rounds are credited for the way their trajectories end: rewards, scaled advantages and weights of a step.

A round is rewarded with the recipe's rewards, as an opening is: the accuracy of the futures below it, and its own form.
Which rewards are compared with each other is the credit's own business (`chain`, `tree`).

With ``scale_rewards = "group"`` all advantages of a problem have one divisor, the deviation of rewards over its
trajectories; where rounds differ in their rewards, because each answers for its own form, their variances are averaged.
In a tree this keeps openings and futures on one scale: the deviation of k siblings alone would blow up the differences
of those that have all but settled, the bias that Dr. GRPO (arXiv 2503.20783) describes for easy and hard problems.

How tokens are weighed is ``loss_type``; docs/method.md says what each choice ascends.

Nothing here samples, grades or trains.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from statistics import fmean, stdev, variance
from typing import Literal

from motif_lite.nouns import Opening, Turn

Scale = Literal["group", "batch", "none"]

LossType = Literal["bnpo", "dapo", "dr_grpo", "grpo"]

_LEAST_DEVIATION = 1e-4
"""Added to the deviation that advantages are divided by, as in TRL."""

_ROUNDING = 1e-9
"""Rewards that differ by less, relative to the largest, are equal: their sums were rounded in another order.

It matters, because AdamW makes a whole step of any gradient, however small.
"""


@dataclass(frozen=True, slots=True)
class TrainedRound:
    """One reply that is trained.

    Attributes:
        opening: Its place among the openings of the step.
        future: Its place among the opening's futures; None for the opening itself.
        index: Of its round, from 0.
        turn: The prompt that was really used, and the reply.
        rewards: By name; of an opening in a tree, the mean over its futures.
        advantage: Of each of its tokens.
        weight: What each of its tokens counts for in the loss, which is a mean over the tokens of the step.
    """

    opening: int
    future: int | None
    index: int
    turn: Turn
    rewards: dict[str, float]
    advantage: float
    weight: float = 1.0


Totals = Sequence[Sequence[Sequence[float]]]
"""Of a group: a reward by opening, future and round; a trajectory that has ended stands with its last round."""

Advantages = Callable[[Totals], Iterator[tuple[int, int | None, int, float]]]
"""Of a group, yields (opening, future or None, round, advantage before scaling); also for rounds not needed."""

_Places = dict[tuple[int, int | None, int], float]
"""An advantage by opening, future and round."""

_Rewards = Sequence[Sequence[Sequence[Mapping[str, float]]]]
"""By opening, future, round and name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """How the rewards of a step become advantages and weights.

    Attributes:
        advantages: The credit's.
        weights: Of the rewards, by name.
        apart: Whether each reward gets an advantage of its own, and the weighted sum of advantages is scaled by the
            step's deviation (GDPO, arXiv 2601.05242); otherwise the weighted sum of rewards gets one.
        scale: Whose deviation advantages are divided by: the problem's, the step's, or nothing.
        loss_type: How tokens are weighed.
        most_tokens: Of a trajectory; what ``dr_grpo`` divides by.
    """

    advantages: Advantages
    weights: Mapping[str, float]
    apart: bool = False
    scale: Scale = "group"
    loss_type: LossType = "bnpo"
    most_tokens: int = 1


def trained_rounds(
    scheme: Scheme, openings: Sequence[Opening], group_size: int, rewarded: Callable[[Opening], dict[str, float]]
) -> list[TrainedRound]:
    """All rounds that a step trains, with their advantages and weights.

    Args:
        openings: Of the step, with their futures; ``group_size`` in a row belong to one problem.
        rewarded: The rewards by name of a round with the trajectories that go through it, as if it were an opening.
    """
    num_rounds = max(len(future.turns) for opening in openings for future in opening.futures)
    rewards = [[_by_round(opening, future, rewarded, num_rounds) for future in range(len(opening.futures))]
               for opening in openings]  # fmt: skip
    rounds = []
    for (place, future, index), advantage in _advantages(scheme, rewards, group_size).items():
        path = openings[place].futures[future or 0]
        if index < len(path.turns):
            below = rewards[place] if future is None else [rewards[place][future]]
            means = {name: fmean(each[index][name] for each in below) for name in below[0][index]}
            rounds.append(TrainedRound(place, future, index, path.turns[index], means, advantage))
    return _weighted(scheme, _scaled_by_step(rounds) if scheme.apart else rounds, openings)


def differ(rewards: Sequence[float]) -> bool:
    """Whether rewards differ by more than rounding."""
    return max(rewards) - min(rewards) > _ROUNDING * max(map(abs, rewards))


def _by_round(
    opening: Opening, future: int, rewarded: Callable[[Opening], dict[str, float]], num_rounds: int
) -> list[dict[str, float]]:
    """The rewards of a trajectory's rounds, each seen as an opening of what follows; the last one's to the end."""
    path = opening.futures[future]
    found = [rewarded(Opening(opening.problem, turn, (path,))) for turn in path.turns]
    return found + found[-1:] * (num_rounds - len(found))


def _advantages(scheme: Scheme, rewards: _Rewards, group_size: int) -> _Places:
    """Of every round: of the weighted sum of rewards, or the weighted sum of each reward's own."""
    if not scheme.apart:
        return _scaled(scheme, rewards, group_size, scheme.weights)
    parts = [(_scaled(scheme, rewards, group_size, {name: 1.0}), weight) for name, weight in scheme.weights.items()]
    return {place: sum(part[place] * weight for part, weight in parts) for place in parts[0][0]}


def _scaled(scheme: Scheme, rewards: _Rewards, group_size: int, weights: Mapping[str, float]) -> _Places:
    """Advantages of a weighted sum of rewards, relative to the group and divided by a deviation."""
    totals = [
        [[sum(weight * each[name] for name, weight in weights.items()) for each in future] for future in futures]
        for futures in rewards
    ]
    found = {}
    for start in range(0, len(totals), group_size):
        group = totals[start : start + group_size]
        divisor = 1.0 if scheme.scale == "none" else _deviation(totals if scheme.scale == "batch" else group)
        rounding = _ROUNDING * max(abs(reward) for futures in group for future in futures for reward in future)
        for opening, future, index, advantage in scheme.advantages(group):
            found[start + opening, future, index] = advantage / divisor if abs(advantage) > rounding else 0.0
    return found


def _deviation(totals: Totals) -> float:
    """Over trajectories, one number for all rounds: the root of the mean variance of a round."""
    most = max(map(len, totals))  # an opening that has ended has one future instead of k, which stands for them
    paths = [future for futures in totals for future in futures for _ in range(most // len(futures))]
    return sqrt(fmean(variance(rewards) for rewards in zip(*paths, strict=True))) + _LEAST_DEVIATION


def _scaled_by_step(rounds: Sequence[TrainedRound]) -> list[TrainedRound]:
    divisor = stdev(each.advantage for each in rounds) + _LEAST_DEVIATION
    return [replace(each, advantage=each.advantage / divisor) for each in rounds]


def _weighted(scheme: Scheme, rounds: Sequence[TrainedRound], openings: Sequence[Opening]) -> list[TrainedRound]:
    """Share the weight of each token of an opening among its futures' tokens, and scale as the loss type wants it."""
    num_tokens = sum(each.turn.reply.num_tokens for each in rounds)

    def share(each: TrainedRound) -> float:
        futures = openings[each.opening].futures
        through = futures if each.future is None else (futures[each.future],)
        if scheme.loss_type == "grpo":
            return sum(1 / future.num_tokens for future in through) / len(futures)
        return len(through) / len(futures)

    shares = [share(each) for each in rounds]
    match scheme.loss_type:
        case "grpo":  # every trajectory counts equally
            whole = float(len(openings))
        case "dr_grpo":
            whole = float(len(openings) * scheme.most_tokens)
        case _:
            whole = sum(part * each.turn.reply.num_tokens for part, each in zip(shares, rounds, strict=True))
    return [replace(each, weight=part * num_tokens / whole) for part, each in zip(shares, rounds, strict=True)]
