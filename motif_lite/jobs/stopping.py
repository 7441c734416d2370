"""Ctrl-C, SIGTERM and the loss of the terminal.

The first Ctrl-C or SIGTERM raises `Interrupted` where the run stands. Inside a training step it waits until the step is
finished and saved, however long that takes, and says how long that will be. The second leaves at once, but for saving
the steps that are finished. A run whose terminal goes away (SIGHUP) goes on.

The launcher of several processes passes requests on as a signal of their own. Where all processes of a run are asked,
as by systemd or scancel, one request comes in both ways; so the two are not added up.

Python runs signal handlers between two instructions of the main thread. A library that stays in native code keeps
them waiting, and one that catches everything swallows what they raise. So a thread of our own reads the signals, too
(`signal.set_wakeup_fd`), and ends the process when its time is over: files are only ever appended to or renamed into
place, so nothing is lost by that but what was not yet saved.
"""

import os
import select
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from motif_lite.training.context import SecondsLeft
from motif_lite.views.formats import duration

AGAIN_SECONDS = 2.0
"""Between one `Interrupted` and the next, should something have swallowed it."""

FIRST_SECONDS, SECOND_SECONDS = 18.0, 2.0
"""From the first signal outside a training step, and from the second anywhere, to the end of the process."""

UNWINDING_SECONDS = 10.0
"""From the second signal in a training step to the saving of finished ones: on a busy machine leaving the step takes a
while."""

COUNTING_SECONDS = 0.5
"""What the main thread gets to count a further signal. Two that come before it has run its handler are one to it."""

SAVING_SECONDS = 60.0
"""What saving finished steps may take after that; a slow or busy disk must not cost them."""

FROM_LAUNCHER = signal.SIGUSR1
"""A SIGINT or SIGTERM that `launching` passes on. Before it is handled it ends the process, which wrote nothing yet."""

_ASKING = (signal.SIGINT, signal.SIGTERM, FROM_LAUNCHER)
_SHOW_CURSOR = b"\x1b[?25h"


class Interrupted(KeyboardInterrupt):
    """The user stopped the run; it can be resumed. Like KeyboardInterrupt it passes through `except Exception`."""


class _Counted:
    """Tells a further request from one that has already come the other way: directly, or through the launcher."""

    def __init__(self) -> None:
        self._times = Counter[bool]()

    def is_new(self, number: int) -> bool:
        """Whether this signal asks once more than all before it."""
        most = max(self._times.values(), default=0)
        self._times[number == FROM_LAUNCHER] += 1
        return max(self._times.values()) > most


