"""What a run has cost, by phase and in all: prompts, tokens generated and trained, seconds, peak memory.

Made of what the run has written (metrics.jsonl, validation.jsonl, evaluation.json), so it covers resumed runs, too.
Steps that were lost with an interrupted process, and done again, are counted once.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from motif_lite.runs.directory import RunDirectory

Cost = dict[str, float | int]
"""``prompts``, ``generated_tokens``, ``trained_tokens``, ``seconds``, ``peak_memory_bytes`` (0 where not measured)."""

TOTAL = "total"


def of(run: RunDirectory) -> dict[str, Cost]:
    """Cost by phase: those of a training step, ``validation``, ``evaluation``, and the total of all."""
    return account(run.metrics(), run.marks(), run.evaluation())


def account(
    metrics: Iterable[Mapping[str, Any]], marks: Iterable[Mapping[str, Any]], evaluation: Mapping[str, Any]
) -> dict[str, Cost]:
    """As `of`, from the contents of the files."""
    costs: dict[str, Cost] = {}
    for line in metrics:
        for phase, cost in _of_step(line):
            _add(costs, phase, cost)
    for mark in marks:
        _add(costs, "validation", _measured(mark, mark["evaluation_seconds"]))
    for result in _results(evaluation):
        _add(costs, "evaluation", _measured(result, result["seconds"]))
    for cost in list(costs.values()):
        _add(costs, TOTAL, cost)
    return costs


def _of_step(line: Mapping[str, Any]) -> Iterator[tuple[str, Cost]]:
    for phase, seconds in line["seconds"].items():
        yield (
            phase,
            {
                "prompts": line.get("prompts", {}).get(phase, 0),
                "generated_tokens": line["tokens"].get(phase, 0),
                "trained_tokens": line.get("trained_tokens", 0) if phase == "update" else 0,
                "seconds": seconds,
                "peak_memory_bytes": line["peak_memory_bytes"].get(phase, 0),
            },
        )


def _measured(result: Mapping[str, Any], seconds: float) -> Cost:
    return {
        "prompts": result.get("prompts", 0),  # a run of an earlier version did not count them
        "generated_tokens": result["generated_tokens"],
        "trained_tokens": 0,
        "seconds": seconds,
        "peak_memory_bytes": result.get("peak_memory_bytes", 0),
    }


def _results(evaluation: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for by_when in evaluation["benchmarks"].values():
        for by_strategy in by_when.values():
            for by_decoding in by_strategy.values():
                yield from by_decoding.values()


def _add(costs: dict[str, Cost], phase: str, cost: Cost) -> None:
    so_far = costs.setdefault(phase, dict.fromkeys(cost, 0))
    for key, value in cost.items():
        so_far[key] = max(so_far[key], value) if key == "peak_memory_bytes" else so_far[key] + value
