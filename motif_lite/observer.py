"""How a run reports what it does: the console implements it, tests record it, batch jobs ignore it."""

from collections.abc import Mapping
from typing import Protocol

from motif_lite.monitor.forecast import Ahead
from motif_lite.nouns import Opening, TokenProgress
from motif_lite.runs.records import Mark, Measurement, StepMetrics


class Observer(Protocol):
    """Told what the run is doing as it does it. No call may fail or take long."""

    def phase(self, name: str, detail: str = "") -> None:
        """A phase has begun, e.g. ``futures``, ``round 2 of 3, 32 replies``."""

    def advance(self, done: int, total: int) -> None:
        """So much of the phase is done."""

    def planned(self, seconds: Mapping[str, float]) -> None:
        """A training step takes at most so long by phase, if the plan is right."""

    def ahead(self, work: Ahead) -> None:
        """Training is about to begin; what the run does besides its steps."""

    def generating(self, progress: TokenProgress) -> None:
        """So far have the replies of the phase come."""

    def step(self, metrics: StepMetrics) -> None:
        """A training step is over; its line of metrics.jsonl."""

    def opening(self, opening: Opening, score: float) -> None:
        """A sample of what the policy writes, with its future accuracy reward."""

    def result(self, measurement: Measurement) -> None:
        """An entry of evaluation.json has been measured."""

    def mark(self, mark: Mark) -> None:
        """Held-out problems have been measured along the way; its line of validation.jsonl."""

    def note(self, text: str) -> None:
        """Something worth a line."""
