"""How a problem is thought through: openings, and the futures that continue them.

A strategy turns problems into prompts and replies into trajectories; it never knows how replies are generated.
The futures of all openings of a step advance together, one wide generate call per round, n-1 calls in all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol

from motif_lite.nouns import Conversation, Opening, Problem, Sampling, Trajectory, Turn
from motif_lite.policies.protocol import Policy
from motif_lite.recipe.schema import Recipe, RolloutSection
from motif_lite.rollout import allocation, prompts, reply_format
from motif_lite.rollout.own_strategy import OwnStrategy
from motif_lite.rollout.rewards import has_final_answer
from motif_lite.rollout.rollouts import OnRound, Rollouts, derive_seed


class Strategy(Protocol):
    """A way of thinking."""

    @property
    def num_rounds(self) -> int:
        """Rounds of a whole trajectory."""

    def first_messages(self, problem: Problem) -> Conversation:
        """What the policy sees in round 1."""

    def continue_openings(
        self,
        policy: Policy,
        openings: Sequence[tuple[Problem, Turn]],
        num_futures: int,
        sampling: Sampling,
        *,
        seed: int,
        start: int = 0,
        on_round: OnRound | None = None,
    ) -> Rollouts:
        """Sample futures of every opening, ``num_futures`` each or on average, to the last round.

        Args:
            start: Number of the first opening: random streams depend on the number, not on the place in this call.
        """


@dataclass(frozen=True, slots=True)
class SingleRound:
    """The opening is the whole reply, as in vanilla GRPO; it has no futures but itself."""

    system_prompt: str
    num_rounds: int = 1

    def first_messages(self, problem: Problem) -> Conversation:
        """System prompt and question."""
        return prompts.conversation(self.system_prompt, problem.question)

    def continue_openings(
        self,
        policy: Policy,
        openings: Sequence[tuple[Problem, Turn]],
        num_futures: int,
        sampling: Sampling,
        *,
        seed: int,
        start: int = 0,
        on_round: OnRound | None = None,
    ) -> Rollouts:
        """Nothing is generated: each opening's only future is itself."""
        return Rollouts(tuple(Opening(problem, turn, (Trajectory(problem, (turn,)),)) for problem, turn in openings))


