"""What a way of thinking is, to those that use one."""

from collections.abc import Sequence
from typing import ClassVar, Protocol

from motif_lite.nouns import Conversation, Problem, Sampling, Turn
from motif_lite.policies.protocol import Policy
from motif_lite.rollout.rollouts import OnRound, Rollouts


class Strategy(Protocol):
    """A way of thinking.

    Attributes:
        summary: What the model sees in each round, in a sentence, as model cards say it.
    """

    summary: ClassVar[str]

    @property
    def num_rounds(self) -> int:
        """Rounds of a whole trajectory."""

    def first_messages(self, problem: Problem) -> Conversation:
        """What the policy sees in round 1."""

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
        """Sample futures of every opening, ``num_futures`` each or on average, to the last round.

        Args:
            start: Number of the first opening: random streams depend on the number, not on the place in this call.
            branches: By opening, the round after which its futures part; None: the first one. Up to there it has one
                future, and all that are sampled then begin with the same turns. Only credits that train such a round
                pass it.
        """
