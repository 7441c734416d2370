"""What a run has cost, by phase and in all: prompts, tokens generated and trained, seconds, peak memory.

Made of what the run has written (metrics.jsonl, validation.jsonl, evaluation.json, selection.json), so it covers
resumed runs, too. Steps that were lost with an interrupted process, and done again, are counted once.
"""

from collections.abc import Iterable, Iterator

from motif_lite.runs.costs import NOTHING, Cost, Costs, total
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.records import Evaluation, Mark, Measurement, StepMetrics

TOTAL = "total"


def of(run: RunDirectory) -> Costs:
    """Cost by phase: ``selection``, those of a training step, ``validation``, ``evaluation``, and the total of all."""
    return account(run.metrics(), run.marks(), run.evaluation(), run.preparing)


def account(
    metrics: Iterable[StepMetrics], marks: Iterable[Mark], evaluation: Evaluation, preparing: Costs | None = None
) -> Costs:
    """As `of`, from the contents of the files."""
    costs = of_training(metrics, preparing)
    for mark in marks:
        _add(costs, "validation", _measured(mark, mark.evaluation_seconds))
    for measurement in evaluation.measurements:
        _add(costs, "evaluation", _measured(measurement, measurement.seconds))
    return costs | ({TOTAL: total(costs)} if costs else {})


def of_training(metrics: Iterable[StepMetrics], preparing: Costs | None = None) -> Costs:
    """Cost of the training steps by phase, and of what prepared them."""
    costs = dict(preparing or {})
    for step in metrics:
        for phase, cost in _of_step(step):
            _add(costs, phase, cost)
    return costs


def _of_step(step: StepMetrics) -> Iterator[tuple[str, Cost]]:
    for phase in dict.fromkeys((*step.tokens, *step.seconds)):
        yield (
            phase,
            Cost(
                prompts=step.prompts.get(phase, 0),
                generated_tokens=step.tokens.get(phase, 0),
                trained_tokens=(step.trained_tokens or 0) if phase == "update" else 0,
                seconds=step.seconds.get(phase, 0.0),
                peak_memory_bytes=step.peak_memory_bytes.get(phase, 0),
            ),
        )


def _measured(found: Measurement | Mark, seconds: float) -> Cost:
    return Cost(
        prompts=found.prompts,
        generated_tokens=found.generated_tokens,
        seconds=seconds,
        peak_memory_bytes=found.peak_memory_bytes,
    )


def _add(costs: Costs, phase: str, cost: Cost) -> None:
    costs[phase] = costs.get(phase, NOTHING) + cost
