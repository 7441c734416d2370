"""Accuracy on held-out problems, with what it cost and how sure it is.

The judge is the reward's (`answers.is_correct`), the prompts and token limits are the training's; only the
temperature differs. Every graded reply is kept, so that runs can be compared problem by problem later. A measurement
is made in parts, each kept as it is done: one that was interrupted goes on with the part that is missing.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from motif_lite.context import RunContext
from motif_lite.evaluation import intervals
from motif_lite.evaluation.measuring import Part, measure_parts, outcomes_of, summary
from motif_lite.nouns import Problem
from motif_lite.recipe.schema import Recipe, decided
from motif_lite.runs.directory import Evaluation, RunDirectory

PARTS = ".parts"
"""Ending of the file that holds the parts of a measurement until it is complete."""


def evaluate(context: RunContext, benchmarks: Mapping[str, Sequence[Problem]], when: str) -> None:
    """Measure what the recipe asks for and evaluation.json does not have yet; write each result as it comes.

    Args:
        benchmarks: Problems by benchmark name.
        when: ``before`` or ``after``.
    """
    recipe, run = context.recipe, context.run
    evaluation = run.evaluation()
    for benchmark, strategy, decoding in _measurements(recipe):
        path, settings = run.graded_path(benchmark, when, strategy, decoding), _settings(recipe, benchmark, decoding)
        entry = _entry(evaluation, benchmark, when, strategy)
        if decoding in entry and evaluation["settings"].get(path.stem) == settings:
            continue
        parts = Parts(run, path, settings | {"width": decided(recipe.rollout.max_width)})
        problems = list(benchmarks[benchmark]) * (recipe.evaluation.num_samples if decoding == "sampled" else 1)
        for part in measure_parts(context, problems, benchmark, strategy, decoding, len(parts.graded)):
            parts.add(part)
        run.write_graded(path, parts.graded)
        entry[decoding] = summary(parts.graded, recipe.evaluation.confidence) | {
            "seconds": parts.seconds,
            "peak_memory_bytes": parts.peak_bytes,
        }
        evaluation["settings"][path.stem] = settings
        evaluation["comparisons"] = _comparisons(evaluation, run, recipe.evaluation.confidence)
        run.write_evaluation(evaluation)
        parts.forget()
        context.observer.result(benchmark, when, strategy, decoding, entry[decoding])


def is_complete(recipe: Recipe, run: RunDirectory) -> bool:
    """Whether evaluation.json has all that the recipe of a trained run asks for."""
    evaluation = run.evaluation()
    times = ["before"] * recipe.evaluation.before + ["after"] * recipe.evaluation.after
    return all(
        evaluation["settings"].get(run.graded_path(benchmark, when, strategy, decoding).stem)
        == _settings(recipe, benchmark, decoding)
        for when in times
        for benchmark, strategy, decoding in _measurements(recipe)
    )


class Parts:
    """What a measurement has so far, in a file of its own: its settings, then a line per part.

    Args:
        path: Of the graded replies once they are complete.
        settings: What they depend on; parts that were made with others are dropped.
    """

    def __init__(self, run: RunDirectory, path: Path, settings: Mapping[str, Any]) -> None:
        self._run, self._path = run, path.with_name(path.name + PARTS)
        self._lines = run.read_graded(self._path)
        if not self._lines or self._lines[0] != settings:
            self._lines = [dict(settings)]
        run.write_graded(self._path, self._lines)  # without a line that was cut off

    @property
    def graded(self) -> list[dict[str, Any]]:
        """All graded replies so far, in order."""
        return [graded for part in self._lines[1:] for graded in part["graded"]]

    @property
    def seconds(self) -> float:
        """What they took, interruptions aside."""
        return float(sum(part["seconds"] for part in self._lines[1:]))

    @property
    def peak_bytes(self) -> int:
        """The most memory that any of them took."""
        return max((part["peak_memory_bytes"] for part in self._lines[1:]), default=0)

    def add(self, part: Part) -> None:
        """Keep a part."""
        self._lines.append({"seconds": part.seconds, "peak_memory_bytes": part.peak_bytes, "graded": part.graded})
        self._run.append_graded(self._path, self._lines[-1])

    def forget(self) -> None:
        """The measurement is complete and kept elsewhere."""
        self._path.unlink()


def forget(when: str, run: RunDirectory) -> None:
    """Drop all figures of this time, as they are about to become those of another adapter."""
    evaluation = run.evaluation()
    for by_when in evaluation["benchmarks"].values():
        by_when.pop(when, None)
    for name in [name for name in evaluation["settings"] if name.split(".")[-3] == when]:
        del evaluation["settings"][name]
    evaluation["comparisons"] = {}
    if evaluation["benchmarks"]:
        run.write_evaluation(evaluation)
    for unfinished in run.graded_path("*", when, "*", "*").parent.glob(f"*.{when}.*{PARTS}"):
        unfinished.unlink()


def _measurements(recipe: Recipe) -> Iterator[tuple[str, str, str]]:
    section = recipe.evaluation
    decodings = ["greedy"] * section.greedy + ["sampled"] * (section.num_samples > 0)
    for benchmark in section.benchmarks:
        for strategy in section.strategies:
            for decoding in decodings:
                yield benchmark, strategy, decoding


def _entry(evaluation: Evaluation, benchmark: str, when: str, strategy: str) -> dict[str, Any]:
    entry: dict[str, Any] = evaluation["benchmarks"].setdefault(benchmark, {}).setdefault(when, {})
    result: dict[str, Any] = entry.setdefault(strategy, {})
    return result


def _settings(recipe: Recipe, benchmark: str, decoding: str) -> dict[str, Any]:
    """What a figure depends on besides the policy; only figures with the same settings are compared."""
    section = recipe.evaluation
    sampled = {"num_samples": section.num_samples, "temperature": section.temperature, "top_p": section.top_p}
    return {
        "source": section.benchmarks[benchmark].model_dump(),
        "max_tokens": [recipe.rollout.openings.max_tokens, recipe.rollout.futures.max_tokens],
        "stop": [recipe.rollout.openings.stop, recipe.rollout.futures.stop],
        "confidence": section.confidence,
        **(sampled if decoding == "sampled" else {}),
    }


def _comparisons(evaluation: Evaluation, run: RunDirectory, confidence: float) -> dict[str, Any]:
    """Paired comparisons of after with before, wherever both were measured in the same way."""
    comparisons: dict[str, Any] = {}
    for benchmark, by_when in evaluation["benchmarks"].items():
        for strategy, by_decoding in by_when.get("after", {}).items():
            for decoding in by_decoding:
                paths = [run.graded_path(benchmark, when, strategy, decoding) for when in ("before", "after")]
                settings = [evaluation["settings"].get(path.stem) for path in paths]
                if settings[0] is not None and settings[0] == settings[1]:
                    before, after = (outcomes_of(run.read_graded(path)) for path in paths)
                    found = intervals.paired_difference(before, after, confidence)
                    comparisons.setdefault(benchmark, {}).setdefault(strategy, {})[decoding] = found
    return comparisons
