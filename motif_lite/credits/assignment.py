"""How rounds are credited for the way their trajectories end: rewards, scaled advantages and weights of a step.

A round is rewarded with the recipe's rewards, as an opening is: the accuracy of the futures below it, and its own form.
Which rewards are compared with each other is the credit's own business (`chain`, `tree`).

Advantages are divided by the deviation of the same rewards over all trajectories of the problem (``scale_rewards =
"group"``), one number for all rounds of that index. In a tree this keeps openings and futures on one scale, so that
opening and future together add up to the chain's advantage for what accuracy contributes: the deviation of k siblings
alone would blow up the differences of those that have all but settled, the bias that Dr. GRPO (arXiv 2503.20783)
describes for easy and hard problems.

Every opening counts equally in the loss, its futures share its weight, and a trajectory's tokens share the
trajectory's: neither long chains nor chains of more rounds weigh more than others.

Nothing here samples, grades or trains.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Literal

from motif_lite.nouns import Opening, Turn

Scale = Literal["group", "batch", "none"]

_LEAST_DEVIATION = 1e-4
"""Added to the deviation that advantages are divided by, as in TRL."""


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
        weight: What each of its tokens counts for in the loss; one on average over the tokens of a step.
    """

    opening: int
    future: int | None
    index: int
    turn: Turn
    rewards: dict[str, float]
    advantage: float
    weight: float = 1.0


Rewarded = Callable[[Opening], dict[str, float]]
"""The rewards by name of a round with the trajectories that go through it, as if it were an opening."""

Totals = Sequence[Sequence[Sequence[float]]]
"""Of a group: the total reward by opening, future and round; a trajectory that has ended stands with its last round."""

Advantages = Callable[[Totals], Iterator[tuple[int, int | None, int, float]]]
"""Of a group, yields (opening, future or None, round, advantage before scaling); also for rounds not needed."""


def trained_rounds(
    advantages: Advantages,
    openings: Sequence[Opening],
    group_size: int,
    rewarded: Rewarded,
    total: Callable[[dict[str, float]], float],
    scale: Scale,
) -> list[TrainedRound]:
    """All rounds that a step trains, with their advantages and weights.

    Args:
        advantages: The credit's.
        openings: Of the step, with their futures; ``group_size`` in a row belong to one problem.
        total: The weighted sum of rewards by name.
        scale: Whose deviation advantages are divided by: the problem's, the step's, or nothing.
    """
    num_rounds = max(len(future.turns) for opening in openings for future in opening.futures)
    rewards = [[_by_round(opening, future, rewarded, num_rounds) for future in range(len(opening.futures))]
               for opening in openings]  # fmt: skip
    totals = [[[total(each) for each in future] for future in futures] for futures in rewards]
    rounds = []
    for start in range(0, len(openings), group_size):
        group = totals[start : start + group_size]
        deviations = [_deviation(totals if scale == "batch" else group, index, scale) for index in range(num_rounds)]
        for opening, future, index, advantage in advantages(group):
            place, path = start + opening, openings[start + opening].futures[future or 0]
            if index < len(path.turns):
                below = rewards[place] if future is None else [rewards[place][future]]
                rounds.append(TrainedRound(
                    place, future, index, path.turns[index],
                    {name: fmean(each[index][name] for each in below) for name in below[0][index]},
                    advantage / deviations[index],
                ))  # fmt: skip
    return _weighted(rounds, openings)


def _by_round(opening: Opening, future: int, rewarded: Rewarded, num_rounds: int) -> list[dict[str, float]]:
    """The rewards of a trajectory's rounds, each seen as an opening of what follows; the last one's to the end."""
    path = opening.futures[future]
    found = [rewarded(Opening(opening.problem, turn, (path,))) for turn in path.turns]
    return found + found[-1:] * (num_rounds - len(found))


def _deviation(totals: Totals, index: int, scale: Scale) -> float:
    if scale == "none":
        return 1.0
    most = max(map(len, totals))  # an opening that has ended has one future instead of k, which stands for them
    rewards = (future[index] for futures in totals for future in futures for _ in range(most // len(futures)))
    return stdev(rewards) + _LEAST_DEVIATION


def _weighted(rounds: Sequence[TrainedRound], openings: Sequence[Opening]) -> list[TrainedRound]:
    """Share the weight of each opening among its futures, and of each trajectory among its tokens."""
    num_tokens = sum(each.turn.reply.num_tokens for each in rounds)

    def weight(each: TrainedRound) -> float:
        futures = openings[each.opening].futures
        through = futures if each.future is None else (futures[each.future],)
        shares = sum(1 / future.num_tokens for future in through) / len(futures)
        return shares * num_tokens / len(openings)

    return [replace(each, weight=weight(each)) for each in rounds]
