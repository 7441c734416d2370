"""Thinking problems through and grading the replies, in parts that can be kept one by one."""

from collections.abc import Iterator, Sequence

from motif_lite.context import RunContext
from motif_lite.evaluation import intervals
from motif_lite.grading.answers import grade, is_lost, is_undone
from motif_lite.nouns import OnTokens, Problem, Sampling, Trajectory
from motif_lite.observer import Observer
from motif_lite.recipe.data import SourceSection
from motif_lite.recipe.schema import Recipe, decided
from motif_lite.recipe.strategy_keys import keys_of
from motif_lite.rollout.rewards import is_solved
from motif_lite.rollout.rollouts import OnRound, derive_seed
from motif_lite.rollout.strategies import strategy_of
from motif_lite.rollout.thinking import think
from motif_lite.runs.records import Accuracy, GradedReply, MeasuredPart, Settings, Subject

CALLS_PER_PART = 2
"""Problems in a part, in widths of the policy: its rows are refilled as replies end, so more waste less at the end."""


def measure_parts(
    context: RunContext, problems: Sequence[Problem], subject: Subject, done: int
) -> Iterator[MeasuredPart]:
    """Think through and grade all problems after the first ``done``, which were thought through before."""
    from motif_lite.planning.metering import PhaseMeter

    recipe, policy, observer = context.recipe, context.policy, context.observer
    section = recipe.evaluation
    temperature, top_p = (section.temperature, section.top_p) if subject.decoding == "sampled" else (0.0, 1.0)
    openings, futures = (
        Sampling(max_tokens=limits.max_tokens, stop=limits.stop, temperature=temperature, top_p=top_p)
        for limits in (recipe.rollout.openings, recipe.rollout.futures)
    )
    size = CALLS_PER_PART * decided(recipe.rollout.max_width) * context.ranks.count
    meter = PhaseMeter(policy.device_type)
    for start in range(done, len(problems), size):
        what = _what(subject, start, size, len(problems))
        meter.start("evaluation")
        trajectories = think(
            policy,
            strategy_of(recipe, subject.strategy),
            problems[start : start + size],
            openings,
            futures,
            seed=derive_seed(recipe.seed, "evaluation", *subject),
            start=start,
            on_round=announce(observer, what),
        )
        observer.phase("evaluating", f"{what}: grading, {len(trajectories)} replies")
        graded = all_graded(trajectories, observer)
        seconds, peaks = meter.take()
        yield MeasuredPart(seconds=seconds["evaluation"], peak_memory_bytes=peaks.get("evaluation", 0), graded=graded)


def _what(subject: Subject, start: int, size: int, total: int) -> str:
    part = f", from {start} of {total}" if total > size else ""
    return f"{', '.join(subject)}{part}"


def announce(observer: Observer, what: str) -> OnRound:
    """Tells of each round of an evaluation as it begins, and of the tokens that are written in it."""

    def on_round(round_number: int, num_rounds: int, width: int) -> OnTokens:
        observer.phase("evaluating", f"{what}: round {round_number} of {num_rounds}, {width} replies")
        return observer.generating

    return on_round


def all_graded(trajectories: Sequence[Trajectory], observer: Observer) -> tuple[GradedReply, ...]:
    """Their final texts compared with the gold answers; the observer is told how far that has come."""
    finals = [(trajectory.problem.gold, trajectory.final.text) for trajectory in trajectories]
    grade(finals, observer.advance)
    if num_lost := sum(is_lost(*pair) for pair in finals):
        observer.note(
            f"warning: {num_lost} of {len(finals)} replies count as wrong without a verdict: their comparisons were "
            f"killed or got no processor time. Free memory or processors before the next evaluation"
        )
    return tuple(map(_graded, trajectories))


def _graded(trajectory: Trajectory) -> GradedReply:
    return GradedReply(
        problem=trajectory.problem.id,
        question=trajectory.problem.question,
        gold=trajectory.problem.gold,
        correct=is_solved(trajectory),
        undone=is_undone(trajectory.problem.gold, trajectory.final.text),
        tokens=trajectory.num_tokens,
        replies=tuple(turn.reply.text for turn in trajectory.turns),
        finish=tuple(turn.reply.finish for turn in trajectory.turns),
        is_one_text=trajectory.is_one_text,
    )


def summary(graded: Sequence[GradedReply], confidence: float) -> Accuracy:
    """Counts, accuracy, interval and cost of graded replies."""
    outcomes = outcomes_of(graded)
    return Accuracy(
        num_problems=len(outcomes),
        num_samples=len(graded),
        num_correct=sum(each.correct for each in graded),
        num_undone=_num_undone(graded),
        accuracy=intervals.accuracy(outcomes),
        interval=intervals.interval(outcomes, confidence),
        prompts=sum(len(each.replies) for each in graded),
        generated_tokens=sum(each.tokens for each in graded),
    )


def _num_undone(graded: Sequence[GradedReply]) -> int | None:
    """None if any reply is of a version that did not count them."""
    counted = [each.undone for each in graded if each.undone is not None]
    return sum(counted) if len(counted) == len(graded) else None


def settings_of(recipe: Recipe, subject: Subject, source: SourceSection) -> Settings:
    """What the replies of a measurement depend on, the policy aside."""
    section, limits = recipe.evaluation, (recipe.rollout.openings, recipe.rollout.futures)
    is_sampled = subject.decoding == "sampled"
    return Settings(
        source=source.model_dump(mode="json", exclude_none=True),
        max_tokens=(limits[0].max_tokens, limits[1].max_tokens),
        stop=(tuple(limits[0].stop), tuple(limits[1].stop)),
        confidence=section.confidence,
        num_samples=section.num_samples if is_sampled else None,
        temperature=section.temperature if is_sampled else None,
        top_p=section.top_p if is_sampled else None,
        prompts=recipe.rollout.model_dump(mode="json", include={"system_prompt", *keys_of(subject.strategy)}),
    )


def outcomes_of(graded: Sequence[GradedReply]) -> dict[str, list[bool]]:
    """By problem, whether each of its samples was right."""
    outcomes: dict[str, list[bool]] = {}
    for each in graded:
        outcomes.setdefault(each.problem, []).append(each.correct)
    return outcomes
