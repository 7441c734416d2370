"""Accuracy on held-out problems, with what it cost and how sure it is.

The judge is the reward's (`answers.is_correct`), the prompts and token limits are the training's; only the
temperature differs. Every graded reply is kept, so that runs can be compared problem by problem later. A measurement
is made in parts, each kept as it is done: one that was interrupted goes on with the part that is missing.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from motif_lite import statistics
from motif_lite.budget import Spent, share_done
from motif_lite.policies import Policy
from motif_lite.progress import Observer
from motif_lite.recipe import Recipe, decided
from motif_lite.rewards import is_solved
from motif_lite.rollout import STRATEGIES, OnRound, derive_seed, think
from motif_lite.run_dir import Evaluation, RunDirectory
from motif_lite.types import OnProgress, Problem, Sampling, Trajectory

_CALLS_PER_PART = 2
"""Problems in a part, in widths of the policy: its rows are refilled as replies end, so more waste less at the end."""

PARTS = ".parts"
"""Ending of the file that holds the parts of a measurement until it is complete."""


def evaluate(
    recipe: Recipe,
    policy: Policy,
    benchmarks: Mapping[str, Sequence[Problem]],
    when: str,
    run: RunDirectory,
    observer: Observer,
) -> None:
    """Measure what the recipe asks for and evaluation.json does not have yet; write each result as it comes.

    Args:
        benchmarks: Problems by benchmark name.
        when: ``before`` or ``after``.
    """
    evaluation = run.evaluation()
    for benchmark, strategy, decoding in _measurements(recipe):
        path, settings = run.graded_path(benchmark, when, strategy, decoding), _settings(recipe, benchmark, decoding)
        entry = _entry(evaluation, benchmark, when, strategy)
        if decoding in entry and evaluation["settings"].get(path.stem) == settings:
            continue
        parts = Parts(run, path, settings | {"width": decided(recipe.rollout.max_width)})
        problems = list(benchmarks[benchmark]) * (recipe.evaluation.num_samples if decoding == "sampled" else 1)
        for part in _parts(recipe, policy, problems, benchmark, strategy, decoding, len(parts.graded), observer):
            parts.add(part)
        run.write_graded(path, parts.graded)
        entry[decoding] = _summary(parts.graded, recipe.evaluation.confidence) | {
            "seconds": parts.seconds,
            "peak_memory_bytes": parts.peak_bytes,
        }
        evaluation["settings"][path.stem] = settings
        evaluation["comparisons"] = _comparisons(evaluation, run, recipe.evaluation.confidence)
        run.write_evaluation(evaluation)
        parts.forget()
        observer.result(benchmark, when, strategy, decoding, entry[decoding])


class Marks:
    """Measurements along the way, on problems that are neither trained on nor in a benchmark.

    Each is a line of validation.jsonl: how far the run had come, the accuracy with its interval, and what measuring it
    took. Random streams are the same at every mark, so that marks differ by the policy alone.

    Args:
        problems: Held-out ones; none where the recipe asks for no marks.
    """

    def __init__(
        self, recipe: Recipe, policy: Policy, problems: Sequence[Problem], run: RunDirectory, observer: Observer
    ) -> None:
        self._recipe, self._policy, self._problems = recipe, policy, problems
        self._run, self._observer = run, observer

    def is_due(self, spent: Spent) -> bool:
        """Whether the run has come past another mark since the last one that was measured."""
        section, marks = self._recipe.evaluation.validation, self._run.marks()
        if section is None or not marks:
            return section is not None
        last = Spent(marks[-1]["step"], marks[-1]["tokens"], marks[-1]["seconds"])
        before, now = (
            math.floor(section.num_marks * share_done(self._recipe.training, each) + 1e-9) for each in (last, spent)
        )
        return now > before

    def measure_if_due(self, spent: Spent) -> None:
        """Measure the policy before its first step, and wherever a mark is due."""
        if self.is_due(spent):
            self._measure(spent)

    def _measure(self, spent: Spent) -> None:
        section = self._recipe.evaluation
        decoding = "sampled" if section.num_samples else "greedy"
        strategy = self._recipe.rollout.strategy
        parts = list(
            _parts(self._recipe, self._policy, self._problems, "validation", strategy, decoding, 0, self._observer)
        )
        mark = {
            "step": spent.steps,
            "tokens": spent.tokens,
            "seconds": spent.seconds,
            **_summary([line for part in parts for line in part.graded], section.confidence),
            "evaluation_seconds": sum(part.seconds for part in parts),
            "peak_memory_bytes": max(part.peak_bytes for part in parts),
        }
        self._run.append_mark(mark)
        self._observer.mark(mark)


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


@dataclass(frozen=True, slots=True)
class Part:
    """Some graded replies of a measurement, with what they took."""

    graded: list[dict[str, Any]]
    seconds: float
    peak_bytes: int


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


def _parts(
    recipe: Recipe,
    policy: Policy,
    problems: Sequence[Problem],
    benchmark: str,
    strategy: str,
    decoding: str,
    done: int,
    observer: Observer,
) -> Iterator[Part]:
    """Think through and grade all problems after the first ``done``, which were thought through before."""
    from motif_lite.metering import PhaseMeter

    section = recipe.evaluation
    temperature, top_p = (section.temperature, section.top_p) if decoding == "sampled" else (0.0, 1.0)
    openings, futures = (
        Sampling(max_tokens=limits.max_tokens, stop=limits.stop, temperature=temperature, top_p=top_p)
        for limits in (recipe.rollout.openings, recipe.rollout.futures)
    )
    size = _CALLS_PER_PART * decided(recipe.rollout.max_width)
    meter = PhaseMeter(policy.device_type)
    for start in range(done, len(problems), size):
        meter.start("evaluation")
        trajectories = think(
            policy,
            STRATEGIES[strategy](recipe.rollout),
            problems[start : start + size],
            openings,
            futures,
            seed=derive_seed(recipe.seed, "evaluation", benchmark, strategy, decoding),
            start=start,
            on_round=_announce(observer, _what(benchmark, strategy, decoding, start, size, len(problems))),
        )
        graded = [_graded(trajectory) for trajectory in trajectories]
        seconds, peaks = meter.take()
        yield Part(graded, seconds["evaluation"], peaks.get("evaluation", 0))


def _what(benchmark: str, strategy: str, decoding: str, start: int, size: int, total: int) -> str:
    part = f", from {start} of {total}" if total > size else ""
    return f"{benchmark}, {strategy}, {decoding}{part}"


def _announce(observer: Observer, what: str) -> OnRound:
    def on_round(round_number: int, num_rounds: int, width: int) -> OnProgress:
        observer.phase("evaluating", f"{what}: round {round_number} of {num_rounds}, {width} replies")
        return observer.advance

    return on_round


def _graded(trajectory: Trajectory) -> dict[str, Any]:
    return {
        "problem": trajectory.problem.id,
        "question": trajectory.problem.question,
        "gold": trajectory.problem.gold,
        "correct": is_solved(trajectory),
        "tokens": trajectory.num_tokens,
        "replies": [turn.reply.text for turn in trajectory.turns],
        "finish": [turn.reply.finish for turn in trajectory.turns],
    }


def _summary(graded: list[dict[str, Any]], confidence: float) -> dict[str, Any]:
    outcomes = _outcomes(graded)
    return {
        "num_problems": len(outcomes),
        "num_samples": len(graded),
        "num_correct": sum(line["correct"] for line in graded),
        "accuracy": statistics.accuracy(outcomes),
        "interval": list(statistics.interval(outcomes, confidence)),
        "prompts": sum(len(line["replies"]) for line in graded),
        "generated_tokens": sum(line["tokens"] for line in graded),
    }


def _outcomes(graded: list[dict[str, Any]]) -> dict[str, list[bool]]:
    outcomes: dict[str, list[bool]] = {}
    for line in graded:
        outcomes.setdefault(line["problem"], []).append(line["correct"])
    return outcomes


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
                    before, after = (_outcomes(run.read_graded(path)) for path in paths)
                    found = statistics.paired_difference(before, after, confidence)
                    comparisons.setdefault(benchmark, {}).setdefault(strategy, {})[decoding] = found
    return comparisons
