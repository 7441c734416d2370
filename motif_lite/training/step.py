"""A training step as TRL performs it: where rollouts come from, and what they are rewarded with.

`OpeningStep` is the paper's credit: TRL samples openings, calls our reward callables, computes advantages and trains
the openings. The first callable of a step rolls the futures out, from the policy as it stands, and the others read what
it found. Reward callables are the one way into TRL's trainer that is not experimental.

`RoundsStep` serves the credits that train later rounds as well (`credits.base.RoundsCredit`). TRL knows nothing of
rounds, so it is handed all replies as rows, each with the prompt that was really used (its experimental
``rollout_func``), and our advantages take the place of its own (`trainer`).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from transformers import TrainerState

from motif_lite.credits.assignment import Scheme, TrainedRound, trained_rounds
from motif_lite.credits.base import RoundsCredit
from motif_lite.grading.answers import grade
from motif_lite.nouns import Conversation, OnTokens, Opening, Problem, Turn
from motif_lite.planning.metering import PhaseMeter
from motif_lite.recipe.schema import Recipe
from motif_lite.rollout import counting
from motif_lite.rollout.rewards import earned, gold_and_replies, remedy_for
from motif_lite.rollout.rollouts import Rollouts, derive_seed
from motif_lite.rollout.thinking import write_openings
from motif_lite.rollout.totals import have_signal
from motif_lite.training.context import TrainingContext
from motif_lite.training.mismatch import Drawn


@dataclass(frozen=True, slots=True)
class Rows:
    """What TRL hands to a reward callable, row by row.

    Attributes:
        completions: As text; the same object for all rewards of a step.
        step: Steps done before.
    """

    prompts: list[Conversation]
    completions: object
    completion_ids: list[list[int]]
    problem_ids: list[str]
    step: int


class TrainingStep:
    """One step's rollouts, rewards and measurements, gathered while TRL performs it."""

    def __init__(self, context: TrainingContext) -> None:
        self.recipe, self.policy, self.strategy = context.recipe, context.policy, context.strategy
        self.observer, self.credit, self.read_progress = context.observer, context.credit, context.read_progress
        device_type = context.policy.device_type
        self.planned_bytes = context.planned.measurable(device_type) if context.planned else {}
        self.meter = PhaseMeter(device_type)
        self.rollouts = Rollouts(())
        self.rewards: dict[str, list[float]] = {}
        """By name, one per opening."""
        self.num_retries = 0
        """Comparisons of this step's answers that had to be made again."""
        self.drawn: Drawn | None = None
        """One opening of the step, another one each time, as it was drawn; None where TRL draws them."""
        self.trained: list[TrainedRound] = []
        """Where more than the openings is trained: all that is."""
        self.branches: Sequence[int] | None = None
        """By opening, the round after which its futures part; None where that is the first one of all."""
        self._problems = {problem.id: problem for problem in context.problems}

    @property
    def tokens(self) -> dict[str, int]:
        """Generated in this step, by phase."""
        return counting.generated_tokens(self.rollouts.openings)

    def reward_callables(self) -> list["RewardCallable"]:
        """One callable per reward of the recipe, in its order, for TRL."""
        return [RewardCallable(name, self) for name in self.recipe.rewards]

    def column(self, reward: str, rows: Rows) -> list[float]:
        """One reward of every row that TRL trains."""
        raise NotImplementedError

    def advantages(self, of_trl: Sequence[float]) -> Sequence[float]:
        """Of every row that TRL trains, given those that it has computed."""
        raise NotImplementedError

    def left_out(self) -> list[bool]:
        """Whether each row is kept out of the update after all."""
        return []

    def _continue(self, openings: list[tuple[Problem, Turn]], step: int, branches: Sequence[int] | None = None) -> None:
        """Roll the openings out to the last round, and grade all replies at once, for rewards and metrics."""
        self.meter.start("futures")
        self.branches = branches
        self.rollouts = self.strategy.continue_openings(
            self.policy,
            openings,
            self.credit.futures_per_opening(self.recipe),
            self.recipe.rollout.futures,
            seed=derive_seed(self.recipe.seed, "futures", step),
            on_round=self.on_round,
            branches=branches,
        )
        self.meter.start("grading")
        self.observer.phase("grading", f"{len(openings)} openings")
        self.num_retries = grade(gold_and_replies(self.rollouts.openings), self.observer.advance)

    def _by_name(self, rewards: Sequence[dict[str, float]]) -> dict[str, list[float]]:
        return {name: [each[name] for each in rewards] for name in self.recipe.rewards}

    def _update(self, what: str) -> None:
        self.observer.phase("update", what)
        self.meter.start("update")

    def on_round(self, round_number: int, num_rounds: int, width: int) -> OnTokens:
        """Tell of a round that begins; returns what is told of its progress."""
        phase = "openings" if round_number == 1 else "futures"
        self.observer.phase(phase, f"round {round_number} of {num_rounds}, {width} replies")
        return self.observer.generating


