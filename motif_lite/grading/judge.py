"""Asks the judge's process (`server`), and sees to it that a verdict depends on the two answers alone.

How long a comparison may take is told in its own processor time, so a loaded machine changes no verdict. A process that
was stopped is continued; one that was killed, or gets no processor time, is replaced, and what it was asked is asked
again.
"""

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from motif_lite.grading import server
from motif_lite.grading.rulings import Ruling
from motif_lite.process import usable_cores

WALL_SECONDS = 10.0
"""Longest wait for one comparison, ten times its processor time; twice as long each time that it is asked again."""

MOST_TIMES = 5
"""So often a comparison is asked before its verdict counts as lost."""

START_SECONDS = 300.0
"""Longest start of the server, on a machine under load and over all tries; not part of any comparison."""

MOST_FORKS = 8
"""Comparisons at a time; more would wait for the one process that forks them."""

SILENCE_SECONDS = 0.25
"""After so long without an answer the server and its forks are continued, in case something has stopped them."""

Pair = tuple[str, str]
"""A gold answer and another one, both in LaTeX."""

LOST = Ruling(None, f"the judge was killed, or got no processor time, {MOST_TIMES} times in a row")

_ENDS = {
    server.TIME: Ruling(None, f"the comparison took more than {server.CPU_SECONDS:g} s of processor time"),
    server.MEMORY: Ruling(None, f"the comparison took more than {server.MEMORY_BYTES >> 20} MiB"),
    server.CRASH: Ruling(None, "the comparison ended with an error"),
}


@dataclass(frozen=True, slots=True)
class Judged:
    """What was found about some pairs, in their order.

    Attributes:
        num_retries: Comparisons that were asked again, because something else than their limits had ended them.
    """

    rulings: list[Ruling]
    num_retries: int


@dataclass(slots=True)
class _Questions:
    """Pairs on their way to rulings, by their place: waiting, asked until some time, or answered."""

    pairs: Sequence[Pair]
    waiting: deque[int] = field(init=False)
    asked: dict[int, float] = field(default_factory=dict)
    rulings: dict[int, Ruling] = field(default_factory=dict)
    losses: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.waiting = deque(range(len(self.pairs)))

    def next(self) -> int:
        """Take the first that waits for asked; its time runs from now."""
        place = self.waiting.popleft()
        self.asked[place] = time.monotonic() + WALL_SECONDS * 2 ** self.losses[place]
        return place

    def answer(self, place: int, ruling: Ruling) -> None:
        """Take down a ruling."""
        del self.asked[place]
        self.rulings[place] = ruling

    def lose(self, place: int) -> None:
        """Have it asked again, unless it was lost too often."""
        del self.asked[place]
        self.losses[place] += 1
        if self.losses[place] < MOST_TIMES:
            self.waiting.append(place)
        else:
            self.rulings[place] = LOST

    def judged(self) -> Judged:
        """All rulings, once they are complete; each loss was followed by another try, or by `LOST`."""
        rulings = [self.rulings[place] for place in range(len(self.pairs))]
        return Judged(rulings, self.losses.total() - rulings.count(LOST))


