"""One answer in a thread of its own: what it says goes to a listener as it is written."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from motif_lite.errors import DataError, MotifError, ServerError
from motif_lite.nouns import Reply, TokenProgress
from motif_lite.policies.protocol import Policy
from motif_lite.recipe.keys import changed
from motif_lite.recipe.schema import Recipe
from motif_lite.serving.requests import BadRequest, ChatRequest
from motif_lite.serving.splitting import Delta, Splitter
from motif_lite.solving.solver import Effort, Solver

_log = logging.getLogger(__name__)


class Gone(Exception):
    """Nobody waits for the answer any longer."""


@dataclass(frozen=True, slots=True)
class Done:
    """An answer is complete.

    Attributes:
        prompt_tokens: Over all rounds, as are the completion's, of which the last round's are ``final_tokens``.
    """

    finish: str
    prompt_tokens: int
    completion_tokens: int
    final_tokens: int


Event = Delta | Done | BadRequest
"""What a listener is told; the last one is no `Delta`."""


class Answering:
    """What a request's answers have in common.

    Args:
        recipe: That the policy was loaded with.
        policy: Takes calls from several threads.
        request: What is asked for.
        seconds: Until the answer is given up.
    """

    def __init__(self, recipe: Recipe, policy: Policy, request: ChatRequest, seconds: float) -> None:
        self._policy, self._question = policy, request.question
        self._solver = Solver(_with_limits(recipe, request), policy)
        temperature = request.temperature
        if temperature is None and (request.n or 1) > 1:
            temperature = recipe.evaluation.temperature  # greedy choices would all be the same
        self._effort = Effort(request.rounds, 1, temperature)
        self._deadline, self._seconds = time.monotonic() + seconds, seconds
        self._is_gone = threading.Event()

    def check(self) -> None:
        """Refuse what cannot be answered.

        Raises:
            BadRequest: The question is empty or too long, or the strategy does not take so many rounds.
        """
        try:
            self._solver.check(self._question, self._effort)
        except DataError as error:
            code = "context_length_exceeded" if "tokens" in str(error) else None
            raise BadRequest(str(error), param="messages", code=code) from None
        except MotifError as error:
            raise BadRequest(str(error), param="rounds") from None

    def leave(self) -> None:
        """Nobody waits any longer."""
        self._is_gone.set()

    def answer(self, number: int, tell: Callable[[Event], None]) -> None:
        """Write an answer, or find out why there is none.

        Args:
            number: Decides the samples.
            tell: Told of all that is written, and at last of the end.
        """
        watcher = _Telling(tell, self._require_wanted)
        try:
            found = self._solver.solve(self._question, self._effort, watcher, number=number)
        except Gone:
            return
        except BadRequest as error:
            tell(error)
        except MotifError as error:
            tell(BadRequest(str(error), 502 if isinstance(error, ServerError) else 500))
        except Exception:
            _log.exception("an answer failed")
            tell(BadRequest("the answer failed; the server's log says why", 500))
        else:
            [trajectory] = found.trajectories
            for delta in watcher.splitter.end(trajectory.final.text):
                tell(delta)
            prompt_tokens = sum(self._policy.count_tokens(turn.prompt) for turn in trajectory.turns)
            last = trajectory.turns[-1].reply
            tell(Done(last.finish, prompt_tokens, found.num_tokens, last.num_tokens))

    def _require_wanted(self) -> None:
        if self._is_gone.is_set():
            raise Gone
        if time.monotonic() > self._deadline:
            raise BadRequest(f"the answer took longer than {self._seconds:g} seconds", 504, code="timeout")


class _Telling:
    """Implements `solving.watcher.Watcher`: passes on what is written while somebody waits for it."""

    def __init__(self, tell: Callable[[Event], None], require_wanted: Callable[[], None]) -> None:
        self._tell, self._require_wanted = tell, require_wanted
        self.splitter = Splitter()

    def _pass_on(self, deltas: list[Delta]) -> None:
        self._require_wanted()
        for delta in deltas:
            self._tell(delta)

    def round(self, number: int, num_rounds: int, width: int) -> None:
        self._pass_on(self.splitter.round(number, num_rounds))

    def text(self, piece: str | None) -> None:
        self._pass_on(self.splitter.text(piece))

    def generating(self, progress: TokenProgress) -> None:
        self._require_wanted()

    def written(self, reply: Reply) -> None:
        self._require_wanted()

    def passed_on(self, progress: str) -> None:
        """Nothing: it is a part of what was written."""

    def voting(self, done: int, total: int) -> None:
        """Nothing: it takes moments."""


def _with_limits(recipe: Recipe, request: ChatRequest) -> Recipe:
    """The recipe with what a request changes."""
    limits = (recipe.rollout.openings, recipe.rollout.futures)
    openings, futures = (
        each.model_copy(update={"max_tokens": min(each.max_tokens, request.limit or each.max_tokens)})
        for each in limits
    )
    top_p = recipe.evaluation.top_p if request.top_p is None else request.top_p
    return changed(recipe, {"rollout.openings": openings, "rollout.futures": futures, "evaluation.top_p": top_p})
