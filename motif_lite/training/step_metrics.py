"""What a training step is summed up in: a line of metrics.jsonl, and its lines of rollouts.jsonl.

``accuracy_by_round[i]`` is the share of trajectories whose reply in round i+1, or whose text up to there where rounds
are chunks of one, holds the right boxed answer.
``round_correct[i]`` is, where the data set can tell, the share of rounds i+1 begun from true progress that end in
true progress or the right answer. It shows later rounds drifting while first rounds stay good. Openings count equally
in both, however many futures each has.

``distinct_progress`` is the number of distinct texts that a group's openings pass on, divided by their number: below
one, openings have the same value, and adaptive futures are shared (`allocation`).

``answers_kept`` is ``round_correct`` of the later rounds for any data set, where only right answers count as true:
of rounds begun from the right boxed answer, the share that ends with it.

``undone_answers`` counts replies whose answer equals the gold one but leaves an operation to do, so that they score 0.

``grader_failures`` counts replies whose comparison reached the grader's own limits, or broke it; ``grader_losses``
those whose comparison was killed or starved each time it was made; both score 0. ``grader_retries`` counts comparisons
that were made again, because something else than their limits had ended them. These two say something of the machine.

``groups_on_form_alone`` is the share of groups whose answers are right equally often, opening by opening (with credit
chain or tree: trajectory by trajectory), and that are trained all the same, on what other rewards give. With
``scale_rewards = "group"`` such a group has the strength of one that is split over its answers.

``sampling_mismatch`` is the mean distance between the log-probabilities of one opening's tokens as it was drawn and as
the trainer computes them, at temperature 1 (`mismatch`).

``importance_weight`` is the mean weight of the tokens of the update, and ``importance_cut`` the share of them whose
weight is the largest one, because their ratio is above it (`importance`).

``groups_refilled`` counts further groups that were rolled out in place of those without signal, and ``unused_tokens``
the tokens of as many groups that are not trained. Tokens, prompts, their means, ``broken_form`` and ``cut_off`` are of
all groups; all other figures, and rollouts.jsonl, are of those that are trained.

``reward_noise`` holds two variances of ``future_accuracy``, means over groups: ``between_openings``, that of a group's
openings, and ``sampling``, the part of it that the sampling of their futures explains; see the function of that name.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TypedDict

from motif_lite.credits.assignment import TrainedRound, differ
from motif_lite.credits.table import credit_of
from motif_lite.evaluation import intervals
from motif_lite.grading.answers import is_beyond_judging, is_lost, is_undone
from motif_lite.nouns import Opening, ReadProgress, Reply, Trajectory, Turn
from motif_lite.recipe.schema import Recipe
from motif_lite.rollout.counting import generated_tokens, later_replies, num_tokens
from motif_lite.rollout.reply_format import has_soft_format, progress
from motif_lite.rollout.rewards import gold_and_replies, is_solved
from motif_lite.rollout.rollouts import Rollouts
from motif_lite.rollout.totals import have_signal, left_out, total_rewards
from motif_lite.runs.records import Interval, StepMetrics
from motif_lite.runs.rollout_lines import RolloutFuture, RolloutLine, RolloutTurn
from motif_lite.training.reward_noise import reward_noise


@dataclass(frozen=True, slots=True)
class PerformedStep:
    """A training step that is done, as it is summed up.

    Attributes:
        rewards: By name, one per opening.
        trained: Rounds that the step trained, where those are not just the openings.
        seconds: By phase, as are the bytes.
        peak_bytes: Where they could be measured.
        planned_bytes: As the memory plan foresaw them.
        trainer_logs: What TRL logged; None for what is not a number.
        share_done: Of the run's budget, with this step.
        num_retries: Comparisons of answers that had to be made again.
        branches: By opening, the round after which its futures part; None where that is the first one of all.
        unused: Openings with their futures that others have taken the place of.
        visits: By problem, whether its group had signal, None where it was left out; nothing where none ever is.
    """

    number: int
    rollouts: Rollouts
    rewards: Mapping[str, list[float]]
    trained: Sequence[TrainedRound] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_bytes: Mapping[str, int] = field(default_factory=dict)
    planned_bytes: Mapping[str, int] = field(default_factory=dict)
    trainer_logs: Mapping[str, float | None] = field(default_factory=dict)
    update_skipped: bool = False
    share_done: float = 0.0
    num_retries: int = 0
    branches: Sequence[int] | None = None
    unused: tuple[Opening, ...] = ()
    visits: Mapping[str, bool | None] = field(default_factory=dict)

    @property
    def openings(self) -> tuple[Opening, ...]:
        """With their futures."""
        return self.rollouts.openings


def summarize(recipe: Recipe, done: PerformedStep, read_progress: ReadProgress | None) -> StepMetrics:
    """One line of metrics.jsonl.

    Args:
        read_progress: Reads progress notes, where the data set can.
    """
    generated = (*done.openings, *done.unused)
    openings, later = [opening.turn.reply for opening in generated], later_replies(generated)
    totals, group = total_rewards(recipe, done.rewards), recipe.rollout.num_openings
    has_signal = _have_signal(recipe, done)
    num_rounds = recipe.rollout.num_rounds if recipe.rollout.strategy != "single_round" else 1
    accuracy_by_round = _accuracy_by_round(done.openings, num_rounds)
    tokens = generated_tokens(generated)
    return StepMetrics(
        step=done.number,
        reward=fmean(totals),
        rewards={name: fmean(values) for name, values in done.rewards.items()},
        accuracy=accuracy_by_round[-1],
        accuracy_by_round=accuracy_by_round,
        answers_kept=round_correct(done.openings, lambda *_: None, num_rounds)[1:],
        groups_without_signal=fmean(not each for each in has_signal),
        groups_on_form_alone=fmean(
            trains and equal for trains, equal in zip(has_signal, _equal_in_accuracy(done, group), strict=True)
        ),
        undone_answers=sum(is_undone(*pair) for pair in gold_and_replies(done.openings)),
        grader_failures=sum(is_beyond_judging(*pair) for pair in gold_and_replies(done.openings)),
        grader_losses=sum(is_lost(*pair) for pair in gold_and_replies(done.openings)),
        grader_retries=done.num_retries,
        broken_form=1 - fmean(has_soft_format(reply.text) for reply in openings),
        cut_off={"openings": _share_cut_off(openings), "futures": _share_cut_off(later)},
        progress_cut=done.rollouts.num_cut,
        futures_per_opening=fmean(len(opening.futures) for opening in done.openings),
        distinct_progress=_distinct_progress(done.openings, group),
        reward_noise=reward_noise(done.openings, group, resets=done.branches is not None),
        mean_tokens={"openings": tokens["openings"] / len(openings), "futures": tokens["futures"] / max(1, len(later))},
        prompts={"openings": len(openings), "futures": len(later)},
        tokens=tokens,
        trained_tokens=_trained_tokens(recipe, done),
        groups_refilled=len(done.unused) // group,
        unused_tokens=sum(generated_tokens(done.unused).values()),
        visits=dict(done.visits) or None,
        seconds=dict(done.seconds),
        tokens_per_second={p: tokens[p] / done.seconds[p] for p in tokens if done.seconds.get(p)},
        peak_memory_bytes=dict(done.peak_bytes),
        planned_memory_bytes=dict(done.planned_bytes),
        rewards_by_round=_rewards_by_round(done.trained, num_rounds) if done.trained else None,
        round_correct=round_correct(done.openings, read_progress, num_rounds) if read_progress else None,
        loss=done.trainer_logs.get("loss"),
        grad_norm=done.trainer_logs.get("grad_norm"),
        learning_rate=done.trainer_logs.get("learning_rate"),
        entropy=done.trainer_logs.get("entropy"),
        sampling_mismatch=done.trainer_logs.get("sampling_mismatch"),
        importance_weight=done.trainer_logs.get("importance_weight"),
        importance_cut=done.trainer_logs.get("importance_cut"),
        clip_ratio=_clip_ratio(recipe, done),
        update_skipped=done.update_skipped,
        level=None if recipe.data.curriculum is None else done.openings[0].problem.level,
        share_done=done.share_done,
    )


def lines(recipe: Recipe, done: PerformedStep) -> Iterator[RolloutLine]:
    """Lines of rollouts.jsonl, one per opening.

    Where more than the openings is trained, each reply has its own rewards, advantage and weight.

    ``accuracy`` and its ``interval`` are over ``futures_used``: the opening's own, which follow, and those that it
    shares, which stand on the lines of the openings that they were sampled for. A single round has none of the three.
    """
    trained = {(each.opening, each.future, each.index): each for each in done.trained}
    for index, opening in enumerate(done.openings):
        yield RolloutLine(
            step=done.number,
            problem=opening.problem.id,
            question=opening.problem.question,
            gold=opening.problem.gold,
            opening=_turn(opening.turn, trained.get((index, None, 0))),
            rewards={name: values[index] for name, values in done.rewards.items()},
            branch=done.branches[index] if done.branches else 1,
            **({} if recipe.rollout.strategy == "single_round" else _value(opening, recipe.evaluation.confidence)),
            futures=tuple(
                RolloutFuture(
                    rounds=tuple(
                        _turn(turn, trained.get((index, number, later), trained.get((index, None, later))))
                        for later, turn in enumerate(future.turns[1:], start=1)
                    ),
                    correct=is_solved(future),
                )
                for number, future in enumerate(opening.futures)
            ),
        )


def round_correct(
    openings: Sequence[Opening], read_progress: ReadProgress, num_rounds: int
) -> tuple[float | None, ...]:
    """By round, the share that comes out right among those that went in right; None where none went in."""
    went_in, came_out = [0.0] * num_rounds, [0.0] * num_rounds
    for opening in openings:
        for future in opening.futures:
            for index in range(len(future.turns)):
                went_in[index] += 1 / len(opening.futures)
                if not _is_true(future.after(index + 1), read_progress):
                    break
                came_out[index] += 1 / len(opening.futures)
    return tuple(right / all_ if all_ else None for right, all_ in zip(came_out, went_in, strict=True))


def _is_true(so_far: Trajectory, read_progress: ReadProgress) -> bool:
    return is_solved(so_far) or read_progress(so_far.problem.question, progress(so_far.final.text)) is not None


def _accuracy_by_round(openings: Sequence[Opening], num_rounds: int) -> tuple[float, ...]:
    """Trajectories that have ended keep the answer that they ended with."""
    return tuple(
        fmean(fmean(is_solved(future.after(end)) for future in opening.futures) for opening in openings)
        for end in range(1, num_rounds + 1)
    )


class _Value(TypedDict, total=False):
    futures_used: int
    accuracy: float
    interval: Interval


def _value(opening: Opening, confidence: float) -> _Value:
    solved = {str(index): [is_solved(future)] for index, future in enumerate(opening.evidence)}
    return {
        "futures_used": len(solved),
        "accuracy": intervals.accuracy(solved),
        "interval": intervals.interval(solved, confidence),  # given the opening, futures are independent
    }


def _distinct_progress(openings: Sequence[Opening], group: int) -> float:
    passed_on = [progress(opening.turn.reply.text) for opening in openings]
    groups = [passed_on[start : start + group] for start in range(0, len(passed_on), group)]
    return sum(len(set(each)) for each in groups) / len(passed_on)


def _equal_in_accuracy(done: PerformedStep, group: int) -> list[bool]:
    """Of each group, whether all that is compared in it is right equally often."""
    if not done.trained or all(each.future is None for each in done.trained):
        shares = [fmean(map(is_solved, opening.evidence)) for opening in done.openings]
        return [not differ(shares[start : start + group]) for start in range(0, len(shares), group)]
    groups = [done.openings[start : start + group] for start in range(0, len(done.openings), group)]
    return [len({is_solved(future) for opening in each for future in opening.futures}) == 1 for each in groups]


def _clip_ratio(recipe: Recipe, done: PerformedStep) -> float | None:
    """TRL's; but where ratios are of replies, it also divides by rows that stand for none, which are never clipped."""
    found = done.trainer_logs.get("clip_ratio/region_mean", done.trainer_logs.get("cispo_clip_ratio"))
    if found is None or recipe.training.importance_sampling_level != "sequence":
        return found
    return found * credit_of(recipe).trained_per_step(recipe) / max(1, len(_trained_replies(recipe, done)))


