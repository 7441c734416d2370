"""How an answer is reported while it is written: the console implements it, and what writes JSON ignores most of it."""

from typing import Protocol

from motif_lite.nouns import Reply, TokenProgress


class Watcher(Protocol):
    """Told what happens between a question and its answer. What a call raises ends the answer."""

    def round(self, number: int, num_rounds: int, width: int) -> None:
        """A round begins.

        Args:
            width: Samples in it.
        """

    def text(self, piece: str | None) -> None:
        """The first sample of the round goes on; None: it has ended."""

    def generating(self, progress: TokenProgress) -> None:
        """So far have the replies of the round come."""

    def written(self, reply: Reply) -> None:
        """The round is over, for all samples; the reply whose text was passed on."""

    def passed_on(self, progress: str) -> None:
        """The next round begins with this, of the reply that was shown."""

    def voting(self, done: int, total: int) -> None:
        """Answers are compared."""
