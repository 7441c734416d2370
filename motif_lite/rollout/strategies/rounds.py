"""Advancing trajectories round by round, whatever the prompts of later rounds are.

All trajectories of a step advance together, one wide generate call per round, n-1 calls in all.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import ClassVar

from motif_lite.nouns import Conversation, Opening, Problem, Sampling, Trajectory, Turn
from motif_lite.policies.protocol import Policy
from motif_lite.rollout import prompts
from motif_lite.rollout.rollouts import OnRound, Rollouts, derive_seed

_Place = tuple[int, int]
"""Of a trajectory: its opening's number in the call, and its own among the opening's futures."""


class RoundByRound(ABC):
    """A way of thinking whose next prompt is made of the rounds before.

    Attributes:
        summary: What the model sees in each round, in a sentence, as model cards say it.
        system_prompt: Of every round.
        num_rounds: Of a whole trajectory.
        writes_one_text: A reply goes on where the one before was cut off, so all of them together are what is graded.
    """

    summary: ClassVar[str]
    writes_one_text: ClassVar[bool] = False
    system_prompt: str
    num_rounds: int

    @abstractmethod
    def next_prompt(self, policy: Policy, path: Trajectory, round_number: int, sampling: Sampling) -> tuple[str, bool]:
        """The rendered prompt of a later round, and whether something had to be cut to fit the context."""

    def has_ended(self, path: Trajectory) -> bool:
        """Whether a trajectory is complete before its last round."""
        return False

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
        branches: Sequence[int] | None = None,
    ) -> Rollouts:
        """Advance all trajectories together, round by round; one that has ended is kept as it is."""
        counts = self.futures_of(policy, openings, num_futures, sampling)
        parting = [1] * len(openings) if branches is None else branches
        first = [Trajectory(problem, (turn,), self.writes_one_text) for problem, turn in openings]
        paths = {(number, 0): path for number, path in enumerate(first)}
        num_cut = 0
        for round_number in range(2, self.num_rounds + 1):
            paths = self._parted(paths, counts, parting, round_number - 1)
            open_ = [place for place, path in paths.items() if not self.has_ended(path)]
            if not open_:
                break
            fitted = [self.next_prompt(policy, paths[place], round_number, sampling) for place in open_]
            num_cut += sum(was_cut for _, was_cut in fitted)
            rendered = [prompt for prompt, _ in fitted]
            on_progress = on_round(round_number, self.num_rounds, len(open_)) if on_round else None
            seeds = [derive_seed(seed, "round", round_number, start + opening, future) for opening, future in open_]
            written = policy.generate(rendered, sampling, seeds=seeds, on_progress=on_progress)
            for place, prompt, reply in zip(open_, rendered, written, strict=True):
                paths[place] = replace(paths[place], turns=(*paths[place].turns, Turn(prompt, reply)))
        return Rollouts(tuple(self.lent(_by_opening(openings, paths), num_futures)), num_cut)

    def futures_of(
        self, policy: Policy, openings: Sequence[tuple[Problem, Turn]], num_futures: int, sampling: Sampling
    ) -> list[int]:
        """How many futures each opening gets."""
        return [num_futures] * len(openings)

    def lent(self, openings: Sequence[Opening], num_futures: int) -> Sequence[Opening]:
        """The openings, with the futures that they share."""
        return openings

    def _parted(
        self, paths: dict[_Place, Trajectory], counts: Sequence[int], parting: Sequence[int], round_number: int
    ) -> dict[_Place, Trajectory]:
        """All trajectories after a round, those whose futures part there once for each future; an ended one once."""
        found = {}
        for (opening, future), path in paths.items():
            parts = parting[opening] == round_number and not self.has_ended(path)
            for number in range(counts[opening]) if parts else [future]:
                found[opening, number] = path
        return found


def fitting(policy: Policy, render: Callable[[str], str], carried: str, sampling: Sampling) -> tuple[str, bool]:
    """A rendered prompt that leaves room for the reply, and whether what it carries over had to be cut at its start.

    Args:
        render: Makes the prompt of what is carried over.
    """
    limit = policy.context_tokens - sampling.max_tokens
    prompt = render(carried)
    excess = policy.count_tokens(prompt) - limit
    if excess <= 0:
        return prompt, False
    room = policy.count_tokens(carried) - excess
    while room > 0:  # tokens merge differently at a new edge, so the first cut may be a few too long
        prompt = render(policy.keep_end(carried, room))
        if policy.count_tokens(prompt) <= limit:
            return prompt, True
        room -= 4
    return render(""), True


def _by_opening(openings: Sequence[tuple[Problem, Turn]], paths: dict[_Place, Trajectory]) -> list[Opening]:
    futures = {
        number: tuple(paths[place] for place in places) for number, places in groupby(paths, key=lambda place: place[0])
    }
    return [Opening(problem, turn, futures[number]) for number, (problem, turn) in enumerate(openings)]
