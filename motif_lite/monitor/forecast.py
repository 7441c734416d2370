"""How long a whole run will still take: its steps, what lies between them, its marks, and the evaluation at its end."""

import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from motif_lite.runs.records import Mark, StepMetrics

_RECENT_MARKS, _RECENT_GAPS = 3, 10


@dataclass(frozen=True, slots=True)
class Ahead:
    """What a run does besides its steps, as it is known when training begins.

    Attributes:
        num_marks: Marks of a whole run, less the one before its first step; 0 where it has none.
        marks: Those so far.
        before_seconds: What the evaluation before training took; None where there was none.
        num_prompts: Of all rounds of the evaluation after training; 0 where there is none.
        share_done: Of the run's budget, before a resumed one continues.
    """

    num_marks: int = 0
    marks: Sequence[Mark] = ()
    before_seconds: float | None = None
    num_prompts: int = 0
    share_done: float = 0.0


class Forecast:
    """The seconds of a run that are not those of a step under way."""

    def __init__(self, ahead: Ahead) -> None:
        self._ahead, self._marks = ahead, list(ahead.marks)
        self._share = self._marked_share = ahead.share_done
        self._gaps: deque[float] = deque(maxlen=_RECENT_GAPS)
        self._last_step: float | None = None
        self._prompt_seconds = 0.0
        self._evaluating_since: float | None = None

    def step(self, line: StepMetrics) -> None:
        """A step is over."""
        now = time.monotonic()
        if self._last_step is not None:
            self._gaps.append(max(0.0, now - self._last_step - sum(line.seconds.values())))
        self._last_step, self._share = now, line.share_done or 0.0
        self._evaluating_since = None
        sampling = sum(line.seconds.get(phase, 0.0) for phase in ("openings", "futures"))
        self._prompt_seconds = sampling / max(1, sum(line.prompts.values()))

    def evaluating(self) -> None:
        """Something is being measured."""
        if self._evaluating_since is None:
            self._evaluating_since = time.monotonic()

    def mark(self, mark: Mark) -> None:
        """A mark is done."""
        self._marks.append(mark)
        self._marked_share = self._share
        self._last_step = self._evaluating_since = None  # the time since the step before is no gap

    def left(self, steps_left: float) -> float:
        """Seconds of everything but steps.

        Args:
            steps_left: That the run still has.
        """
        gap = median(self._gaps) if self._gaps else 0.0
        whole = self._marks_left(steps_left) * self._mark_seconds() + self._after_seconds() + gap * steps_left
        elapsed = time.monotonic() - self._evaluating_since if self._evaluating_since is not None else 0.0
        return max(0.0, whole - elapsed)

    def _marks_left(self, steps_left: float) -> float:
        """One at the first step past each share of the run that is still to come, and the one that is due now."""
        num_marks = self._ahead.num_marks
        passed, marked = (math.floor(num_marks * share + 1e-9) for share in (self._share, self._marked_share))
        return min(num_marks - passed, steps_left) + (passed > marked)

    def _mark_seconds(self) -> float:
        return median(mark.evaluation_seconds for mark in self._marks[-_RECENT_MARKS:]) if self._marks else 0.0

    def _after_seconds(self) -> float:
        """As long as before training, times what has become of a mark since; else by a mark; else as steps sample."""
        ahead, marks = self._ahead, self._marks
        if not ahead.num_prompts:
            return 0.0
        if ahead.before_seconds is not None:
            first = marks[0].evaluation_seconds if marks else 0.0
            return ahead.before_seconds * (self._mark_seconds() / first if first else 1.0)
        per_prompt = self._mark_seconds() / max(1, marks[-1].prompts) if marks else self._prompt_seconds
        return per_prompt * ahead.num_prompts