class Judge:
    """Compares pairs of answers, several at a time where there are processors for it.

    Its process is started on first use, replaced if it dies, and ends with this one. Safe to share by threads.

    Args:
        by: The module of this folder that compares, see `server`.
    """

    def __init__(self, by: str = "comparing") -> None:
        self._by = by
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._read = b""
        self._owner = os.getpid()
        self._lock = threading.Lock()

    def judge(self, pairs: Sequence[Pair], on_progress: Callable[[int, int], None] | None = None) -> Judged:
        """Rulings on pairs of answers in LaTeX.

        ``correct`` is None where the comparison reached a limit of its own or failed, which it would do again; and in
        `LOST`, where it was ended by something else each time.

        Raises:
            OSError: The process cannot be started (or `TimeoutError`, which is one).
        """
        questions = _Questions(pairs)
        with self._lock:
            try:
                if self._owner != os.getpid():  # this process is a fork of the one that talks to the server
                    self._stop()
                while len(questions.rulings) < len(pairs):
                    self._go_on(questions)
                    if on_progress is not None:
                        on_progress(len(questions.rulings), len(pairs))
            except BaseException:  # Ctrl-C between request and answer: the answer must not become another one's
                self._stop()
                raise
        return questions.judged()

    def close(self) -> None:
        """End the process, and all forks."""
        with self._lock:
            self._stop()

    def _go_on(self, questions: _Questions) -> None:
        """Ask what can be asked, and take down the answers that come next."""
        if self._process is None:
            self._start()
        try:
            while questions.waiting and len(questions.asked) < num_forks():
                place = questions.next()
                self._send([place, *questions.pairs[place]])
            for line in self._lines(min(questions.asked.values())):
                place, outcome, ruling = json.loads(line)
                if outcome == server.LOST:
                    questions.lose(place)
                else:
                    questions.answer(place, Ruling(*ruling) if outcome == server.DONE else _ENDS[outcome])
        except OSError:
            self._stop()
            for place in tuple(questions.asked):
                questions.lose(place)

    def _start(self) -> None:
        """Start the process and wait until it is ready; one that is killed meanwhile is started again."""
        deadline = time.monotonic() + START_SECONDS
        while self._process is None:
            self._launch()
            try:
                self._lines(deadline)
            except OSError:
                has_failed = self._has_failed()
                self._stop()
                if has_failed or time.monotonic() > deadline:
                    raise

    def _launch(self) -> None:
        self._channel, other = socket.socketpair()
        self._channel.settimeout(WALL_SECONDS)  # to send: a server that takes nothing in is replaced
        self._read, self._owner = b"", os.getpid()
        with other:
            # -P: it needs nothing of this folder, so none of its modules can take the place of another.
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(Path(server.__file__)), self._by],
                stdin=other.fileno(),
                stdout=other.fileno(),
                stderr=subprocess.DEVNULL,
                env=os.environ | {"PYTHONHASHSEED": "0"},  # `gym` makes problems anew, and they hang on it
                start_new_session=True,  # Ctrl-C at the terminal is the caller's to handle; it leads its forks' group
            )
        atexit.register(self.close)

    def _has_failed(self) -> bool:
        """Whether the process, which says no more, has ended by itself, e.g. as it cannot import math-verify."""
        assert self._process is not None
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(1.0) > 0
        return False

    def _stop(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._process is not None:
            atexit.unregister(self.close)
            if self._owner == os.getpid():
                self._signal(signal.SIGKILL)
                self._process.wait()
            self._process = None

    def _signal(self, number: signal.Signals) -> None:
        """Send a signal to the server and its forks."""
        assert self._process is not None
        with suppress(ProcessLookupError, PermissionError):  # all have ended; macOS says so by the second
            os.killpg(self._process.pid, number)

    def _send(self, request: list[object]) -> None:
        assert self._channel is not None
        self._channel.sendall(json.dumps(request).encode() + b"\n")

    def _lines(self, deadline: float) -> Iterator[bytes]:
        """The lines that come next, one at least.

        Raises:
            OSError: The process has ended, or says nothing until the deadline.
        """
        assert self._channel is not None
        *lines, rest = self._read.split(b"\n")
        while not lines:
            left = deadline - time.monotonic()
            if select.select([self._channel], [], [], min(SILENCE_SECONDS, max(0.0, left)))[0]:
                read = self._channel.recv(1 << 16)
                if not read:
                    raise OSError("its process has ended")
                *lines, rest = (rest + read).split(b"\n")
            elif left <= 0:
                raise TimeoutError("no answer")
            else:
                self._signal(signal.SIGCONT)
        self._read = rest
        return iter(lines)


def num_forks() -> int:
    """Comparisons at a time: one for each processor that this process may use."""
    return min(MOST_FORKS, usable_cores())
