"""Drafts that know nothing of each other, a round that distils them, and one that answers from what it kept.

The idea is that of Parallel-Distill-Refine (arXiv 2510.01123). Of n rounds the first n - 2 write a draft each, from the
question alone; the next one sees all drafts and writes down what is worth keeping; the last one sees these notes. A
trajectory holds all of its drafts, so every credit applies: an opening is a first draft, and its futures differ in all
other drafts.
"""

from dataclasses import dataclass
from typing import ClassVar

from motif_lite.nouns import Sampling, Trajectory
from motif_lite.policies.protocol import Policy
from motif_lite.recipe.schema import RolloutSection
from motif_lite.rollout import prompts, reply_format
from motif_lite.rollout.strategies.base import Strategy
from motif_lite.rollout.strategies.rounds import RoundByRound, fitting

_SYSTEM = """\
You are a careful problem solver. First you write {num_drafts} drafts of a solution to the user's question, each \
without seeing the others. Then you are shown the drafts and write down what is worth keeping: results that agree, \
errors that you find, what is left to do. At last you are shown these notes alone and write the solution.

{form}

Enclose the final answer of the last round in \\boxed{{}}. Only this one is graded."""

_LABEL_TOKENS = 8
"""Of what stands around a draft."""


@dataclass(frozen=True, slots=True)
class Parallel(RoundByRound):
    """Passes on the answer sections of drafts, then that of the notes.

    Attributes:
        draft_tokens: Shown of each draft, from its end.
    """

    summary: ClassVar[str] = (
        "The model writes drafts, each from the question alone; the last round but one sees the question and all "
        "drafts, the last one the question and the notes of that round."
    )
    system_prompt: str
    num_rounds: int
    draft_tokens: int

    def next_prompt(self, policy: Policy, path: Trajectory, round_number: int, sampling: Sampling) -> tuple[str, bool]:
        """The question, and by round nothing else, the drafts, or the notes."""
        if round_number < self.num_rounds - 1:
            return policy.render(self.first_messages(path.problem)), False
        is_last = round_number == self.num_rounds
        carried = reply_format.progress(path.final.text) if is_last else self._drafts(policy, path)

        def render(kept: str) -> str:
            shown = f' Notes on your drafts: "{kept}" Write the solution.' if is_last else f"{kept} Write your notes."
            return policy.render(prompts.conversation(self.system_prompt, path.problem.question + shown))

        return fitting(policy, render, carried, sampling)

    def _drafts(self, policy: Policy, path: Trajectory) -> str:
        sections = [reply_format.progress(turn.reply.text) for turn in path.turns]
        kept = [policy.keep_end(section, self.draft_tokens) for section in sections]
        return "".join(f' Draft {number}: "{draft}"' for number, draft in enumerate(kept, start=1))


def parallel(section: RolloutSection) -> Strategy:
    """With a recipe's settings; all drafts together are as long as the longest reply."""
    num_drafts, prompt = section.num_rounds - 2, section.system_prompt
    if prompt is None:
        form = prompts.reply_form("your draft, your notes, or at last the solution")
        prompt = _SYSTEM.format(num_drafts=num_drafts, form=form)
    longest = max(section.openings.max_tokens, section.futures.max_tokens)
    return Parallel(prompt, section.num_rounds, max(1, longest // num_drafts - _LABEL_TOKENS))
