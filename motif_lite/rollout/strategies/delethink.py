"""One long text, written in chunks of bounded context (Delethink, arXiv 2510.06557).

A chunk that was cut off at its token limit is continued by the next round. Of the text so far the model sees the first
tokens and the last ones, which follow the question's prompt as if it had just written them. A round that ends by itself
ends the trajectory.
"""

from dataclasses import dataclass
from typing import ClassVar

from motif_lite.nouns import Message, Sampling, Trajectory
from motif_lite.policies.protocol import Policy
from motif_lite.recipe.schema import RolloutSection
from motif_lite.rollout import prompts
from motif_lite.rollout.strategies.base import Strategy
from motif_lite.rollout.strategies.rounds import RoundByRound, fitting


@dataclass(frozen=True, slots=True)
class Delethink(RoundByRound):
    """Passes on raw text.

    Attributes:
        head_tokens: Kept of the beginning of the first chunk.
        tail_tokens: Kept of the end of the text so far.
    """

    summary: ClassVar[str] = (
        "A later round continues the reply: the model sees the question, and the beginning and the end of its text so "
        "far."
    )
    writes_one_text: ClassVar[bool] = True
    system_prompt: str
    num_rounds: int
    head_tokens: int
    tail_tokens: int

    def has_ended(self, path: Trajectory) -> bool:
        """Whether its text is complete."""
        return path.final.finish == "stop"

    def next_prompt(self, policy: Policy, path: Trajectory, round_number: int, sampling: Sampling) -> tuple[str, bool]:
        """The prompt of round 1, and what is kept of the text as the beginning of the reply."""
        head = _beginning(policy, path.turns[0].reply.text, self.head_tokens)

        def render(tail: str) -> str:
            begun: Message = {"role": "assistant", "content": head + tail}
            return policy.render([*self.first_messages(path.problem), begun])

        return fitting(policy, render, policy.keep_end(path.final.text, self.tail_tokens), sampling)


def _beginning(policy: Policy, text: str, num_tokens: int) -> str:
    """At most so many tokens, of whole characters: the rest lacks one that is cut, so the beginning may not have it."""
    rest = policy.keep_end(text, policy.count_tokens(text) - num_tokens)
    kept = text[: len(text) - len(rest)]
    while policy.count_tokens(kept) > num_tokens:
        kept = kept[:-1]
    return kept


def delethink(section: RolloutSection) -> Strategy:
    """With a recipe's settings; the prompt is that of a single round."""
    prompt = prompts.system_prompt(1) if section.system_prompt is None else section.system_prompt
    return Delethink(prompt, section.num_rounds, section.head_tokens, section.tail_tokens)
