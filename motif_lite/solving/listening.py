"""A policy whose replies can be followed while they are written, for strategies that know nothing of it."""

from collections.abc import Sequence

from motif_lite.nouns import Conversation, OnText, OnTokens, Reply, Sampling
from motif_lite.policies.protocol import Policy
from motif_lite.rollout import reply_format
from motif_lite.solving.watcher import Watcher

_LEAST_KEPT = 16
"""Characters of progress that was cut to fit the context by which it is still recognised in the next prompt."""


class ListeningPolicy:
    """Implements `Policy` by another policy, and tells a watcher of each call's first reply.

    Args:
        policy: Writes the replies.
        watcher: Told of them.
    """

    def __init__(self, policy: Policy, watcher: Watcher) -> None:
        self._policy, self._watcher = policy, watcher
        self._replies: list[Reply] = []
        self._round: tuple[int, int, int] | None = None
        self.context_tokens, self.device_type = policy.context_tokens, policy.device_type
        self.text_start = policy.text_start

    def on_round(self, round_number: int, num_rounds: int, width: int) -> None:
        """The strategy begins a round; its prompts come with the next call."""
        self._round = round_number, num_rounds, width

    def render(self, conversation: Conversation) -> str:
        """The prompt text of a conversation."""
        return self._policy.render(conversation)

    def count_tokens(self, text: str) -> int:
        """Number of tokens of a rendered text."""
        return self._policy.count_tokens(text)

    def keep_end(self, text: str, max_tokens: int) -> str:
        """The end of a text, of at most so many tokens."""
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
        """As the other policy, with the first reply told as it is written."""

        def first(index: int, piece: str | None) -> None:
            if index == 0:
                self._watcher.text(piece)

        if (progress_note := self._passed_on_to(prompts[0])) is not None:
            self._watcher.passed_on(progress_note)
        if self._round is not None:
            self._watcher.round(*self._round)
        self._replies = self._policy.generate(
            prompts, sampling, seeds=seeds, on_progress=self._watcher.generating, on_text=first
        )
        if self._replies:
            self._watcher.written(self._replies[0])
        return self._replies

    def _passed_on_to(self, prompt: str) -> str | None:
        """What a prompt holds of a reply of the call before: its progress, or the end of it; None in the first call."""
        ends = [_end_in(prompt, reply_format.progress(reply.text)) for reply in self._replies]
        return max(ends, key=len) if ends else None


def _end_in(prompt: str, progress: str) -> str:
    """The longest end of the progress that stands in the prompt; nothing where that is too short to be told apart."""
    if progress in prompt:
        return progress
    shortest, longest = 0, len(progress)  # an end that is there and one that is not
    while longest - shortest > 1:
        middle = (shortest + longest) // 2
        shortest, longest = (middle, longest) if progress[-middle:] in prompt else (shortest, middle)
    return progress[-shortest:] if shortest >= _LEAST_KEPT else ""
