"""Calls for replies from several threads, put together: one call of the policy writes the replies of all that wait.

What comes while replies are written waits for the end of that call, which is one round of all its requests.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from motif_lite.nouns import Conversation, NotWanted, OnText, OnTokens, Reply, Sampling, TokenProgress
from motif_lite.policies.protocol import Policy

_log = logging.getLogger(__name__)

_GATHER_SECONDS = 0.02
"""After the first call of a batch: those that come at the same time go together."""


_LOOK_SECONDS = 0.25
"""Between two looks whether the reply that a thread waits for is still wanted."""


@dataclass(eq=False)
class _Call:
    """What one thread asks for, and what it gets."""

    prompts: Sequence[str]
    sampling: Sampling
    seeds: Sequence[int]
    on_progress: OnTokens | None
    on_text: OnText | None
    replies: list[Reply] = field(default_factory=list)
    error: BaseException | None = None
    is_done: threading.Event = field(default_factory=threading.Event)

    def wait(self) -> None:
        """Wait for the end, and end it early where ``on_progress`` raises, whether or not it is in a batch yet."""
        nothing_yet = TokenProgress(0, 0, 0, 0, to_write=len(self.prompts) * self.sampling.max_tokens)
        while not self.is_done.wait(_LOOK_SECONDS):
            if self.on_progress is not None:
                try:
                    self.on_progress(nothing_yet)
                except BaseException as error:
                    self.fail(error)

    def fail(self, error: BaseException) -> None:
        """End it at once.

        Without its traceback, whose frames lead to those of the batch: its keys and values, a gigabyte for 64 requests,
        would live until Python next looks for garbage in circles.
        """
        if not self.is_done.is_set():
            self.error = error.with_traceback(None)
            self.is_done.set()


class BatchingPolicy:
    """Implements `Policy` by another one, for several threads at once.

    Args:
        policy: Writes the replies, in a thread of its own.
        tidy_up: Called after each batch.
    """

    def __init__(self, policy: Policy, tidy_up: Callable[[], None] = lambda: None) -> None:
        self._policy, self._tidy_up = policy, tidy_up
        self.context_tokens, self.device_type = policy.context_tokens, policy.device_type
        self.text_start = policy.text_start
        self._waiting: deque[_Call] = deque()
        self._has_changed = threading.Condition()
        self._is_closed = False
        self._reading = threading.Lock()
        """Tokenizers are not made for several threads."""
        self._worker = threading.Thread(target=self._work, name="batches", daemon=True)
        self._worker.start()

    def render(self, conversation: Conversation) -> str:
        """The prompt text of a conversation."""
        with self._reading:
            return self._policy.render(conversation)

    def count_tokens(self, text: str) -> int:
        """Number of tokens of a rendered text."""
        with self._reading:
            return self._policy.count_tokens(text)

    def keep_end(self, text: str, max_tokens: int) -> str:
        """The end of a text, of at most so many tokens."""
        with self._reading:
            return self._policy.keep_end(text, max_tokens)

    def generate(
        self,
        prompts: Sequence[str],
        sampling: Sampling,
        *,
        seeds: Sequence[int],
        on_progress: OnTokens | None = None,
        on_text: OnText | None = None,
    ) -> list[Reply]:
        """As the other policy, together with what other threads ask for.

        What ``on_text`` or ``on_progress`` raises ends this call; its replies leave the batch, and the others go on.
        Both come from the batch's thread; ``on_progress`` comes from this one, too, however long nothing is written.
        """
        call = _Call(prompts, sampling, seeds, on_progress, on_text)
        with self._has_changed:
            self._waiting.append(call)
            self._has_changed.notify()
        call.wait()
        if call.error is not None:
            raise call.error
        return call.replies

    def close(self, seconds: float) -> None:
        """Take no more calls, and wait for the one that is under way, for so long at most."""
        with self._has_changed:
            self._is_closed = True
            self._has_changed.notify()
        self._worker.join(seconds)

    def _work(self) -> None:
        while calls := self._next():
            try:
                self._perform(calls)
            except Exception as error:  # whatever it is, the threads that wait are told, and later ones are served
                _log.exception("a batch of %d calls failed", len(calls))
                for call in calls:
                    call.fail(error)
            self._tidy_up()

    def _next(self) -> list[_Call]:
        """All that wait with the sampling of the first, and are still wanted; nothing at the end."""
        while True:
            with self._has_changed:
                self._has_changed.wait_for(lambda: self._waiting or self._is_closed)
            time.sleep(_GATHER_SECONDS)
            with self._has_changed:
                if self._is_closed:
                    return []
                if found := self._taken():
                    return found

    def _taken(self) -> list[_Call]:
        self._waiting = deque(call for call in self._waiting if call.error is None)
        if not self._waiting:
            return []
        sampling = self._waiting[0].sampling
        found = [call for call in self._waiting if call.sampling == sampling]
        self._waiting = deque(call for call in self._waiting if call.sampling != sampling)
        return found

    def _perform(self, calls: Sequence[_Call]) -> None:
        places = [(call, number) for call in calls for number in range(len(call.prompts))]

        def on_text(index: int, piece: str | None) -> None:
            call, number = places[index]
            if call.on_text is not None and call.error is None:
                try:
                    call.on_text(number, piece)
                except BaseException as error:
                    call.fail(error)
            if call.error is not None:
                raise NotWanted

        def on_progress(progress: TokenProgress) -> None:
            for call in calls:
                if call.on_progress is not None and call.error is None:
                    try:
                        call.on_progress(progress)
                    except BaseException as error:
                        call.fail(error)

        prompts = [prompt for call in calls for prompt in call.prompts]
        seeds = [seed for call in calls for seed in call.seeds]
        replies = self._policy.generate(
            prompts, calls[0].sampling, seeds=seeds, on_progress=on_progress, on_text=on_text
        )
        for (call, _), reply in zip(places, replies, strict=True):
            call.replies.append(reply)
        for call in calls:
            call.is_done.set()
