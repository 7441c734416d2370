"""How rounds are credited for the way their trajectories end: rewards, scaled advantages and weights of a step.

A round is rewarded with the recipe's rewards, as an opening is: the accuracy of the futures below it, and its own form.
Which rewards are compared with each other is the credit's own business (`chain`, `tree`).

With ``scale_rewards = "group"`` all advantages of a problem have one divisor, the deviation of rewards over its
trajectories; where rounds differ in their rewards, because each answers for its own form, their variances are averaged.
In a tree this keeps openings and futures on one scale: the deviation of k siblings alone would blow up the differences
of those that have all but settled, the bias that Dr. GRPO (arXiv 2503.20783) describes for easy and hard problems.
Where one round of each chain is trained (`reset`), the divisor is the deviation of their values, as the paper's is that
of openings' values.

How tokens are weighed is ``loss_type``; docs/method.md says what each choice ascends.

Nothing here samples, grades or trains.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from statistics import fmean, stdev, variance
from typing import Literal

from motif_lite.nouns import Opening, Turn
from motif_lite.recipe.training import LossType

Scale = Literal["group", "batch", "none"]

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
        weight: What each of its tokens counts for in the loss, which is a mean over the tokens of the step; 0 where
            it is left out of the update.
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

Rewards = list[list[list[dict[str, float]]]]
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
        trains_truncated: Whether replies that were cut off are part of the update.
    """

    advantages: Advantages
    weights: Mapping[str, float]
    apart: bool = False
    scale: Scale = "group"
    loss_type: LossType = "bnpo"
    most_tokens: int = 1
    trains_truncated: bool = True


def rewards_by_round(openings: Sequence[Opening], rewarded: Callable[[Opening], dict[str, float]]) -> Rewards:
    """The rewards of all rounds that exist, each seen as an opening of what follows.

    Args:
        rewarded: The rewards by name of a round with the trajectory that goes through it, as if it were an opening.
    """
    return [
        [[rewarded(Opening(opening.problem, turn, (path,))) for turn in path.turns] for path in opening.futures]
        for opening in openings
    ]


def trained_rounds(
    scheme: Scheme,
    openings: Sequence[Opening],
    group_size: int,
    rewards: Rewards,
    branches: Sequence[int] | None = None,
) -> list[TrainedRound]:
    """All rounds that a step trains, with their advantages and weights.

    Args:
        openings: Of the step, with their futures; ``group_size`` in a row belong to one problem.
        rewards: As `rewards_by_round` gives them.
        branches: By opening, the only round that is trained, from 1; with weight 0, the last one of a trajectory that
            ended before it.
    """
    lengths = (len(future.turns) for opening in openings for future in opening.futures)
    num_rounds = max([*lengths, *(branches or ())])
    rewards = [[future + future[-1:] * (num_rounds - len(future)) for future in futures] for futures in rewards]
    rounds = []
    for (place, future, index), advantage in _advantages(scheme, rewards, group_size, branches).items():
        path = openings[place].futures[future or 0]
        exists, last = index < len(path.turns), len(path.turns) - 1
        if exists or branches:
            below = rewards[place] if future is None else [rewards[place][future]]
            means = {name: fmean(each[index][name] for each in below) for name in below[0][index]}
            turn = path.turns[min(index, last)]
            rounds.append(TrainedRound(place, future, min(index, last), turn, means, advantage, float(exists)))
    rounds = _scaled_by_step(rounds) if scheme.apart else rounds
    return _weighted(scheme, rounds, openings, alone=branches is not None)


def differ(rewards: Sequence[float]) -> bool:
    """Whether rewards differ by more than rounding."""
    return max(rewards) - min(rewards) > _ROUNDING * max(map(abs, rewards))


def _advantages(scheme: Scheme, rewards: Rewards, group_size: int, branches: Sequence[int] | None) -> _Places:
    """Of every round: of the weighted sum of rewards, or the weighted sum of each reward's own."""
    if not scheme.apart:
        return _scaled(scheme, rewards, group_size, scheme.weights, branches)
    parts = [
        (_scaled(scheme, rewards, group_size, {name: 1.0}, branches), weight) for name, weight in scheme.weights.items()
    ]
    return {place: sum(part[place] * weight for part, weight in parts) for place in parts[0][0]}


