"""Every round writes the whole solution again: it is shown that of the round before, checks it and improves it."""

from dataclasses import dataclass
from typing import ClassVar

from motif_lite.nouns import Sampling, Trajectory
from motif_lite.policies.protocol import Policy
from motif_lite.recipe.schema import RolloutSection
from motif_lite.rollout import prompts, reply_format
from motif_lite.rollout.strategies.base import Strategy
from motif_lite.rollout.strategies.rounds import RoundByRound, fitting

_SYSTEM = """\
You are a careful problem solver. You work on the user's question over {num_rounds} rounds, and each round writes a \
complete solution. From the second round on you are shown the solution of the round before and nothing else: check it \
step by step, correct what is wrong, and write the complete solution again.

{form}

End every solution with the final answer, enclosed in \\boxed{{}}. Only that of the last round is graded."""


@dataclass(frozen=True, slots=True)
class Refine(RoundByRound):
    """Passes on what stands in the answer section, which is a solution in every round."""

    summary: ClassVar[str] = "In each later round the model sees the question and its solution of the round before."
    system_prompt: str
    num_rounds: int

    def next_prompt(self, policy: Policy, path: Trajectory, round_number: int, sampling: Sampling) -> tuple[str, bool]:
        """The question and the solution so far, which is cut at its beginning where it does not fit the context."""
        last = f" This is the final ({prompts.ordinal(round_number)}) round." if round_number == self.num_rounds else ""

        def render(solution: str) -> str:
            shown = f' Solution of round {round_number - 1}: "{solution}" Check and improve it.{last}'
            return policy.render(prompts.conversation(self.system_prompt, path.problem.question + shown))

        return fitting(policy, render, reply_format.progress(path.final.text), sampling)


def refine(section: RolloutSection) -> Strategy:
    """With a recipe's settings."""
    prompt = section.system_prompt
    if prompt is None:
        form = prompts.reply_form("your complete solution, with the boxed final answer")
        prompt = _SYSTEM.format(num_rounds=section.num_rounds, form=form)
    return Refine(prompt, section.num_rounds)
