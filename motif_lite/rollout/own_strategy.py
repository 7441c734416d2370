"""A strategy from a file of the user's own, whose errors and odd results become messages."""

import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import Any, ClassVar, TypeVar

from motif_lite import own_code
from motif_lite.errors import CodeError, MotifError
from motif_lite.nouns import Conversation, Problem, Turn
from motif_lite.policies.protocol import Policy
from motif_lite.recipe.schema import Recipe
from motif_lite.rollout.rollouts import Rollouts

Result = TypeVar("Result")

_PARTS = ("num_rounds", "first_messages", "continue_openings")


def _is_message(given: Any) -> bool:
    return isinstance(given, dict) and all(isinstance(given.get(key), str) for key in ("role", "content"))


class OwnStrategy:
    """Passes every call on to what the user's function made.

    Args:
        name: As in the recipe, e.g. ``my_rounds.py:terse``.

    Raises:
        CodeError: It cannot be imported or made, or lacks what a `Strategy` has.
    """

    summary: ClassVar[str] = (
        "What the model sees in each round is decided by the strategy that the recipe names, a file of its own."
    )

    def __init__(self, recipe: Recipe, name: str) -> None:
        self._name, self._path = name, recipe.code[own_code.file_of(name)]
        make = own_code.find(name, recipe.code, "rollout")
        with redirect_stdout(sys.stderr):  # what it prints is no part of a recipe that is printed
            self._own: Any = self._called(lambda: make(recipe.rollout))
        if lacking := [part for part in _PARTS if not hasattr(self._own, part)]:
            raise self._error(f"what it makes has no {', '.join(lacking)}; give it what MultiRound has")
        self.num_rounds, most = self._called(lambda: self._own.num_rounds), recipe.rollout.num_rounds
        if not isinstance(self.num_rounds, int) or not 1 <= self.num_rounds <= most:
            raise self._error(
                f"its num_rounds is {self.num_rounds!r}, and must be between 1 and rollout.num_rounds = {most}"
            )
        self.first_messages(Problem("", "What is 1 + 1?", "2"))

    def first_messages(self, problem: Problem) -> Conversation:
        """What the policy sees in round 1."""
        messages: Any = self._called(lambda: self._own.first_messages(problem))
        if not isinstance(messages, list) or not messages or not all(map(_is_message, messages)):
            raise self._error(
                f"its first_messages gives {messages!r:.80}, and must give a list of messages, each with a role and a "
                f"content: prompts.conversation(system_prompt, question)"
            )
        return messages

    def continue_openings(
        self,
        policy: Policy,
        openings: Sequence[tuple[Problem, Turn]],
        *arguments: Any,
        branches: Sequence[int] | None = None,
        **named: Any,
    ) -> Rollouts:
        """Sample futures of every opening, as `Strategy.continue_openings`; ``branches`` only where they are needed."""
        named |= {} if branches is None else {"branches": branches}
        rollouts = self._called(lambda: self._own.continue_openings(policy, openings, *arguments, **named))
        if not isinstance(rollouts, Rollouts):
            raise self._error(f"its continue_openings gives {type(rollouts).__name__}, and must give Rollouts")
        if len(rollouts.openings) != len(openings):
            raise self._error(f"it gives {len(rollouts.openings)} openings for {len(openings)}; give one for each")
        for opening in rollouts.openings:
            lengths = [len(future.turns) for future in opening.futures]
            if not lengths or not all(1 <= length <= self.num_rounds for length in lengths):
                raise self._error(
                    f"an opening has futures of {lengths} rounds; give at least one future, of 1 to {self.num_rounds}"
                )
        for opening, branch in zip(rollouts.openings, branches or (), strict=branches is not None):
            if len({tuple(map(id, future.turns[:branch])) for future in opening.futures}) > 1:
                raise self._error(
                    f"an opening has futures that part before the end of round {branch}, which its branch is; give "
                    f"those of an opening the same Turn objects up to there"
                )
        return rollouts

    def _called(self, call: Callable[[], Result]) -> Result:
        try:
            return call()
        except MotifError:
            raise
        except (Exception, SystemExit) as error:
            raise self._error(f"{own_code.described(error, self._path)}; correct it") from error

    def _error(self, what: str) -> CodeError:
        return CodeError(f"{self._path}: in the strategy {self._name}: {what}")
