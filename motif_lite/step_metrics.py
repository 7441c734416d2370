"""What a training step is summed up in: a line of metrics.jsonl, and its lines of rollouts.jsonl.

``accuracy_by_round[i]`` is the share of trajectories whose reply in round i+1 holds the right boxed answer.
``round_correct[i]`` is, where the data set can tell, the share of rounds i+1 begun from true progress that end in
true progress or the right answer. It shows later rounds drifting while first rounds stay good.
"""

from collections.abc import Callable, Iterator, Mapping
from statistics import fmean, pstdev
from typing import Any

from motif_lite.answers import is_beyond_judging, is_correct
from motif_lite.recipe import Recipe
from motif_lite.replies import has_soft_format, progress
from motif_lite.rewards import is_solved
from motif_lite.rollout import Rollouts
from motif_lite.types import Reply, Trajectory

StepsDone = Callable[[str, str], int | None]

_TRAINER_KEYS = ("loss", "grad_norm", "learning_rate", "entropy")


def summarize(
    step: int,
    recipe: Recipe,
    rollouts: Rollouts,
    rewards: Mapping[str, list[float]],
    seconds: Mapping[str, float],
    peak_bytes: Mapping[str, int],
    planned_bytes: Mapping[str, int],
    trainer_logs: Mapping[str, Any],
    steps_done: StepsDone | None,
) -> dict[str, Any]:
    """One line of metrics.jsonl.

    Args:
        rewards: By name, one per opening.
        seconds: By phase.
        peak_bytes: By phase, where it could be measured.
        planned_bytes: By phase, as the memory plan foresaw it.
        trainer_logs: What TRL logged for the step.
        steps_done: Reads progress notes, where the data set can.
    """
    openings = [opening.turn.reply for opening in rollouts.openings]
    futures = [future for opening in rollouts.openings for future in opening.futures]
    later = [turn.reply for future in futures for turn in future.turns[1:]]
    totals = total_rewards(recipe, rewards)
    tokens = {"openings": _num_tokens(openings), "futures": _num_tokens(later)}
    metrics: dict[str, Any] = {
        "step": step,
        "reward": fmean(totals),
        "rewards": {name: fmean(values) for name, values in rewards.items()},
        "accuracy": fmean(map(is_solved, futures)),
        "accuracy_by_round": _accuracy_by_round(futures),
        "groups_without_signal": _share_without_spread(totals, recipe.rollout.num_openings),
        "grader_failures": _num_beyond_judging(rollouts),
        "broken_form": 1 - fmean(has_soft_format(reply.text) for reply in openings),
        "cut_off": {"openings": _share_cut_off(openings), "futures": _share_cut_off(later)},
        "progress_cut": rollouts.num_cut,
        "mean_tokens": {
            "openings": tokens["openings"] / len(openings),
            "futures": tokens["futures"] / max(1, len(later)),
        },
        "tokens": tokens,
        "seconds": dict(seconds),
        "tokens_per_second": {phase: tokens[phase] / seconds[phase] for phase in tokens if seconds.get(phase)},
        "peak_memory_bytes": dict(peak_bytes),
        "planned_memory_bytes": dict(planned_bytes),
    }
    if steps_done is not None:
        metrics["round_correct"] = round_correct(futures, steps_done)
    return metrics | {key: trainer_logs[key] for key in _TRAINER_KEYS if key in trainer_logs}


def lines(step: int, rollouts: Rollouts, rewards: Mapping[str, list[float]]) -> Iterator[dict[str, Any]]:
    """Lines of rollouts.jsonl, one per opening."""
    for index, opening in enumerate(rollouts.openings):
        yield {
            "step": step,
            "problem": opening.problem.id,
            "question": opening.problem.question,
            "gold": opening.problem.gold,
            "opening": _turn(opening.turn.prompt, opening.turn.reply),
            "rewards": {name: values[index] for name, values in rewards.items()},
            "futures": [
                {
                    "rounds": [_turn(turn.prompt, turn.reply) for turn in future.turns[1:]],
                    "correct": is_solved(future),
                }
                for future in opening.futures
            ],
        }


def total_rewards(recipe: Recipe, rewards: Mapping[str, list[float]]) -> list[float]:
    """The weighted sum that advantages are computed from, per opening."""
    return [
        sum(recipe.rewards[name] * value for name, value in zip(rewards, values, strict=True))
        for values in zip(*rewards.values(), strict=True)
    ]


def round_correct(trajectories: list[Trajectory], steps_done: StepsDone) -> list[float | None]:
    """By round, the share that comes out right among those that went in right; None where none went in."""
    num_rounds = len(trajectories[0].turns)
    went_in, came_out = [0] * num_rounds, [0] * num_rounds
    for trajectory in trajectories:
        for index, turn in enumerate(trajectory.turns):
            went_in[index] += 1
            if not _is_true(trajectory, turn.reply, steps_done):
                break
            came_out[index] += 1
    return [right / all_ if all_ else None for right, all_ in zip(came_out, went_in, strict=True)]


def _is_true(trajectory: Trajectory, reply: Reply, steps_done: StepsDone) -> bool:
    problem = trajectory.problem
    return is_correct(problem.gold, reply.text) or steps_done(problem.question, progress(reply.text)) is not None


def _accuracy_by_round(trajectories: list[Trajectory]) -> list[float]:
    return [
        fmean(is_correct(trajectory.problem.gold, trajectory.turns[index].reply.text) for trajectory in trajectories)
        for index in range(len(trajectories[0].turns))
    ]


def _num_beyond_judging(rollouts: Rollouts) -> int:
    """Replies whose boxed answer ran into the grader's deadline or memory limit, or broke it; they score 0."""
    return sum(
        is_beyond_judging(opening.problem.gold, reply.text)
        for opening in rollouts.openings
        for reply in (opening.turn.reply, *(turn.reply for future in opening.futures for turn in future.turns[1:]))
    )


def _share_without_spread(totals: list[float], group: int) -> float:
    groups = [totals[start : start + group] for start in range(0, len(totals), group)]
    return fmean(pstdev(values) < 1e-9 for values in groups)


def _share_cut_off(replies: list[Reply]) -> float:
    return fmean(reply.finish == "length" for reply in replies) if replies else 0.0


def _num_tokens(replies: list[Reply]) -> int:
    return sum(reply.num_tokens for reply in replies)


def _turn(prompt: str, reply: Reply) -> dict[str, Any]:
    return {"prompt": prompt, "reply": reply.text, "tokens": reply.num_tokens, "finish": reply.finish}
