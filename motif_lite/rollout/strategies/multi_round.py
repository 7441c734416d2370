"""MOTIF's rounds: each begins with the question and the progress of the one before (paper, section 3)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from motif_lite.nouns import Opening, Problem, Sampling, Trajectory, Turn
from motif_lite.policies.protocol import Policy
from motif_lite.recipe.schema import FINAL_INSTRUCTION, RolloutSection
from motif_lite.rollout import allocation, prompts, reply_format
from motif_lite.rollout.rewards import has_final_answer
from motif_lite.rollout.strategies.rounds import RoundByRound, fitting


@dataclass(frozen=True, slots=True)
class MultiRound(RoundByRound):
    """Every round passes on what stands in its answer section.

    Attributes:
        group_size: So many openings in a row are a group, whose futures go where they are needed and are shared by
            openings that pass on the same progress (`allocation`); None: equally many for each, and its own.
        early_finish: A final answer ends its trajectory, whatever rounds are left.
        final_instruction: The end of the last round's message.
    """

    summary: ClassVar[str] = "In each later round the model sees the question and the progress of the round before."
    system_prompt: str
    num_rounds: int
    group_size: int | None = None
    early_finish: bool = False
    final_instruction: str = FINAL_INSTRUCTION

    def has_ended(self, path: Trajectory) -> bool:
        """Whether its last reply has the final answer."""
        return self.early_finish and has_final_answer(path.final.text)

    def futures_of(
        self, policy: Policy, openings: Sequence[tuple[Problem, Turn]], num_futures: int, sampling: Sampling
    ) -> list[int]:
        """Equally many, or by what their group needs."""
        size = self._group_size(num_futures)
        if size is None:
            return [num_futures] * len(openings)
        first = [Trajectory(problem, (turn,)) for problem, turn in openings]
        second = [None if self.has_ended(path) else self.next_prompt(policy, path, 2, sampling)[0] for path in first]
        return _allotted(second, num_futures, size)

    def lent(self, openings: Sequence[Opening], num_futures: int) -> Sequence[Opening]:
        """With the futures of those that pass on the same progress."""
        size = self._group_size(num_futures)
        return openings if size is None else _sharing(openings, size)

    def _group_size(self, num_futures: int) -> int | None:
        return self.group_size if num_futures > 1 else None  # one each, as in evaluation, is one each

    def next_prompt(self, policy: Policy, path: Trajectory, round_number: int, sampling: Sampling) -> tuple[str, bool]:
        """The question and the progress, which is cut at its beginning where it does not fit the context."""

        def render(progress: str) -> str:
            notice = prompts.progress_notice(round_number - 1, self.num_rounds, progress, self.final_instruction)
            return policy.render(prompts.conversation(self.system_prompt, path.problem.question + notice))

        return fitting(policy, render, reply_format.progress(path.final.text), sampling)


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


def multi_round(section: RolloutSection) -> MultiRound:
    """With a recipe's settings."""
    prompt = section.system_prompt
    if prompt is None:
        prompt = prompts.system_prompt(section.num_rounds, early_finish=section.early_finish)
    return MultiRound(
        prompt,
        section.num_rounds,
        section.num_openings if section.allocation == "adaptive" else None,
        section.early_finish,
        section.final_instruction,
    )
