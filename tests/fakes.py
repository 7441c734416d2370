"""A policy that writes what a script says, an observer that remembers, and builders of the nouns in nouns.py."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

from motif_lite.monitor.forecast import Ahead
from motif_lite.nouns import (
    Conversation,
    OnText,
    OnTokens,
    Opening,
    Problem,
    Reply,
    Sampling,
    TokenProgress,
    Trajectory,
    Turn,
)
from motif_lite.policies.protocol import Policy
from motif_lite.runs.records import Mark, Measurement, StepMetrics
from motif_lite.training.context import SecondsLeft

Script = Callable[[str, Sampling], str]
"""What to write, given the rendered prompt and the sampling settings."""

GOOD_FORM = "<reasoning>\nthought\n</reasoning>\n<answer>\n{}\n</answer>"


@dataclass(frozen=True)
class Call:
    """One generate call: what it was given."""

    prompts: tuple[str, ...]
    sampling: Sampling
    seeds: tuple[int, ...]

    @property
    def width(self) -> int:
        return len(self.prompts)


class ScriptedPolicy:
    """Implements `motif_lite.policies.Policy`; a token is a character.

    Args:
        script: Called for every prompt; its text is cut off at ``sampling.max_tokens``.
        context_tokens: As in the protocol.
    """

    device_type = "cpu"
    text_start = ""

    def __init__(self, script: Script, context_tokens: int = 1_000_000) -> None:
        self.script = script
        self.context_tokens = context_tokens
        self.calls: list[Call] = []

    @property
    def widths(self) -> list[int]:
        return [call.width for call in self.calls]

    def render(self, conversation: Conversation) -> str:
        text = "".join(f"[{message['role']}]{message['content']}" for message in conversation)
        return text if conversation[-1]["role"] == "assistant" else text + "[assistant]"

    def count_tokens(self, text: str) -> int:
        return len(text)

    def keep_end(self, text: str, max_tokens: int) -> str:
        return text[-max_tokens:] if max_tokens > 0 else ""

    def generate(
        self,
        prompts: Sequence[str],
        sampling: Sampling,
        *,
        seeds: Sequence[int],
        on_progress: OnTokens | None = None,
        on_text: OnText | None = None,
    ) -> list[Reply]:
        self.calls.append(Call(tuple(prompts), sampling, tuple(seeds)))
        written = [self.script(prompt, sampling) for prompt in prompts]
        if on_progress is not None:
            on_progress(TokenProgress(0, 0, len(written), len(written), len(written)))
        for index, text in enumerate(written if on_text else []):
            assert on_text is not None
            on_text(index, text[: sampling.max_tokens])
            on_text(index, None)
        return [
            Reply(text[: sampling.max_tokens], len(text), "length" if len(text) > sampling.max_tokens else "stop")
            for text in written
        ]


def write(
    policy: Policy, prompts: Sequence[str], sampling: Sampling, *, seed: int = 0, on_progress: OnTokens | None = None
) -> list[Reply]:
    """Let a policy reply; one seed is enough to name the streams of all replies."""
    seeds = range(1000 * seed, 1000 * seed + len(prompts))
    return policy.generate(prompts, sampling, seeds=seeds, on_progress=on_progress)


class StopAfter:
    """Implements `motif_lite.training.context.Stopping`: a stop is asked for in one step, without an exception.

    Args:
        is_last: Asked at the end of every step.
    """

    def __init__(self, is_last: Callable[[], bool] = lambda: False) -> None:
        self.step_ends = is_last

    def step_begins(self, left: SecondsLeft) -> None:
        pass

    def step_saved(self) -> None:
        pass

    def saving(self) -> AbstractContextManager[None]:
        return nullcontext()


class RecordingObserver:
    """Implements `motif_lite.observer.Observer`; ``events`` holds (method, arguments) in order."""

    def __init__(self) -> None:
        self.events: list[tuple[str, tuple[Any, ...]]] = []

    def phase(self, name: str, detail: str = "") -> None:
        self.events.append(("phase", (name, detail)))

    def advance(self, done: int, total: int) -> None:
        self.events.append(("advance", (done, total)))

    def planned(self, seconds: Mapping[str, float]) -> None:
        self.events.append(("planned", (seconds,)))

    def ahead(self, work: Ahead) -> None:
        self.events.append(("ahead", (work,)))

    def generating(self, progress: TokenProgress) -> None:
        self.events.append(("generating", (progress,)))

    def step(self, metrics: StepMetrics) -> None:
        self.events.append(("step", (metrics,)))

    def mark(self, mark: Mark) -> None:
        self.events.append(("mark", (mark,)))

    def opening(self, opening: Opening, score: float) -> None:
        self.events.append(("opening", (opening, score)))

    def result(self, measurement: Measurement) -> None:
        self.events.append(("result", (measurement,)))

    def note(self, text: str) -> None:
        self.events.append(("note", (text,)))

    def named(self, method: str) -> list[tuple[Any, ...]]:
        """The arguments of every call of one method."""
        return [arguments for name, arguments in self.events if name == method]

    @property
    def notes(self) -> list[str]:
        return [text for (text,) in self.named("note")]


def problem(question: str = "1+1?", gold: str = "2", name: str = "test/1") -> Problem:
    return Problem(name, question, gold)


def reply(text: str, *, num_tokens: int | None = None, finish: Literal["stop", "length"] = "stop") -> Reply:
    return Reply(text, len(text) if num_tokens is None else num_tokens, finish)


def turn(text: str | Reply, prompt: str = "prompt") -> Turn:
    return Turn(prompt, reply(text) if isinstance(text, str) else text)


def trajectory(*texts: str | Reply, of: Problem | None = None) -> Trajectory:
    """A trajectory of one turn per text."""
    return Trajectory(of or problem(), tuple(turn(text) for text in texts))


def opening(first: str | Reply, *futures: Sequence[str | Reply], of: Problem | None = None) -> Opening:
    """An opening with futures given as the replies of rounds 2 to n; without any, it is its own future."""
    paths = tuple(trajectory(first, *later, of=of) for later in futures or [()])
    return Opening(paths[0].problem, paths[0].turns[0], paths)
