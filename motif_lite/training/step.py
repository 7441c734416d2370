"""A training step as TRL performs it: where rollouts come from, and what they are rewarded with.

What a step is of the paper's credit is in `opening_step`, of the credits that train later rounds as well in
`rounds_step`. Which problems are asked is in `choosing`, and what happens to groups without signal in `refilling`.

Of several processes each rolls out and grades its own problems; then all have all of them, and so the same rewards.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from motif_lite.credits.assignment import TrainedRound
from motif_lite.grading import answers
from motif_lite.grading.judge import Pair
from motif_lite.grading.rulings import Ruling
from motif_lite.nouns import OnTokens, Opening, Problem, Reply, Turn
from motif_lite.planning.metering import PhaseMeter
from motif_lite.rollout import counting
from motif_lite.rollout.rewards import gold_and_replies
from motif_lite.rollout.rollouts import Rollouts, derive_seed
from motif_lite.rollout.thinking import write_openings
from motif_lite.training.choosing import Choosing, Visits
from motif_lite.training.context import TrainingContext
from motif_lite.training.mismatch import Drawn
from motif_lite.training.refilling import Group, refilled
from motif_lite.training.rewarding import RewardCallable, Rows


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
        self.unused: tuple[Opening, ...] = ()
        """Openings with their futures that others have taken the place of."""
        self.samples_openings = self.credit.samples_openings(self.recipe)
        """TRL is handed openings that are written here; otherwise it asks for them."""
        self._problems = {problem.id: problem for problem in context.problems}
        earlier = context.run.metrics() if self.recipe.data.skip else []
        self._choosing = Choosing(self.recipe, context.problems, (line.visits or {} for line in earlier))
        self._num_cut = 0

    @property
    def tokens(self) -> dict[str, int]:
        """Generated in this step, by phase."""
        return counting.generated_tokens((*self.rollouts.openings, *self.unused))

    @property
    def visits(self) -> Visits:
        """Of this step."""
        return self._choosing.visits

    def asked(self, rows: Sequence[Any], every: Any, step: int) -> list[Any]:
        """TRL's rows for a step, with others in place of those of problems that are left out.

        Args:
            rows: Those of a problem in a row.
            every: All that there are, one of each problem, as a data set.
            step: Steps done before.
        """
        size = self.recipe.rollout.num_openings * self.credit.trained_per_opening(self.recipe)
        planned = [row["problem_id"] for row in rows[::size]]
        chosen = self._choosing.begin(planned, step)
        if chosen == planned:
            return list(rows)
        place_of = {name: place for place, name in enumerate(every["problem_id"])}
        return [every[place_of[name]] for name in chosen for _ in range(size)]

    def roll_out(self, problem_ids: Sequence[str], step: int) -> dict[str, Any]:
        """Sample and reward all of a step, where its openings are written here.

        Args:
            problem_ids: One per row, those of a problem in a row.

        Returns:
            For TRL, ``prompt_ids``, ``completion_ids`` and ``logprobs`` by row; the latter see `drawn_logprobs`.
        """
        raise NotImplementedError

    def reward_callables(self) -> list[RewardCallable]:
        """One callable per reward of the recipe, in its order, for TRL."""
        num_iterations = self.recipe.training.num_iterations
        return [RewardCallable(name, self.column, num_iterations) for name in self.recipe.rewards]

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

    def has_signal(self, group: Group) -> bool:
        """Whether anything in a group is rewarded more than the rest."""
        raise NotImplementedError

    def _rewarded(self, openings: Sequence[Opening], step: int) -> list[Any]:
        """An entry for each opening with its futures."""
        raise NotImplementedError

    def _branches(self, num_openings: int, step: int, start: int) -> list[int] | None:
        """The rounds after which the futures of some openings part; None where that is the first one of all."""
        return None

    def _filled(
        self,
        problem_ids: Sequence[str],
        step: int,
        begun: Callable[[slice], list[tuple[Problem, Turn]]] | None = None,
    ) -> list[Any]:
        """Roll a step's groups out and reward them, and others in place of those without signal.

        Args:
            problem_ids: One per opening, those of a problem in a row.
            begun: Gives some of the openings, where TRL has written them.

        Returns:
            The entries of all openings.
        """
        size = self.recipe.rollout.num_openings
        num_openings, self._num_cut, self.num_retries = len(problem_ids), 0, 0
        groups = self._rolled_out([self._problems[name] for name in problem_ids[::size]], step, 0, begun)

        def more(number: int) -> list[Group]:
            nonlocal num_openings
            problems, start = self._choosing.further(number), num_openings
            num_openings += size * len(problems)
            return self._rolled_out(problems, step, start) if problems else []

        kept, unused = refilled(groups, self.recipe.data.refill, more, self.has_signal)
        self.rollouts = Rollouts(tuple(opening for group in kept for opening in group.openings), self._num_cut)
        self.unused = tuple(opening for group in unused for opening in group.openings)
        self.branches = [branch for group in kept for branch in group.branches or ()] or None
        if self.recipe.data.skip is not None:
            self._choosing.end({group.problem: self.has_signal(group) for group in (*kept, *unused)})
        return [entry for group in kept for entry in group.rewards]

    def _rolled_out(
        self,
        problems: Sequence[Problem],
        step: int,
        start: int,
        begun: Callable[[slice], list[tuple[Problem, Turn]]] | None = None,
    ) -> list[Group]:
        """Roll out a group for each problem and reward it, in each process its own problems'.

        Args:
            start: Openings of the step before these.
        """
        size = self.recipe.rollout.num_openings
        each = [problem for problem in problems for _ in range(size)]
        branches, share = self._branches(len(each), step, start), self.ranks.share(len(problems))
        own = slice(size * share.start, size * share.stop)

        def part() -> _Part:
            if own.start == own.stop:  # fewer problems than processes
                return _Part((), 0, 0, [], [])
            openings = begun(own) if begun else self._written(each[own], step, start + own.start)
            return self._part(openings, step, start + own.start, branches[own] if branches is not None else None)

        parts = self.ranks.gather(_Part, part)
        self._num_cut += sum(each.num_cut for each in parts)
        self.num_retries += sum(each.num_retries for each in parts)
        for found in parts:
            answers.learn(found.rulings)
        openings = [opening for found in parts for opening in found.openings]
        places = [slice(first, first + size) for first in range(0, len(openings), size)]
        if self.ranks.count > 1:
            openings = [opening for at in places for opening in borrowing(openings[at])]
            if branches is not None:
                openings = [sharing(opening, branch) for opening, branch in zip(openings, branches, strict=True)]
        rewards = [entry for found in parts for entry in found.rewards]
        return [Group(openings[at], rewards[at], branches[at] if branches is not None else None) for at in places]

    def _written(self, problems: Sequence[Problem], step: int, start: int) -> list[tuple[Problem, Turn]]:
        """An opening for each."""
        self.meter.start("openings")
        return write_openings(
            self.policy,
            self.strategy,
            problems,
            self.recipe.rollout.openings,
            seed=derive_seed(self.recipe.seed, "openings", step),
            start=start,
            on_round=self.on_round,
        )

    def _part(
        self,
        openings: list[tuple[Problem, Turn]],
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
        rewards = self._rewarded(found.openings, step)
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


def borrowing(group: Sequence[Opening]) -> list[Opening]:
    """Openings that came from another process, with one record of each future that several of them share.

    Who shares a future is told by its identity (`reward_noise`), and messages hold copies.
    """
    return [_borrowing(opening, group) if opening.shared else opening for opening in group]


def _borrowing(opening: Opening, group: Sequence[Opening]) -> Opening:
    """With the others' own records: futures are shared in their order (`MultiRound.lent`)."""
    lent = iter([future for other in group if other is not opening for future in other.futures])
    return replace(opening, shared=tuple(next((its for its in lent if its == copy), copy) for copy in opening.shared))


def sharing(opening: Opening, branch: int) -> Opening:
    """An opening that came from another process, its futures with one record of the rounds that they begin with.

    Args:
        branch: Rounds before the futures part.
    """
    first = opening.futures[0].turns[:branch]
    parted = tuple(replace(future, turns=(*first, *future.turns[branch:])) for future in opening.futures)
    return replace(opening, futures=parted)
