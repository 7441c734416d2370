"""Who is trained on what: the credit that rounds get for how their trajectories end.

In the paper's credit, ``opening``, only first rounds are trained, each with the mean over its k futures; TRL computes
the advantages from our rewards (`training`). The two here train later rounds as well:

``chain``  m openings with one future each; every round of a chain has the chain's advantage (as InftyThink+ has it,
           arXiv 2602.06960).
``tree``   openings and their k futures are all trained; an opening is worth the mean over its futures and compared with
           the other openings of its problem, a future with the others of its opening. Along a trajectory the two
           advantages add up to the chain's: what is decided in the first round is credited there, the rest later.

A round is rewarded with the recipe's rewards, as an opening is: the accuracy of the futures below it, and its own form.
Advantages are divided by the deviation of the same rewards over all trajectories of the problem (``scale_rewards =
"group"``), one number for all rounds of that index. In a tree this keeps openings and futures on one scale, so that the
sum above holds for what accuracy contributes: the deviation of k siblings alone would blow up the differences of those
that have all but settled, the bias that Dr. GRPO (arXiv 2503.20783) describes for easy and hard problems.

Every opening counts equally in the loss, its futures share its weight, and a trajectory's tokens share the
trajectory's: neither long chains nor chains of more rounds weigh more than others.

Nothing here samples, grades or trains.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Literal, Protocol

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

_Table = Sequence[Sequence[Sequence[float]]]
"""Of a group: the total reward by opening, future and round; a trajectory that has ended stands with its last round."""


class Credit(Protocol):
    """Tells the advantages of the rounds of one group."""

    def __call__(self, totals: _Table) -> Iterator[tuple[int, int | None, int, float]]:
        """Yield (opening, future or None, round, advantage before scaling); rounds that were not needed included."""


def chain(totals: _Table) -> Iterator[tuple[int, int | None, int, float]]:
    """Every round of a chain against the same round of the group's other chains."""
    for index in range(len(totals[0][0])):
        rewards = [futures[0][index] for futures in totals]
        for opening, reward in enumerate(rewards):
            yield opening, 0 if index else None, index, reward - fmean(rewards)


def tree(totals: _Table) -> Iterator[tuple[int, int | None, int, float]]:
    """Openings against openings, futures against those of the same opening."""
    values = [fmean(future[0] for future in futures) for futures in totals]
    for opening, futures in enumerate(totals):
        yield opening, None, 0, values[opening] - fmean(values)
        for index in range(1, len(futures[0])):
            value = fmean(future[index] for future in futures)
            for number, future in enumerate(futures):
                yield opening, number, index, future[index] - value


CREDITS: dict[str, Credit] = {"chain": chain, "tree": tree}


def trained_rounds(
    credit: Credit,
    openings: Sequence[Opening],
    group_size: int,
    rewarded: Rewarded,
    total: Callable[[dict[str, float]], float],
    scale: Scale,
) -> list[TrainedRound]:
    """All rounds that a step trains, with their advantages and weights.

    Args:
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
        for opening, future, index, advantage in credit(group):
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


def _deviation(totals: _Table, index: int, scale: Scale) -> float:
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