class OpeningStep(TrainingStep):
    """Openings alone are trained; TRL samples them."""

    _completions: object = None

    def column(self, reward: str, rows: Rows) -> list[float]:
        """One reward of every opening; the first call with new completions rolls them out."""
        if rows.completions is not self._completions:
            stop = self.recipe.rollout.openings.stop
            openings = [
                (self._problems[name], Turn(self.policy.render(prompt), self.policy.read_reply(ids, stop)))
                for name, prompt, ids in zip(rows.problem_ids, rows.prompts, rows.completion_ids, strict=True)
            ]
            self._continue(openings, rows.step)
            rewarded = [_rewards(self.recipe, opening, step=rows.step + 1) for opening in self.rollouts.openings]
            self.rewards = self._by_name(rewarded)
            self._update(f"{len(openings)} openings")
            self._completions = rows.completions
        return self.rewards[reward]

    def advantages(self, of_trl: Sequence[float]) -> Sequence[float]:
        """TRL's own, but 0 where all rewards of a group are equal: a mean in 32 bits need not be equal to them."""
        size, signals = self.recipe.rollout.num_openings, have_signal(self.recipe, self.rewards)
        return [advantage if signals[row // size] else 0.0 for row, advantage in enumerate(of_trl)]

    def left_out(self) -> list[bool]:
        """Openings that were cut off, if the recipe wants it so."""
        masks = self.recipe.training.mask_truncated_completions
        return [masks and opening.turn.reply.finish == "length" for opening in self.rollouts.openings]


class RoundsStep(TrainingStep):
    """Later rounds are trained as well; all of them are sampled here."""

    def __init__(self, context: TrainingContext, credit: RoundsCredit) -> None:
        super().__init__(context)
        self._advantages: Sequence[float] = ()
        self._scheme = scheme(context.recipe, credit)
        self._branches = credit.branches

    def roll_out(self, problem_ids: Sequence[str], step: int) -> dict[str, Any]:
        """Sample and reward all rounds of a step, as rows for TRL.

        Args:
            problem_ids: One per row, those of a problem in a row.

        Returns:
            ``prompt_ids`` and ``completion_ids``, by row; ``logprobs`` None.
        """
        rollout = self.recipe.rollout
        names = problem_ids[:: rollout.num_openings * self.credit.trained_per_opening(self.recipe)]
        problems = [self._problems[name] for name in names for _ in range(rollout.num_openings)]
        seed = derive_seed(self.recipe.seed, "openings", step)
        rng = random.Random(derive_seed(self.recipe.seed, "branches", step))
        branches = self._branches(self.strategy.num_rounds, len(problems), rng)
        self._continue(
            write_openings(
                self.policy, self.strategy, problems, rollout.openings, seed=seed, on_round=self.on_round
            ),
            step,
            branches,
        )  # fmt: skip
        opening = self.rollouts.openings[step % len(problems)].turn
        self.drawn = Drawn(self.policy.encode(opening.prompt), opening.reply)
        rewarded = partial(_rewards, self.recipe, step=step + 1)
        self.trained = trained_rounds(self._scheme, self.rollouts.openings, rollout.num_openings, rewarded, branches)
        self.rewards = self._by_name([each.rewards for each in self.trained if each.future is None])
        self._update(f"{sum(each.weight > 0 for each in self.trained)} rounds")
        return self._rows(len(problem_ids))

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
            "logprobs": None,
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


class RewardCallable:
    """What TRL calls for one reward; its name is the reward's."""

    def __init__(self, name: str, step: TrainingStep) -> None:
        self.__name__ = name
        self._step = step

    def __call__(
        self,
        prompts: list[Conversation],
        completions: object,
        completion_ids: list[list[int]],
        problem_id: list[str],
        trainer_state: TrainerState,
        **_: Any,
    ) -> list[float]:
        """One reward per completion."""
        steps = trainer_state.global_step // self._step.recipe.training.num_iterations
        rows = Rows(prompts, completions, completion_ids, problem_id, steps)
        return self._step.column(self.__name__, rows)


def _rewards(recipe: Recipe, opening: Opening, *, step: int) -> dict[str, float]:
    """The rewards of an opening, or of a later round seen as one, by name.

    Raises:
        TrainingError: A reward raises, or what it gives is not a number.
    """
    return {
        name: earned(
            recipe,
            name,
            opening,
            where=f"in step {step} on an opening of problem {opening.problem.id}",
            remedy="run.log has the opening; " + remedy_for(name),
        )
        for name in recipe.rewards
    }
