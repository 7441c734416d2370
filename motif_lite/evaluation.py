"""Accuracy on held-out problems, with what it cost and how sure it is.

The judge is the reward's (`answers.is_correct`), the prompts and token limits are the training's; only the
temperature differs. Every graded reply is kept, so that runs can be compared problem by problem later.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from motif_lite import statistics
from motif_lite.policies import Policy
from motif_lite.progress import Observer
from motif_lite.recipe import Recipe
from motif_lite.rewards import is_solved
from motif_lite.rollout import STRATEGIES, OnRound, derive_seed, think
from motif_lite.run_dir import Evaluation, RunDirectory
from motif_lite.types import OnProgress, Problem, Sampling, Trajectory


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
        name, settings = run.graded_path(benchmark, when, strategy, decoding), _settings(recipe, benchmark, decoding)
        entry = _entry(evaluation, benchmark, when, strategy)
        if decoding in entry and evaluation["settings"].get(name.stem) == settings:
            continue
        started = time.monotonic()
        trajectories = _think(recipe, policy, benchmarks[benchmark], benchmark, strategy, decoding, observer)
        seconds = time.monotonic() - started
        graded = [_graded(trajectory) for trajectory in trajectories]
        run.write_graded(name, graded)
        entry[decoding] = _summary(graded, seconds, recipe.evaluation.confidence)
        evaluation["settings"][name.stem] = settings
        evaluation["comparisons"] = _comparisons(evaluation, run, recipe.evaluation.confidence)
        run.write_evaluation(evaluation)
        observer.result(benchmark, when, strategy, decoding, entry[decoding])


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


def _think(
    recipe: Recipe,
    policy: Policy,
    problems: Sequence[Problem],
    benchmark: str,
    strategy: str,
    decoding: str,
    observer: Observer,
) -> list[Trajectory]:
    section = recipe.evaluation
    repeated = list(problems) * (section.num_samples if decoding == "sampled" else 1)
    temperature, top_p = (section.temperature, section.top_p) if decoding == "sampled" else (0.0, 1.0)
    openings, futures = (
        Sampling(max_tokens=limits.max_tokens, stop=limits.stop, temperature=temperature, top_p=top_p)
        for limits in (recipe.rollout.openings, recipe.rollout.futures)
    )
    return think(
        policy,
        STRATEGIES[strategy](recipe.rollout),
        repeated,
        openings,
        futures,
        seed=derive_seed(recipe.seed, "evaluation", benchmark, strategy, decoding),
        on_round=_announce(observer, f"{benchmark}, {strategy}, {decoding}"),
    )


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


def _summary(graded: list[dict[str, Any]], seconds: float, confidence: float) -> dict[str, Any]:
    outcomes = _outcomes(graded)
    return {
        "num_problems": len(outcomes),
        "num_samples": len(graded),
        "num_correct": sum(line["correct"] for line in graded),
        "accuracy": statistics.accuracy(outcomes),
        "interval": list(statistics.interval(outcomes, confidence)),
        "generated_tokens": sum(line["tokens"] for line in graded),
        "seconds": seconds,
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