def _share_cut_off(replies: list[Reply]) -> float:
    return fmean(reply.finish == "length" for reply in replies) if replies else 0.0


def _turn(turn: Turn, trained: TrainedRound | None) -> RolloutTurn:
    reply = turn.reply
    return RolloutTurn(
        prompt=turn.prompt,
        reply=reply.text,
        tokens=reply.num_tokens,
        finish=reply.finish,
        rewards=trained.rewards if trained else None,
        advantage=trained.advantage if trained else None,
        weight=trained.weight if trained else None,
    )


def _trained_tokens(recipe: Recipe, done: PerformedStep) -> int:
    """Each as often as there are updates."""
    return recipe.training.num_iterations * num_tokens(_trained_replies(recipe, done))


def _trained_replies(recipe: Recipe, done: PerformedStep) -> list[Reply]:
    if done.trained:
        return [each.turn.reply for each in done.trained if each.weight]
    replies = [opening.turn.reply for opening in done.openings]
    out = left_out(recipe, [reply.finish for reply in replies])
    return [reply for reply, is_out in zip(replies, out, strict=True) if not is_out]


def _rewards_by_round(trained: Sequence[TrainedRound], num_rounds: int) -> dict[str, tuple[float | None, ...]]:
    """By name, the mean over the rounds that were trained: of first ones, of second ones, and so on; None of none."""
    by_round = [[each for each in trained if each.index == index and each.weight] for index in range(num_rounds)]
    return {
        name: tuple(fmean(each.rewards[name] for each in those) if those else None for those in by_round)
        for name in trained[0].rewards
    }


def _have_signal(recipe: Recipe, done: PerformedStep) -> list[bool]:
    """Of each group, whether anything of it is trained."""
    if done.trained:
        return _have_advantages(done.trained, recipe.rollout.num_openings)
    return have_signal(recipe, done.rewards, [opening.turn.reply.finish for opening in done.openings])


def _have_advantages(trained: Sequence[TrainedRound], group: int) -> list[bool]:
    """Of each group, whether any of its rounds has an advantage."""
    found: dict[int, bool] = {}
    for each in trained:
        number = each.opening // group
        found[number] = found.get(number, False) or each.advantage * each.weight != 0
    return [has_one for _, has_one in sorted(found.items())]
