"""How long a step and a run will still take, judged by the steps before."""

import time
from collections import deque
from collections.abc import Mapping, Sequence
from statistics import median

_RECENT = 10
"""Steps that are looked back on: replies become longer or shorter as training goes on."""

MEASURED_AFTER = 3
"""Steps of a run after which what they took is told in place of what the plan assumed."""

_MOMENTS = 10.0
"""Seconds that a speed is averaged over."""


def typical_step(past: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Seconds by phase, in the order of a step: medians over the last steps; empty without any."""
    recent = past[-_RECENT:]
    phases = dict.fromkeys(phase for seconds in recent for phase in seconds)
    return {phase: median(seconds.get(phase, 0.0) for seconds in recent) for phase in phases}


def left_of_step(past: Sequence[Mapping[str, float]], so_far: Mapping[str, float]) -> float | None:
    """Seconds that a step will still take; None without a step before.

    Args:
        past: Seconds by phase of steps before.
        so_far: Seconds by phase of this one, the phase under way last.
    """
    expected = typical_step(past)
    if not expected:
        return None
    running = list(so_far)[-1] if so_far else None
    done = set(so_far) - {running}
    return sum(max(0.0, seconds - so_far.get(phase, 0.0)) for phase, seconds in expected.items() if phase not in done)


class StepClock:
    """Seconds by phase of the step under way, as an observer sees it."""

    def __init__(self) -> None:
        self._past: list[Mapping[str, float]] = []
        self._planned: Mapping[str, float] = {}
        self._done: dict[str, float] = {}
        self._running: tuple[str, float] | None = None

    def plan(self, seconds: Mapping[str, float]) -> None:
        """A step takes so long by phase at most, by the plan; it holds until the first step is over."""
        self._planned = seconds

    def begin(self, phase: str) -> None:
        """A phase of a step has begun, or goes on."""
        if self._running is None or self._running[0] != phase:
            self._done = self._so_far()
            self._running = phase, time.monotonic()

    def finish(self, seconds: Mapping[str, float]) -> None:
        """A step is over, and took so long by phase."""
        self._past.append(seconds)
        self._done, self._running = {}, None

    def left_of_step(self) -> float | None:
        """Seconds, by the plan in the first step; None without either, and between two steps."""
        past = self._past or ([self._planned] if self._planned else [])
        return left_of_step(past, self._so_far()) if self._running else None

    @property
    def planned_step(self) -> float | None:
        """Seconds of a whole step by the plan, while there is nothing better."""
        return sum(self._planned.values()) if self._planned and not self._past else None

    @property
    def newly_measured(self) -> float | None:
        """Seconds that the plan gave a step, when enough steps are over to say what one takes; otherwise None."""
        is_time = len(self._past) == MEASURED_AFTER and self._planned
        return sum(self._planned.values()) if is_time else None

    @property
    def typical_step(self) -> float:
        """Seconds of a whole step."""
        return sum(typical_step(self._past).values())

    def left_of_run(self, steps_left: float) -> float:
        """Seconds that so many steps will take, the one under way among them."""
        under_way = self.left_of_step()
        whole = steps_left if under_way is None else max(0.0, steps_left - 1)
        return self.typical_step * whole + (under_way or 0.0)

    def _so_far(self) -> dict[str, float]:
        if self._running is None:
            return dict(self._done)
        phase, since = self._running
        return self._done | {phase: time.monotonic() - since}


class Speed:
    """Tokens a second over the last moments."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def saw(self, num_tokens: int) -> None:
        """So many tokens are done in all; fewer than before are those of another call."""
        if self._seen and num_tokens < self._seen[-1][1]:
            self._seen.clear()
        self._seen.append((time.monotonic(), num_tokens))
        while len(self._seen) > 2 and self._seen[-1][0] - self._seen[1][0] > _MOMENTS:
            self._seen.popleft()

    @property
    def tokens_per_second(self) -> float | None:
        """None before there is anything to compare."""
        (since, before), (now, done) = (self._seen[0], self._seen[-1]) if self._seen else ((0.0, 0), (0.0, 0))
        return (done - before) / (now - since) if now - since > 1 else None
