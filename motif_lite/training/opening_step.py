"""A training step of the paper's credit (`credits.opening`).

TRL samples openings, calls our reward callables, computes advantages and trains the openings. The first callable of a
step rolls the futures out, from the policy as it stands, and the others read what it found.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from motif_lite.nouns import Opening, Problem, Turn
from motif_lite.rollout import totals
from motif_lite.training.importance import drawn_logprobs
from motif_lite.training.mismatch import Drawn
from motif_lite.training.refilling import Group
from motif_lite.training.rewarding import Rows, rewards_of
from motif_lite.training.step import TrainingStep


class OpeningStep(TrainingStep):
    """Openings alone are trained. TRL asks for them, unless others may take their place."""

    _completions: object = None

    def column(self, reward: str, rows: Rows) -> list[float]:
        """One reward of every opening; the first call with new completions of TRL's rolls them out."""
        if not self.samples_openings and rows.completions is not self._completions:
            self._earn(rows.problem_ids, rows.step, partial(self._begun, rows))
            self._completions = rows.completions
        return self.rewards[reward]

    def roll_out(self, problem_ids: Sequence[str], step: int) -> dict[str, Any]:
        """A row for each opening."""
        self._earn(problem_ids, step)
        turns = [opening.turn for opening in self.rollouts.openings]
        prompts = [self.policy.encode(turn.prompt) for turn in turns]
        shown = step % len(turns)
        self.drawn = Drawn(prompts[shown], turns[shown].reply)
        replies = [list(turn.reply.token_ids) for turn in turns]
        logprobs = drawn_logprobs(self.recipe.training, [turn.reply for turn in turns])
        return {"prompt_ids": prompts, "completion_ids": replies, "logprobs": logprobs}

    def has_signal(self, group: Group) -> bool:
        """As its advantages have it."""
        return totals.have_signal(self.recipe, self._by_name(group.rewards), _finishes(group.openings))[0]

    def _earn(
        self,
        problem_ids: Sequence[str],
        step: int,
        begun: Callable[[slice], list[tuple[Problem, Turn]]] | None = None,
    ) -> None:
        entries = self._filled(problem_ids, step, begun)
        self.rewards = self._by_name(entries)
        self._update(f"{len(entries)} openings")

    def _rewarded(self, openings: Sequence[Opening], step: int) -> list[dict[str, float]]:
        return [rewards_of(self.recipe, opening, step=step + 1) for opening in openings]

    def _begun(self, rows: Rows, part: slice) -> list[tuple[Problem, Turn]]:
        stop = self.recipe.rollout.openings.stop
        return [
            (self._problems[name], Turn(self.policy.render(prompt), self.policy.read_reply(ids, stop)))
            for name, prompt, ids in zip(
                rows.problem_ids[part], rows.prompts[part], rows.completion_ids[part], strict=True
            )
        ]

    def advantages(self, of_trl: Sequence[float]) -> Sequence[float]:
        """TRL's own, but 0 where a group has no signal: a mean in 32 bits need not be equal to equal rewards."""
        size = self.recipe.rollout.num_openings
        signals = totals.have_signal(self.recipe, self.rewards, _finishes(self.rollouts.openings))
        return [advantage if signals[row // size] else 0.0 for row, advantage in enumerate(of_trl)]

    def left_out(self) -> list[bool]:
        """Openings that were cut off, if the recipe wants it so."""
        return totals.left_out(self.recipe, _finishes(self.rollouts.openings))


def _finishes(openings: Sequence[Opening]) -> list[str]:
    return [opening.turn.reply.finish for opening in openings]