class Stop:
    """Whether a stop was asked for, and whether a training step is finished first.

    Args:
        say: Shows a line to the user.
        last_words: What is printed when the process has to be ended from outside.
    """

    def __init__(self, say: Callable[[str], None], last_words: Callable[[], str]) -> None:
        self._say, self._last_words = say, last_words
        self._requests, self._counted = 0, _Counted()
        """As the main thread counts them."""
        self._seen = 0
        """As the thread of `watch` counted them, where the main thread has counted fewer."""
        self._step: SecondsLeft | None = None
        """Inside a training step: how long it will still take."""
        self._saved_by = 0.0
        """While finished steps are being saved: until when, on the monotonic clock, the end of the process waits."""
        self._saved_for = 0
        """Requests before that; one more is not waited for."""

    @property
    def requested(self) -> bool:
        """Whether a stop was asked for."""
        return self._requests > 0

    def step_begins(self, left: SecondsLeft) -> None:
        """From here to `step_saved` the first request waits."""
        self._step = left

    def step_ends(self) -> bool:
        """Whether this step is the last one."""
        return self.requested

    def step_saved(self) -> None:
        """Nothing is waited for any longer.

        Raises:
            Interrupted: A stop was asked for.
        """
        self._step = None
        if self.requested:
            self._interrupt()

    @contextmanager
    def saving(self) -> Iterator[None]:
        """A stop has ended the step under way, and finished ones are being saved: only a further request ends that."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._saved_by, self._saved_for = time.monotonic() + SAVING_SECONDS, self._requests
        try:
            yield
        finally:  # also where it could not be saved
            self._saved_by = time.monotonic() + SECOND_SECONDS
            signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS, AGAIN_SECONDS)

    def on_request(self, number: int, frame: FrameType | None) -> None:
        """The handler of SIGINT, SIGTERM and `FROM_LAUNCHER`."""
        if not self._counted.is_new(number):
            return
        self._requests += 1
        self._let_finished_steps_be_saved()
        if self._step is None or self._requests > 1:
            self._interrupt()

    def on_request_at_end(self, number: int, frame: FrameType | None) -> None:
        """The handler of the same once the stop is under way: nothing is left to unwind that it may disturb."""
        if self._counted.is_new(number):
            os._exit(130)

    def on_alarm(self, number: int, frame: FrameType | None) -> None:
        """The handler of SIGALRM: something has swallowed the exception, or two signals were one to `on_request`."""
        self._requests = max(self._requests, self._seen)
        self._let_finished_steps_be_saved()
        self._interrupt()

    def watch(self, signals: int) -> None:
        """Read the numbers of signals as they come, until the pipe is closed; ends the process when time is over."""
        asked, deadline, counted = 0, None, _Counted()
        while True:
            if not select.select([signals], [], [], deadline and max(0.0, deadline - time.monotonic()))[0]:
                if self._saved_by <= time.monotonic() or asked > self._saved_for:
                    break
                deadline = self._saved_by
                continue
            numbers = os.read(signals, 64)
            if not numbers:
                return
            for number in numbers:
                if number in _ASKING and counted.is_new(number):
                    asked += 1
                    step = self._step if asked == 1 else None
                    if step is None:
                        deadline = time.monotonic() + (FIRST_SECONDS if asked == 1 else SECOND_SECONDS)
                    self._say(_told(step))
                    if asked > 1:
                        self._have_counted(asked)
                elif number == signal.SIGHUP:
                    self._say("the terminal was closed; the run continues")
        self._leave()

    def _have_counted(self, asked: int) -> None:
        """Make the main thread count as many requests as there were."""
        until = time.monotonic() + COUNTING_SECONDS
        while self._requests < asked:
            if time.monotonic() > until:
                self._seen = asked
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)
                return
            time.sleep(0.02)

    def _let_finished_steps_be_saved(self) -> None:
        """From the second request in a training step on: the end of the process waits for that."""
        if self._step is not None and self._requests > 1 and not self._saved_by:
            self._saved_by, self._saved_for = time.monotonic() + UNWINDING_SECONDS, self._requests

    def _interrupt(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS, AGAIN_SECONDS)
        raise Interrupted

    def _leave(self) -> None:
        with suppress(OSError):  # a terminal that is gone
            if os.isatty(2):
                os.write(2, _SHOW_CURSOR)
            os.write(2, f"quit immediately\n{self._last_words()}\n".encode(errors="backslashreplace"))
        os._exit(130)


def _told(step: SecondsLeft | None) -> str:
    """What the user reads after asking for a stop."""
    if step is None:
        return "stopping; interrupt again to quit immediately"
    seconds = step()
    left = "its length is not known yet" if seconds is None else f"about {duration(seconds)} left"
    return f"stopping once the running step is finished and saved, {left}; interrupt again to quit without that step"


@contextmanager
def signals(say: Callable[[str], None], last_words: Callable[[], str]) -> Iterator[Stop]:
    """Handle signals as the module says. Once a stop was asked for it goes on doing so: the process is to end."""
    stop = Stop(say, last_words)
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    handlers = {number: signal.signal(number, stop.on_request) for number in _ASKING}
    handlers[signal.SIGHUP] = signal.signal(signal.SIGHUP, lambda number, frame: None)
    handlers[signal.SIGALRM] = signal.signal(signal.SIGALRM, stop.on_alarm)
    wakeup = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    watcher = threading.Thread(target=stop.watch, args=(read_end,), name="signals", daemon=True)
    watcher.start()
    try:
        yield stop
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        if stop.requested:
            for number in _ASKING:
                signal.signal(number, stop.on_request_at_end)
        else:
            signal.set_wakeup_fd(wakeup)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            os.close(write_end)
            watcher.join()
            os.close(read_end)
