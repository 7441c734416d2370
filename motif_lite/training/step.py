"""A training step as TRL performs it: where rollouts come from, and what they are rewarded with.

`OpeningStep` is the paper's credit: TRL samples openings, calls our reward callables, computes advantages and trains
the openings. The first callable of a step rolls the futures out, from the policy as it stands, and the others read what
it found. Reward callables are the one way into TRL's trainer that is not experimental.

Credits that train later rounds as well have a step of their own (`rounds_step`).

Of several processes each rolls out and grades its own problems; then all have all of them, and so the same rewards.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers import TrainerState

from motif_lite.credits.assignment import TrainedRound
from motif_lite.grading import answers
from motif_lite.grading.judge import Pair
from motif_lite.grading.rulings import Ruling
from motif_lite.nouns import Conversation, OnTokens, Opening, Problem, Reply, Turn
from motif_lite.planning.metering import PhaseMeter
from motif_lite.recipe.schema import Recipe
from motif_lite.rollout import counting
from motif_lite.rollout.rewards import earned, gold_and_replies, remedy_for
from motif_lite.rollout.rollouts import Rollouts, derive_seed
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


@dataclass(frozen=True, slots=True)
class _Part:
    """What one of the run's processes has rolled out of a step.

    Attributes:
        rewards: An entry per opening.
        rulings: What was found out about its replies, so that no other process has to.
    """

    openings: tuple[Opening, ...]
    num_cut: int
    num_retries: int
    rewards: list[Any]
    rulings: list[tuple[Pair, Ruling]]


class TrainingStep:
    """One step's rollouts, rewards and measurements, gathered while TRL performs it."""

    def __init__(self, context: TrainingContext) -> None:
        self.recipe, self.policy, self.strategy = context.recipe, context.policy, context.strategy
        self.observer, self.credit, self.read_progress = context.observer, context.credit, context.read_progress
        self.ranks, device_type = context.ranks, context.policy.device_type
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

    def write_rows(self, prompts: Sequence[list[int]]) -> list[Reply]:
        """Openings, as TRL asks for them by their prompts' tokens.

        Their seeds are drawn from PyTorch's own stream in the main process, which checkpoints keep.
        """
        seeds = self.ranks.from_main(list[int], torch.randint(2**31, (len(prompts),)).tolist())
        own = self.ranks.share(len(prompts))
        parts = self.ranks.gather(
            list[Reply],
            lambda: self.policy.write_rows(prompts[own], self.recipe.rollout.openings, seeds=seeds[own]),
        )
        return [reply for part in parts for reply in part]

    def column(self, reward: str, rows: Rows) -> list[float]:
        """One reward of every row that TRL trains."""
        raise NotImplementedError

    def advantages(self, of_trl: Sequence[float]) -> Sequence[float]:
        """Of every row that TRL trains, given those that it has computed."""
        raise NotImplementedError

    def left_out(self) -> list[bool]:
        """Whether each row is kept out of the update after all."""
        return []

    def _rolled_out(
        self,
        num_openings: int,
        begun: Callable[[slice], list[tuple[Problem, Turn]]],
        rewarded: Callable[[Sequence[Opening]], list[Any]],
        step: int,
        branches: Sequence[int] | None = None,
    ) -> list[Any]:
        """Roll the step's openings out and reward them, in each process its own problems'.

        Args:
            begun: Gives some of the step's openings.
            rewarded: Gives an entry for each opening with its futures.

        Returns:
            The entries of all.
        """
        own, self.branches = self.ranks.share(num_openings), branches

        def part() -> _Part:
            return self._part(begun(own), rewarded, step, own.start, branches[own] if branches is not None else None)

        parts = self.ranks.gather(_Part, part)
        self.rollouts = Rollouts(
            tuple(opening for each in parts for opening in each.openings), sum(each.num_cut for each in parts)
        )
        self.num_retries = sum(each.num_retries for each in parts)
        for each in parts:
            answers.learn(each.rulings)
        return [entry for each in parts for entry in each.rewards]

    def _part(
        self,
        openings: list[tuple[Problem, Turn]],
        rewarded: Callable[[Sequence[Opening]], list[Any]],
        step: int,
        start: int,
        branches: Sequence[int] | None,
    ) -> _Part:
        """Roll openings out to the last round, and grade all replies at once, for rewards and metrics.

        Args:
            start: The place of the first one in the step.
        """
        self.meter.start("futures")
        found = self.strategy.continue_openings(
            self.policy,
            openings,
            self.credit.futures_per_opening(self.recipe),
            self.recipe.rollout.futures,
            seed=derive_seed(self.recipe.seed, "futures", step),
            start=start,
            on_round=self.on_round,
            branches=branches,
        )
        self.meter.start("grading")
        self.observer.phase("grading", f"{len(openings)} openings")
        pairs = list(gold_and_replies(found.openings))
        num_retries = answers.grade(pairs, self.observer.advance)
        rewards = rewarded(found.openings)
        return _Part(found.openings, found.num_cut, num_retries, rewards, answers.rulings(pairs))

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
            rewarded = partial(rewards_of, self.recipe, step=rows.step + 1)
            entries = self._rolled_out(
                len(rows.problem_ids), partial(self._begun, rows), lambda found: [*map(rewarded, found)], rows.step
            )
            self.rewards = self._by_name(entries)
            self._update(f"{len(entries)} openings")
            self._completions = rows.completions
        return self.rewards[reward]

    def _begun(self, rows: Rows, part: slice) -> list[tuple[Problem, Turn]]:
        stop = self.recipe.rollout.openings.stop
        return [
            (self._problems[name], Turn(self.policy.render(prompt), self.policy.read_reply(ids, stop)))
            for name, prompt, ids in zip(
                rows.problem_ids[part], rows.prompts[part], rows.completion_ids[part], strict=True
            )
        ]

    def advantages(self, of_trl: Sequence[float]) -> Sequence[float]:
        """TRL's own, but 0 where all rewards of a group are equal: a mean in 32 bits need not be equal to them."""
        size, signals = self.recipe.rollout.num_openings, have_signal(self.recipe, self.rewards)
        return [advantage if signals[row // size] else 0.0 for row, advantage in enumerate(of_trl)]

    def left_out(self) -> list[bool]:
        """Openings that were cut off, if the recipe wants it so."""
        masks = self.recipe.training.mask_truncated_completions
        return [masks and opening.turn.reply.finish == "length" for opening in self.rollouts.openings]


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


def rewards_of(recipe: Recipe, opening: Opening, *, step: int) -> dict[str, float]:
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
