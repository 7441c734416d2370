"""One round, as in vanilla GRPO: what every other way of thinking is compared with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from motif_lite.nouns import Conversation, Opening, Problem, Sampling, Trajectory, Turn
from motif_lite.policies.protocol import Policy
from motif_lite.recipe.schema import RolloutSection
from motif_lite.rollout import prompts
from motif_lite.rollout.rollouts import OnRound, Rollouts
from motif_lite.rollout.strategies.base import Strategy


@dataclass(frozen=True, slots=True)
class SingleRound:
    """The opening is the whole reply, as in vanilla GRPO; it has no futures but itself."""

    summary: ClassVar[str] = "The model sees the question and answers in one round."
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
        branches: Sequence[int] | None = None,
    ) -> Rollouts:
        """Nothing is generated: each opening's only future is itself."""
        return Rollouts(tuple(Opening(problem, turn, (Trajectory(problem, (turn,)),)) for problem, turn in openings))


def single_round(section: RolloutSection) -> Strategy:
    """With a recipe's system prompt."""
    prompt = section.system_prompt
    return SingleRound(prompts.system_prompt(1) if prompt is None else prompt)