@dataclass(frozen=True, slots=True)
class MultiRound:
    """MOTIF's rounds: each begins with the question and the progress of the one before (paper, section 3).

    Attributes:
        group_size: So many openings in a row are a group, whose futures go where they are needed and are shared by
            openings that pass on the same progress (`allocation`); None: equally many for each, and its own.
        early_finish: A final answer ends its trajectory, whatever rounds are left.
    """

    system_prompt: str
    num_rounds: int
    group_size: int | None = None
    early_finish: bool = False

    def first_messages(self, problem: Problem) -> Conversation:
        """System prompt and question: round 1 has no progress to show."""
        return prompts.conversation(self.system_prompt, problem.question)

    def continue_openings(
        self,
        policy: Policy,
        openings: Sequence[tuple[Problem, Turn]],
        num_futures: int,
        sampling: Sampling,
        *,
        seed: int,
        start: int = 0,
        on_round: OnRound | None = None,
    ) -> Rollouts:
        """Advance all futures of all openings together, round by round; one that has ended is kept as it is."""
        first = [Trajectory(problem, (turn,)) for problem, turn in openings]
        group_size = self.group_size if num_futures > 1 else None  # one each, as in evaluation, is one each
        counts = [num_futures] * len(first)
        if group_size is not None:
            second = [
                None if self._has_ended(path) else self._next_prompt(policy, path, 2, sampling)[0] for path in first
            ]
            counts = _allotted(second, num_futures, group_size)
        counts = [1 if self._has_ended(path) else count for path, count in zip(first, counts, strict=True)]
        places = [(opening, future) for opening, count in enumerate(counts) for future in range(count)]
        paths, num_cut = [first[opening] for opening, _ in places], 0
        for round_number in range(2, self.num_rounds + 1):
            open_ = [number for number, path in enumerate(paths) if not self._has_ended(path)]
            if not open_:
                break
            fitted = [self._next_prompt(policy, paths[number], round_number, sampling) for number in open_]
            num_cut += sum(was_cut for _, was_cut in fitted)
            rendered = [prompt for prompt, _ in fitted]
            on_progress = on_round(round_number, self.num_rounds, len(open_)) if on_round else None
            seeds = [
                derive_seed(seed, "round", round_number, start + opening, future)
                for opening, future in (places[number] for number in open_)
            ]
            written = policy.generate(rendered, sampling, seeds=seeds, on_progress=on_progress)
            for number, prompt, reply in zip(open_, rendered, written, strict=True):
                paths[number] = Trajectory(paths[number].problem, (*paths[number].turns, Turn(prompt, reply)))
        rest = iter(paths)
        done = [
            Opening(problem, turn, tuple(islice(rest, count)))
            for (problem, turn), count in zip(openings, counts, strict=True)
        ]
        return Rollouts(tuple(done if group_size is None else _sharing(done, group_size)), num_cut)

    def _has_ended(self, path: Trajectory) -> bool:
        return self.early_finish and has_final_answer(path.final.text)

    def _next_prompt(self, policy: Policy, path: Trajectory, round_number: int, sampling: Sampling) -> tuple[str, bool]:
        """The rendered prompt of a round, and whether the progress had to be cut to fit the context."""
        progress = reply_format.progress(path.turns[-1].reply.text)
        limit = policy.context_tokens - sampling.max_tokens
        prompt = self._render(policy, path.problem, round_number, progress)
        excess = policy.count_tokens(prompt) - limit
        if excess <= 0:
            return prompt, False
        room = policy.count_tokens(progress) - excess
        while room > 0:  # tokens merge differently at a new edge, so the first cut may be a few too long
            prompt = self._render(policy, path.problem, round_number, policy.keep_end(progress, room))
            if policy.count_tokens(prompt) <= limit:
                return prompt, True
            room -= 4
        return self._render(policy, path.problem, round_number, ""), True

    def _render(self, policy: Policy, problem: Problem, round_number: int, progress: str) -> str:
        user = problem.question + prompts.progress_notice(round_number - 1, self.num_rounds, progress)
        return policy.render(prompts.conversation(self.system_prompt, user))


def _allotted(second_prompts: Sequence[str | None], num_futures: int, group_size: int) -> list[int]:
    """How many futures each opening gets, group by group."""
    groups = [second_prompts[start : start + group_size] for start in range(0, len(second_prompts), group_size)]
    return [count for group in groups for count in allocation.adaptive(group, num_futures)]


def _sharing(openings: Sequence[Opening], group_size: int) -> list[Opening]:
    """Lend each opening the futures of those in its group whose second prompt is the same, letter by letter.

    An opening that has ended in its first round has none to lend.
    """
    keys = [
        (index // group_size, opening.futures[0].turns[1].prompt if len(opening.futures[0].turns) > 1 else index)
        for index, opening in enumerate(openings)
    ]
    return [
        replace(opening, shared=tuple(
            future
            for other, its_key in zip(openings, keys, strict=True)
            if its_key == key and other is not opening
            for future in other.futures
        ))
        for opening, key in zip(openings, keys, strict=True)
    ]  # fmt: skip


def _single_round(section: RolloutSection) -> Strategy:
    prompt = section.system_prompt
    return SingleRound(prompts.system_prompt(1) if prompt is None else prompt)


def _multi_round(section: RolloutSection) -> Strategy:
    prompt = section.system_prompt
    if prompt is None:
        prompt = prompts.system_prompt(section.num_rounds, early_finish=section.early_finish)
    return MultiRound(
        prompt,
        section.num_rounds,
        section.num_openings if section.allocation == "adaptive" else None,
        section.early_finish,
    )


STRATEGIES: dict[str, Callable[[RolloutSection], Strategy]] = {
    "single_round": _single_round,
    "multi_round": _multi_round,
}


def strategy_of(recipe: Recipe, name: str) -> Strategy:
    """A strategy with a recipe's settings: one of `STRATEGIES`, or the user's own.

    Raises:
        CodeError: The user's cannot be imported or made, or lacks what a `Strategy` has.
    """
    return STRATEGIES[name](recipe.rollout) if name in STRATEGIES else OwnStrategy(recipe, name)