def _scaled(
    scheme: Scheme,
    rewards: Rewards,
    group_size: int,
    weights: Mapping[str, float],
    branches: Sequence[int] | None,
) -> _Places:
    """Advantages of a weighted sum of rewards, relative to the group and divided by a deviation."""
    totals = [
        [[sum(weight * each[name] for name, weight in weights.items()) for each in future] for future in futures]
        for futures in rewards
    ]
    found = {}
    for start in range(0, len(totals), group_size):
        group = totals[start : start + group_size]
        divisor = _divisor(scheme.scale, totals, slice(start, start + group_size), branches)
        rounding = _ROUNDING * max(abs(reward) for futures in group for future in futures for reward in future)
        for opening, future, index, advantage in scheme.advantages(group):
            if branches and index != branches[start + opening] - 1:
                continue
            found[start + opening, future, index] = advantage / divisor if abs(advantage) > rounding else 0.0
    return found


def _divisor(scale: Scale, totals: Totals, group: slice, branches: Sequence[int] | None) -> float:
    if scale == "none":
        return 1.0
    compared = slice(None) if scale == "batch" else group
    return _deviation_at(totals[compared], branches[compared]) if branches else _deviation(totals[compared])


def _deviation_at(totals: Totals, branches: Sequence[int]) -> float:
    """Of each opening's value at its own round, from the mean of all at that round."""
    values = [[fmean(rewards) for rewards in zip(*futures, strict=True)] for futures in totals]
    means = [fmean(by_round) for by_round in zip(*values, strict=True)]
    squares = [(value[branch - 1] - means[branch - 1]) ** 2 for value, branch in zip(values, branches, strict=True)]
    return sqrt(sum(squares) / (len(squares) - 1)) + _LEAST_DEVIATION


def _deviation(totals: Totals) -> float:
    """Over trajectories, one number for all rounds: the root of the mean variance of a round."""
    most = max(map(len, totals))  # an opening that has ended has one future instead of k, which stands for them
    paths = [future for futures in totals for future in futures for _ in range(most // len(futures))]
    return sqrt(fmean(variance(rewards) for rewards in zip(*paths, strict=True))) + _LEAST_DEVIATION


def _scaled_by_step(rounds: Sequence[TrainedRound]) -> list[TrainedRound]:
    """Over the rounds that exist; the advantage of a single one has no deviation, and stays as it is."""
    compared = [each.advantage for each in rounds if each.weight]
    divisor = stdev(compared) + _LEAST_DEVIATION if len(compared) > 1 else 1.0
    return [replace(each, advantage=each.advantage / divisor) for each in rounds]


def _weighted(
    scheme: Scheme, rounds: Sequence[TrainedRound], openings: Sequence[Opening], *, alone: bool
) -> list[TrainedRound]:
    """Share the weight of each token of an opening among its futures' tokens, and scale as the loss type wants it.

    Args:
        alone: One round of each trajectory is trained: its length, not the trajectory's, is what ``grpo`` divides by.
    """
    num_tokens = sum(each.turn.reply.num_tokens for each in rounds)

    def share(each: TrainedRound) -> float:
        if not each.weight or (each.turn.reply.finish == "length" and not scheme.trains_truncated):
            return 0.0
        futures = openings[each.opening].futures
        through = futures if each.future is None else (futures[each.future],)
        if scheme.loss_type in ("grpo", "sapo"):
            if alone:
                return 1 / each.turn.reply.num_tokens
            return sum(1 / future.num_tokens for future in through) / len(futures)
        return len(through) / len(futures)

    shares = [share(each) for each in rounds]
    match scheme.loss_type:
        case "grpo" | "sapo" | "luspo":  # every trajectory counts equally; with luspo, each of its tokens fully
            whole = float(len(openings))
        case "dr_grpo":
            whole = float(len(openings) * scheme.most_tokens)
        case _:
            whole = sum(part * each.turn.reply.num_tokens for part, each in zip(shares, rounds, strict=True)) or 1.0
    return [replace(each, weight=part * num_tokens / whole) for part, each in zip(shares, rounds, strict=True)]
