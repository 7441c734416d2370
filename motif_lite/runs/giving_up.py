"""When a run is given up: once its gradients are no numbers any more."""

from collections.abc import Sequence

from motif_lite.runs.records import StepMetrics

MOST_SKIPPED = 5
"""Updates in a row that may be skipped before the run is stopped."""


def is_given_up(metrics: Sequence[StepMetrics]) -> bool:
    """Whether the last steps were all without an update, so that the run has ended, or ends here."""
    return len(metrics) >= MOST_SKIPPED and all(line.update_skipped for line in metrics[-MOST_SKIPPED:])
