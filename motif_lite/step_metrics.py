"""What a training step is summed up in: a line of metrics.jsonl, and its lines of rollouts.jsonl.

``accuracy_by_round[i]`` is the share of trajectories whose reply in round i+1 holds the right boxed answer.
``round_correct[i]`` is, where the data set can tell, the share of rounds i+1 begun from true progress that end in
true progress or the right answer. It shows later rounds drifting while first rounds stay good. Openings count alike
in both, however many futures each has.

``distinct_progress`` is the number of distinct texts that a group's openings pass on, divided by their number: below
one, openings have the same value, and adaptive futures are shared (`allocation`).

``answers_kept`` is ``round_correct`` of the later rounds for any data set, where only right answers count as true:
of rounds begun from the right boxed answer, the share that ends with it.

``reward_noise`` holds two variances of ``future_accuracy``, means over groups: ``between_openings``, that of a group's
openings, and ``sampling``, the part of it that the sampling of their futures explains; see the function of that name.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean, pstdev, variance
from typing import Any

from motif_lite import statistics
from motif_lite.answers import is_beyond_judging, is_correct
from motif_lite.recipe import Recipe
from motif_lite.replies import has_soft_format, progress
from motif_lite.rewards import answer_score, is_solved
from motif_lite.rollout import Rollouts
from motif_lite.types import Opening, Reply, Trajectory

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
    accuracy_by_round = _accuracy_by_round(rollouts.openings)
    tokens = {"openings": _num_tokens(openings), "futures": _num_tokens(later)}
    metrics: dict[str, Any] = {
        "step": step,
        "reward": fmean(totals),
        "rewards": {name: fmean(values) for name, values in rewards.items()},
        "accuracy": accuracy_by_round[-1],
        "accuracy_by_round": accuracy_by_round,
        "answers_kept": round_correct(rollouts.openings, lambda *_: None)[1:],
        "groups_without_signal": _share_without_spread(totals, recipe.rollout.num_openings),
        "grader_failures": _num_beyond_judging(rollouts),
        "broken_form": 1 - fmean(has_soft_format(reply.text) for reply in openings),
        "cut_off": {"openings": _share_cut_off(openings), "futures": _share_cut_off(later)},
        "progress_cut": rollouts.num_cut,
        "futures_per_opening": len(futures) / len(openings),
        "distinct_progress": _distinct_progress(rollouts.openings, recipe.rollout.num_openings),
        "reward_noise": reward_noise(rollouts.openings, recipe.rollout.num_openings),
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
        metrics["round_correct"] = round_correct(rollouts.openings, steps_done)
    return metrics | {key: trainer_logs[key] for key in _TRAINER_KEYS if key in trainer_logs}


def lines(
    step: int, recipe: Recipe, rollouts: Rollouts, rewards: Mapping[str, list[float]]
) -> Iterator[dict[str, Any]]:
    """Lines of rollouts.jsonl, one per opening.

    ``accuracy`` and its ``interval`` are over ``futures_used``: the opening's own, which follow, and those that it
    shares, which stand on the lines of the openings that they were sampled for. A single round has none of the three.
    """
    for index, opening in enumerate(rollouts.openings):
        yield {
            "step": step,
            "problem": opening.problem.id,
            "question": opening.problem.question,
            "gold": opening.problem.gold,
            "opening": _turn(opening.turn.prompt, opening.turn.reply),
            "rewards": {name: values[index] for name, values in rewards.items()},
            **_value(opening, recipe.evaluation.confidence),
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


def round_correct(openings: Sequence[Opening], steps_done: StepsDone) -> list[float | None]:
    """By round, the share that comes out right among those that went in right; None where none went in."""
    num_rounds = len(openings[0].futures[0].turns)
    went_in, came_out = [0.0] * num_rounds, [0.0] * num_rounds
    for opening in openings:
        for future in opening.futures:
            for index, turn in enumerate(future.turns):
                went_in[index] += 1 / len(opening.futures)
                if not _is_true(future, turn.reply, steps_done):
                    break
                came_out[index] += 1 / len(opening.futures)
    return [right / all_ if all_ else None for right, all_ in zip(came_out, went_in, strict=True)]


def reward_noise(openings: Sequence[Opening], group: int) -> dict[str, float] | None:
    """How much of the variance between the openings of a group is noise, from groups with two futures of each or more.

    Openings whose values are the means of the same futures (`allocation`) differ by nothing. With m openings, m_c of
    which share n_c futures with scores of sample variance v_c, noise alone would give a sample variance between them of

        sum over c of  v_c / n_c * m_c * (m - m_c) / (m * (m - 1))

    on average; where nothing is shared that is the mean of v_c / n_c. Both parts are unbiased.

    Returns:
        ``{"between_openings", "sampling"}``; None where no group has enough futures, e.g. with one of each.
    """
    groups = [openings[start : start + group] for start in range(0, len(openings), group)]
    known = [each for each in groups if len(each) > 1 and all(len(opening.evidence) > 1 for opening in each)]
    if not known:
        return None
    return {
        "between_openings": fmean(variance(fmean(_scores(opening)) for opening in each) for each in known),
        "sampling": fmean(map(_sampling_variance, known)),
    }


def _sampling_variance(group: Sequence[Opening]) -> float:
    size = len(group)
    evidence = [frozenset(map(id, opening.evidence)) for opening in group]
    scores = dict(zip(evidence, map(_scores, group), strict=True))
    parts = (
        variance(scores[each]) / len(scores[each]) * sharing * (size - sharing)
        for each, sharing in Counter(evidence).items()
    )
    return sum(parts) / (size * (size - 1))


def _scores(opening: Opening) -> list[float]:
    return [answer_score(opening.problem.gold, future.final.text) for future in opening.evidence]


def _is_true(trajectory: Trajectory, reply: Reply, steps_done: StepsDone) -> bool:
    problem = trajectory.problem
    return is_correct(problem.gold, reply.text) or steps_done(problem.question, progress(reply.text)) is not None


def _accuracy_by_round(openings: Sequence[Opening]) -> list[float]:
    return [
        fmean(
            fmean(is_correct(opening.problem.gold, future.turns[index].reply.text) for future in opening.futures)
            for opening in openings
        )
        for index in range(len(openings[0].futures[0].turns))
    ]


def _num_beyond_judging(rollouts: Rollouts) -> int:
    """Replies whose boxed answer ran into the grader's deadline or memory limit, or broke it; they score 0."""
    return sum(
        is_beyond_judging(opening.problem.gold, reply.text)
        for opening in rollouts.openings
        for reply in (opening.turn.reply, *(turn.reply for future in opening.futures for turn in future.turns[1:]))
    )


