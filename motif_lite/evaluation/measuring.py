"""Thinking problems through and grading the replies, in parts that can be kept one by one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from motif_lite.context import RunContext
from motif_lite.evaluation import intervals
from motif_lite.nouns import OnProgress, Problem, Sampling, Trajectory
from motif_lite.observer import Observer
from motif_lite.recipe.schema import decided
from motif_lite.rollout.rewards import is_solved
from motif_lite.rollout.rollouts import OnRound, derive_seed
from motif_lite.rollout.strategies import strategy_of
from motif_lite.rollout.thinking import think

CALLS_PER_PART = 2
"""Problems in a part, in widths of the policy: its rows are refilled as replies end, so more waste less at the end."""


@dataclass(frozen=True, slots=True)
class Part:
    """Some graded replies of a measurement, with what they took."""

    graded: list[dict[str, Any]]
    seconds: float
    peak_bytes: int


def measure_parts(
    context: RunContext, problems: Sequence[Problem], benchmark: str, strategy: str, decoding: str, done: int
) -> Iterator[Part]:
    """Think through and grade all problems after the first ``done``, which were thought through before."""
    from motif_lite.planning.metering import PhaseMeter

    recipe, policy, observer = context.recipe, context.policy, context.observer
    section = recipe.evaluation
    temperature, top_p = (section.temperature, section.top_p) if decoding == "sampled" else (0.0, 1.0)
    openings, futures = (
        Sampling(max_tokens=limits.max_tokens, stop=limits.stop, temperature=temperature, top_p=top_p)
        for limits in (recipe.rollout.openings, recipe.rollout.futures)
    )
    size = CALLS_PER_PART * decided(recipe.rollout.max_width)
    meter = PhaseMeter(policy.device_type)
    for start in range(done, len(problems), size):
        meter.start("evaluation")
        trajectories = think(
            policy,
            strategy_of(recipe, strategy),
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


def summary(graded: list[dict[str, Any]], confidence: float) -> dict[str, Any]:
    """Counts, accuracy, interval and cost of graded replies."""
    outcomes = outcomes_of(graded)
    return {
        "num_problems": len(outcomes),
        "num_samples": len(graded),
        "num_correct": sum(line["correct"] for line in graded),
        "accuracy": intervals.accuracy(outcomes),
        "interval": list(intervals.interval(outcomes, confidence)),
        "prompts": sum(len(line["replies"]) for line in graded),
        "generated_tokens": sum(line["tokens"] for line in graded),
    }


def outcomes_of(graded: list[dict[str, Any]]) -> dict[str, list[bool]]:
    """By problem, whether each of its samples was right."""
    outcomes: dict[str, list[bool]] = {}
    for line in graded:
        outcomes.setdefault(line["problem"], []).append(line["correct"])
    return outcomes
