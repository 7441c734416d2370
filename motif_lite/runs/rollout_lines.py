"""What rollouts.jsonl holds, as frozen records: an opening of a training step with its futures on each line."""

from motif_lite.runs.records import Finish, Interval, Record, Versioned


class RolloutTurn(Record):
    """A round; where later rounds are trained, with what it was credited with."""

    prompt: str
    reply: str
    tokens: int
    finish: Finish
    rewards: dict[str, float] | None = None
    advantage: float | None = None
    weight: float | None = None


class RolloutFuture(Record):
    """The rounds after the opening, and whether the last one is right."""

    rounds: tuple[RolloutTurn, ...]
    correct: bool


class RolloutLine(Versioned):
    """An opening of a training step with its own futures.

    Attributes:
        branch: The round after which the futures part, where that is not the first: they have the rounds before in
            common.
        futures_used: Those that ``accuracy`` and its ``interval`` are over, shared ones included; a single round has
            none of the three.
    """

    step: int
    problem: str
    question: str
    gold: str
    opening: RolloutTurn
    rewards: dict[str, float]
    branch: int = 1
    futures_used: int | None = None
    accuracy: float | None = None
    interval: Interval | None = None
    futures: tuple[RolloutFuture, ...]

    def turns(self) -> list[RolloutTurn]:
        """Every reply once."""
        own = [turn for future in self.futures[1:] for turn in future.rounds[self.branch - 1 :]]
        return [self.opening, *(self.futures[0].rounds if self.futures else ()), *own]
