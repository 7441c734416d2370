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

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean, pstdev
from typing import Any

from motif_lite.credits.assignment import TrainedRound
from motif_lite.evaluation import intervals
from motif_lite.grading.answers import is_beyond_judging, is_correct
from motif_lite.nouns import Opening, Reply, Trajectory, Turn
from motif_lite.recipe.schema import Recipe
from motif_lite.rollout.counting import generated_tokens, later_replies, num_tokens
from motif_lite.rollout.reply_format import has_soft_format, progress
from motif_lite.rollout.rewards import is_solved
from motif_lite.rollout.rollouts import Rollouts
from motif_lite.rollout.totals import total_rewards
from motif_lite.training.reward_noise import reward_noise

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
    trained: Sequence[TrainedRound] = (),
) -> dict[str, Any]:
    """One line of metrics.jsonl.

    Args:
        trained: Rounds that the step trained, where those are not just the openings.
        rewards: By name, one per opening.
        seconds: By phase.
        peak_bytes: By phase, where it could be measured.
        planned_bytes: By phase, as the memory plan foresaw it.
        trainer_logs: What TRL logged for the step.
        steps_done: Reads progress notes, where the data set can.
    """
    openings = [opening.turn.reply for opening in rollouts.openings]
    later = later_replies(rollouts.openings)
    totals = total_rewards(recipe, rewards)
    num_rounds = recipe.rollout.num_rounds if recipe.rollout.strategy != "single_round" else 1
    accuracy_by_round = _accuracy_by_round(rollouts.openings, num_rounds)
    tokens = generated_tokens(rollouts.openings)
    updated = [each.turn.reply for each in trained] if trained else openings
    metrics: dict[str, Any] = {
        "step": step,
        "reward": fmean(totals),
        "rewards": {name: fmean(values) for name, values in rewards.items()},
        "accuracy": accuracy_by_round[-1],
        "accuracy_by_round": accuracy_by_round,
        "answers_kept": round_correct(rollouts.openings, lambda *_: None, num_rounds)[1:],
        "groups_without_signal": _share_without_spread(totals, recipe.rollout.num_openings),
        "grader_failures": _num_beyond_judging(rollouts),
        "broken_form": 1 - fmean(has_soft_format(reply.text) for reply in openings),
        "cut_off": {"openings": _share_cut_off(openings), "futures": _share_cut_off(later)},
        "progress_cut": rollouts.num_cut,
        "futures_per_opening": fmean(len(opening.futures) for opening in rollouts.openings),
        "distinct_progress": _distinct_progress(rollouts.openings, recipe.rollout.num_openings),
        "reward_noise": reward_noise(rollouts.openings, recipe.rollout.num_openings),
        "mean_tokens": {
            "openings": tokens["openings"] / len(openings),
            "futures": tokens["futures"] / max(1, len(later)),
        },
        "prompts": {"openings": len(openings), "futures": len(later)},
        "tokens": tokens,
        "trained_tokens": num_tokens(updated),
        "seconds": dict(seconds),
        "tokens_per_second": {phase: tokens[phase] / seconds[phase] for phase in tokens if seconds.get(phase)},
        "peak_memory_bytes": dict(peak_bytes),
        "planned_memory_bytes": dict(planned_bytes),
    }
    if trained:
        metrics["rewards_by_round"] = _rewards_by_round(trained)
        metrics["groups_without_signal"] = _share_without_advantage(trained, recipe.rollout.num_openings)
    if steps_done is not None:
        metrics["round_correct"] = round_correct(rollouts.openings, steps_done, num_rounds)
    return metrics | {key: trainer_logs[key] for key in _TRAINER_KEYS if key in trainer_logs}