def _value(opening: Opening, confidence: float) -> dict[str, Any]:
    if len(opening.futures[0].turns) == 1:
        return {}  # the opening is all there is to know
    solved = {str(index): [is_solved(future)] for index, future in enumerate(opening.evidence)}
    return {
        "futures_used": len(solved),
        "accuracy": statistics.accuracy(solved),
        "interval": list(statistics.interval(solved, confidence)),  # given the opening, futures are independent
    }


def _distinct_progress(openings: Sequence[Opening], group: int) -> float:
    passed_on = [progress(opening.turn.reply.text) for opening in openings]
    groups = [passed_on[start : start + group] for start in range(0, len(passed_on), group)]
    return sum(len(set(each)) for each in groups) / len(passed_on)


def _share_without_spread(totals: list[float], group: int) -> float:
    groups = [totals[start : start + group] for start in range(0, len(totals), group)]
    return fmean(pstdev(values) < 1e-9 for values in groups)


def _share_cut_off(replies: list[Reply]) -> float:
    return fmean(reply.finish == "length" for reply in replies) if replies else 0.0


def _num_tokens(replies: list[Reply]) -> int:
    return sum(reply.num_tokens for reply in replies)


def _turn(prompt: str, reply: Reply) -> dict[str, Any]:
    return {"prompt": prompt, "reply": reply.text, "tokens": reply.num_tokens, "finish": reply.finish}
