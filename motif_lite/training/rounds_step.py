"""A training step of the credits that train later rounds as well (`credits.base.RoundsCredit`).

TRL knows nothing of rounds, so it is handed all replies as rows, each with the prompt that was really used (its
experimental ``rollout_func``), and our advantages take the place of its own (`trainer`).
"""

import random
from collections.abc import Sequence
from functools import partial
from typing import Any

from motif_lite.credits.assignment import Rewards, Scheme, TrainedRound, rewards_by_round, trained_rounds
from motif_lite.credits.base import RoundsCredit
from motif_lite.nouns import Opening
from motif_lite.recipe.schema import Recipe
from motif_lite.rollout.rollouts import derive_seed
from motif_lite.training.context import TrainingContext
from motif_lite.training.importance import drawn_logprobs
from motif_lite.training.mismatch import Drawn
from motif_lite.training.refilling import Group
from motif_lite.training.rewarding import Rows, rewards_of
from motif_lite.training.step import TrainingStep


class RoundsStep(TrainingStep):
    """Later rounds are trained as well; all of them are sampled here."""

    def __init__(self, context: TrainingContext, credit: RoundsCredit) -> None:
        super().__init__(context)
        self._advantages: Sequence[float] = ()
        self._scheme = scheme(context.recipe, credit)
        self._branches_of = credit.branches

    def roll_out(self, problem_ids: Sequence[str], step: int) -> dict[str, Any]:
        """A row for each round, and for some that are not trained."""
        names = problem_ids[:: self.credit.trained_per_opening(self.recipe)]
        rewards = self._filled(names, step)
        opening = self.rollouts.openings[step % len(names)].turn
        self.drawn = Drawn(self.policy.encode(opening.prompt), opening.reply)
        self.trained = self._trained(self.rollouts.openings, rewards, self.branches)
        self.rewards = self._by_name([each.rewards for each in self.trained if each.future is None])
        self._update(f"{sum(each.weight > 0 for each in self.trained)} rounds")
        return self._rows(len(problem_ids))

    def has_signal(self, group: Group) -> bool:
        """Whether any of its rounds has an advantage."""
        trained = self._trained(group.openings, group.rewards, group.branches)
        return any(each.advantage * each.weight for each in trained)

    def _trained(
        self, openings: Sequence[Opening], rewards: Sequence[Any], branches: Sequence[int] | None
    ) -> list[TrainedRound]:
        return trained_rounds(self._scheme, openings, self.recipe.rollout.num_openings, list(rewards), branches)

    def _rewarded(self, openings: Sequence[Opening], step: int) -> Rewards:
        return rewards_by_round(openings, partial(rewards_of, self.recipe, step=step + 1))

    def _branches(self, num_openings: int, step: int, start: int) -> list[int] | None:
        further = [start] if start else []
        rng = random.Random(derive_seed(self.recipe.seed, "branches", step, *further))
        return self._branches_of(self.strategy.num_rounds, num_openings, rng)

    def _rows(self, num_rows: int) -> dict[str, Any]:
        """The rounds, and rows of one token without advantage for those that are not there or are left out."""
        rounds, filler = self._in_update, self.trained[0].turn
        missing = num_rows - len(rounds)
        lengths = [len(each.turn.reply.token_ids) for each in rounds]
        num_tokens = sum(each.turn.reply.num_tokens for each in self.trained)
        loss_type = self.credit.loss_type(self.recipe.training)
        shares = [share / num_tokens for share in what_trl_divides_by(loss_type, lengths, missing)]
        advantages = [each.advantage * each.weight * share for each, share in zip(rounds, shares, strict=True)]
        self._advantages = advantages + [0.0] * missing
        prompts = [self.policy.encode(each.turn.prompt) for each in rounds]
        replies = [list(each.turn.reply.token_ids) for each in rounds]
        return {
            "prompt_ids": prompts + [self.policy.encode(filler.prompt)] * missing,
            "completion_ids": replies + [list(filler.reply.token_ids[:1])] * missing,
            "logprobs": drawn_logprobs(self.recipe.training, [each.turn.reply for each in rounds], missing),
        }

    @property
    def _in_update(self) -> list[TrainedRound]:
        return [each for each in self.trained if each.weight]

    def column(self, reward: str, rows: Rows) -> list[float]:
        """One reward of every row, for TRL's own figures; nothing is learned from it."""
        rewards = [each.rewards[reward] for each in self._in_update]
        return rewards + [0.0] * (len(rows.problem_ids) - len(rewards))

    def advantages(self, of_trl: Sequence[float]) -> Sequence[float]:
        """Our own, not relative to TRL's groups; weights included."""
        return self._advantages


def scheme(recipe: Recipe, credit: RoundsCredit) -> Scheme:
    """How a credit that trains later rounds makes advantages and weights of a recipe's rewards."""
    training = recipe.training
    return Scheme(
        advantages=credit.advantages,
        weights=recipe.rewards,
        apart=training.multi_objective_aggregation == "normalize_then_sum",
        scale=training.scale_rewards,
        loss_type=training.loss_type,
        most_tokens=credit.most_trained_tokens(recipe),
        trains_truncated=not training.mask_truncated_completions,
    )


def what_trl_divides_by(loss_type: str, lengths: Sequence[int], missing: int) -> list[float]:
    """What TRL divides each token's loss by, row by row, in its average over a step.

    Args:
        loss_type: TRL's name.
        lengths: Of the rows, in tokens.
        missing: More rows, of one token each.
    """
    rows = float(len(lengths) + missing)
    match loss_type:
        case "sapo":  # the mean of a row's tokens, then of rows
            return [rows * length for length in lengths]
        case "luspo":  # the mean of rows
            return [rows] * len(lengths)
        case _:
            return [float(sum(lengths) + missing)] * len(lengths)
