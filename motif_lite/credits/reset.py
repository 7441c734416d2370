"""One round of every chain is trained, drawn at random, with the mean over k futures that start after it.

The idea is that of resetting to a state of a trajectory and sampling from there, as in vine-style estimates of values
(VinePPO, arXiv 2410.01679). With n rounds, reply y_j of round j, the prompt x_j that it answers, and the reward R of a
whole trajectory, let Q_j = E[R | x_1, y_1, ..., y_j] and g_j = d log p(y_j | x_j). The policy gradient is

    dJ = sum over j of  E[ g_j (Q_j - b) ]        for any b that does not depend on y_j.

`chain` trains all n terms with R in place of Q_j. Here a round J is drawn for each of the m chains of a problem, the
same for every round and independent of what is written; the chain is sampled up to that round, k futures continue it
to the end, and q, the mean of their rewards, stands for Q_J. The baseline b is the mean over the group's chains at the
same round, each by its own trajectories. A step ascends the mean over chains of

    G = g_J (q - b),      E[G] = (1/n) (m - 1)/m dJ.

**Bias**: none but two constant factors. One round in n is trained, and tokens are averaged over what is trained, so at
a given learning rate a step is as long as `chain`'s; (m - 1)/m comes from the group's mean, which holds the chain's own
value, as in `opening` and `chain`. What `scale_rewards` and `loss_type` add is the same as there (docs/method.md).

**Variance**, with b constant and V_j = Var[R | x_1, y_1, ..., y_j], which is 0 for j = n:

    trace Var[n G] = n sum over j of E[ |g_j|^2 (Q_j - b)^2 ] - |dJ|^2  +  n sum over j of E[ |g_j|^2 V_j ] / k

The first two terms are the price of drawing a round, n times the sum where training all rounds has it once; the last
one is what futures bring: chance in later rounds counts a k-th. More futures pay where V_j is large, which is in early
rounds of long trajectories.

A chain costs J + k (n - J) replies, on average (n + 1)/2 + k (n - 1)/2, against 1 + k (n - 1) of `opening`, which is
the case J = 1. A chain that has ended before round J (``rollout.early_finish``) trains nothing: in expectation every
round that exists is trained equally often, so this adds no bias. It still counts in the others' mean.
"""

import random
from collections.abc import Iterator
from statistics import fmean

from motif_lite.credits.assignment import Totals
from motif_lite.credits.base import RoundsCredit
from motif_lite.recipe.schema import Recipe


class ResetCredit(RoundsCredit):
    """A random round of each chain against the same round of the group's other chains."""

    name = "reset"
    summary = "one round of each chain, drawn at random, is trained with the mean reward of its continuations"
    trains_every_opening = False

    def trained_per_opening(self, recipe: Recipe) -> int:
        """One round."""
        return 1

    def replies_per_opening(self, recipe: Recipe, round_number: int) -> float:
        """One up to the round that was drawn, then k."""
        share = (round_number - 1) / recipe.rollout.num_rounds
        return share * recipe.rollout.num_futures + 1 - share

    def most_trained_tokens(self, recipe: Recipe) -> int:
        """Of the longest round."""
        return max(recipe.rollout.openings.max_tokens, recipe.rollout.futures.max_tokens)

    def branches(self, num_rounds: int, num_openings: int, rng: random.Random) -> list[int]:
        """A round of each chain, all equally likely."""
        return [rng.randint(1, num_rounds) for _ in range(num_openings)]

    def advantages(self, totals: Totals) -> Iterator[tuple[int, int | None, int, float]]:
        """Of every round, of which the one that was drawn is used: its mean over futures less that of the group."""
        values = [[fmean(rewards) for rewards in zip(*futures, strict=True)] for futures in totals]
        means = [fmean(at_round) for at_round in zip(*values, strict=True)]
        for opening, by_round in enumerate(values):
            for index, value in enumerate(by_round):
                yield opening, None, index, value - means[index]