def lines(
    step: int,
    recipe: Recipe,
    rollouts: Rollouts,
    rewards: Mapping[str, list[float]],
    trained: Sequence[TrainedRound] = (),
) -> Iterator[dict[str, Any]]:
    """Lines of rollouts.jsonl, one per opening.

    Where ``trained`` names more than the openings, each reply has its own rewards, advantage and weight.

    ``accuracy`` and its ``interval`` are over ``futures_used``: the opening's own, which follow, and those that it
    shares, which stand on the lines of the openings that they were sampled for. A single round has none of the three.
    """
    credited = {(each.opening, each.future, each.index): _credit(each) for each in trained}
    for index, opening in enumerate(rollouts.openings):
        yield {
            "step": step,
            "problem": opening.problem.id,
            "question": opening.problem.question,
            "gold": opening.problem.gold,
            "opening": _turn(opening.turn) | credited.get((index, None, 0), {}),
            "rewards": {name: values[index] for name, values in rewards.items()},
            **({} if recipe.rollout.strategy == "single_round" else _value(opening, recipe.evaluation.confidence)),
            "futures": [
                {
                    "rounds": [
                        _turn(turn) | credited.get((index, number, later), {})
                        for later, turn in enumerate(future.turns[1:], start=1)
                    ],
                    "correct": is_solved(future),
                }
                for number, future in enumerate(opening.futures)
            ],
        }


def round_correct(openings: Sequence[Opening], steps_done: StepsDone, num_rounds: int) -> list[float | None]:
    """By round, the share that comes out right among those that went in right; None where none went in."""
    went_in, came_out = [0.0] * num_rounds, [0.0] * num_rounds
    for opening in openings:
        for future in opening.futures:
            for index, turn in enumerate(future.turns):
                went_in[index] += 1 / len(opening.futures)
                if not _is_true(future, turn.reply, steps_done):
                    break
                came_out[index] += 1 / len(opening.futures)
    return [right / all_ if all_ else None for right, all_ in zip(came_out, went_in, strict=True)]


def _is_true(trajectory: Trajectory, reply: Reply, steps_done: StepsDone) -> bool:
    problem = trajectory.problem
    return is_correct(problem.gold, reply.text) or steps_done(problem.question, progress(reply.text)) is not None


def _accuracy_by_round(openings: Sequence[Opening], num_rounds: int) -> list[float]:
    """Trajectories that have ended keep the answer that they ended with."""
    return [
        fmean(
            fmean(is_correct(opening.problem.gold, future.turns[:end][-1].reply.text) for future in opening.futures)
            for opening in openings
        )
        for end in range(1, num_rounds + 1)
    ]


def _num_beyond_judging(rollouts: Rollouts) -> int:
    """Replies whose boxed answer ran into the grader's deadline or memory limit, or broke it; they score 0."""
    return sum(
        is_beyond_judging(opening.problem.gold, reply.text)
        for opening in rollouts.openings
        for reply in (opening.turn.reply, *(turn.reply for future in opening.futures for turn in future.turns[1:]))
    )


def _value(opening: Opening, confidence: float) -> dict[str, Any]:
    solved = {str(index): [is_solved(future)] for index, future in enumerate(opening.evidence)}
    return {
        "futures_used": len(solved),
        "accuracy": intervals.accuracy(solved),
        "interval": list(intervals.interval(solved, confidence)),  # given the opening, futures are independent
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


def _turn(turn: Turn) -> dict[str, Any]:
    reply = turn.reply
    return {"prompt": turn.prompt, "reply": reply.text, "tokens": reply.num_tokens, "finish": reply.finish}


def _credit(trained: TrainedRound) -> dict[str, Any]:
    return {"rewards": trained.rewards, "advantage": trained.advantage, "weight": trained.weight}


def _rewards_by_round(trained: Sequence[TrainedRound]) -> dict[str, list[float]]:
    """By name, the mean over the rounds that were trained: of first ones, of second ones, and so on."""
    by_round: dict[int, list[TrainedRound]] = {}
    for each in sorted(trained, key=lambda each: each.index):
        by_round.setdefault(each.index, []).append(each)
    return {
        name: [fmean(each.rewards[name] for each in those) for those in by_round.values()]
        for name in trained[0].rewards
    }


def _share_without_advantage(trained: Sequence[TrainedRound], group: int) -> float:
    strongest: dict[int, float] = {}
    for each in trained:
        number = each.opening // group
        strongest[number] = max(strongest.get(number, 0.0), abs(each.advantage))
    return fmean(value < 1e-6 for value in strongest.values())
