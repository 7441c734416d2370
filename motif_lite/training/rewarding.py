"""What TRL asks for rewards, and how an opening is rewarded in training.

Reward callables are the one way into TRL's trainer that is not experimental.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from transformers import TrainerState

from motif_lite.nouns import Conversation, Opening
from motif_lite.recipe.schema import Recipe
from motif_lite.rollout.rewards import earned, remedy_for


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


class RewardCallable:
    """What TRL calls for one reward; its name is the reward's.

    Args:
        column: Gives a reward of every row.
        num_iterations: Updates per step: TRL counts updates.
    """

    def __init__(self, name: str, column: Callable[[str, Rows], list[float]], num_iterations: int) -> None:
        self.__name__ = name
        self._column, self._num_iterations = column, num_iterations

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
        steps = trainer_state.global_step // self._num_iterations
        return self._column(self.__name__, Rows(prompts, completions, completion_ids, problem_id, steps))


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
