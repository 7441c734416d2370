"""Ctrl-C while an answer is written: the first ends the answer, the second the program.

The first is not raised where the program stands: a model whose weights are just being put back would be left half
changed, and the next answer would be another model's. What writes the answer asks between two steps instead.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class AnswerEnded(BaseException):
    """The user ended this answer. Like KeyboardInterrupt it passes through `except Exception`."""


class Asking:
    """Whether the answer is to end."""

    def __init__(self) -> None:
        self._requests = 0

    def check(self) -> None:
        """Between two steps.

        Raises:
            AnswerEnded: The user asked for it.
        """
        if self._requests:
            raise AnswerEnded

    def on_request(self, number: int, frame: FrameType | None) -> None:
        """The handler of SIGINT."""
        self._requests += 1
        if self._requests > 1:
            raise KeyboardInterrupt


@contextmanager
def ends_answer() -> Iterator[Asking]:
    """Have Ctrl-C end an answer while it is written."""
    asking = Asking()
    earlier = signal.signal(signal.SIGINT, asking.on_request)
    try:
        yield asking
    finally:
        signal.signal(signal.SIGINT, earlier)
