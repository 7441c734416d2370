"""Rewards: pure functions of an opening with its futures. Nothing is generated here.

``future_accuracy`` is the paper's (equation for the reward of a first-round response: the mean over k futures);
the form rewards look at the opening alone. Scales are the reference's (``motif.py``). ``gated_accuracy`` is not in the
paper: it takes the place of all of them. Nor is ``random_accuracy``, a control that says nothing about the task.
"""

import hashlib
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from typing import SupportsFloat, cast

from motif_lite import own_code
from motif_lite.credits.table import credit_of
from motif_lite.errors import MotifError, TrainingError
from motif_lite.grading.answers import is_correct, last_boxed
from motif_lite.nouns import Opening, Problem, Reply, Trajectory, Turn
from motif_lite.recipe.schema import Recipe
from motif_lite.rollout.reply_format import answer_end, answer_start, has_soft_format, has_strict_format, tag_points

_log = logging.getLogger(__name__)

INSIDE_ANSWER = 2.0
ELSEWHERE = 1.0


def answer_score(gold: str, final_reply: str) -> float:
    """2 if the last boxed answer is right and stands inside ``<answer>``, 1 if it is right elsewhere, else 0."""
    if not is_correct(gold, final_reply):
        return 0.0
    return INSIDE_ANSWER if has_final_answer(final_reply) else ELSEWHERE


def has_final_answer(reply: str) -> bool:
    """Whether the last boxed answer stands inside ``<answer>``."""
    boxed = last_boxed(reply)
    return boxed is not None and answer_start(reply) <= boxed.start and boxed.end <= answer_end(reply)


def is_solved(trajectory: Trajectory) -> bool:
    """Whether the final text holds the right boxed answer, inside the tags or not: what accuracy counts."""
    return is_correct(trajectory.problem.gold, trajectory.final.text)


def gold_and_replies(openings: Sequence[Opening]) -> Iterator[tuple[str, str]]:
    """What is said after each round of a step, with the gold answer; a future that openings share is there once."""
    for opening in openings:
        yield opening.problem.gold, opening.turn.reply.text
        later = {
            id(turn): (future, number)
            for future in opening.futures
            for number, turn in enumerate(future.turns[1:], start=2)
        }
        yield from ((opening.problem.gold, future.after(number).final.text) for future, number in later.values())


def future_accuracy(opening: Opening) -> float:
    """Mean score of the final replies of the opening's futures, and of those that it shares."""
    scores = [answer_score(opening.problem.gold, future.final.text) for future in opening.evidence]
    return sum(scores) / len(scores)


def gated_accuracy(opening: Opening) -> float:
    """`future_accuracy` if the reply begins with both sections in order, else 0: form as a gate."""
    return future_accuracy(opening) if has_soft_format(opening.turn.reply.text) else 0.0


def random_accuracy(opening: Opening) -> float:
    """`future_accuracy` as if a fair coin judged each trajectory: 2 or 0, the same for all of its rounds.

    The coin is a digest of what the trajectory says, so a resumed run finds it again. Trajectories that say the same
    have the same coin.
    """
    scores = [INSIDE_ANSWER * _coin(future) for future in opening.evidence]
    return sum(scores) / len(scores)


def _coin(trajectory: Trajectory) -> int:
    said = [trajectory.problem.id, trajectory.problem.question, *(turn.reply.text for turn in trajectory.turns)]
    return hashlib.sha256("\0".join(said).encode("utf-8", "surrogatepass")).digest()[0] & 1


def tag_count(opening: Opening) -> float:
    """Up to 0.5 for tags that stand exactly once; see `reply_format.tag_points`."""
    return tag_points(opening.turn.reply.text)


def soft_format(opening: Opening) -> float:
    """0.5 if the reply begins with both sections in order."""
    return 0.5 * has_soft_format(opening.turn.reply.text)


def strict_format(opening: Opening) -> float:
    """0.5 if the reply is the two sections, tags on lines of their own, and nothing else."""
    return 0.5 * has_strict_format(opening.turn.reply.text)


Reward = Callable[[Opening], float]

REWARDS: dict[str, Reward] = {
    "future_accuracy": future_accuracy,
    "tag_count": tag_count,
    "soft_format": soft_format,
    "strict_format": strict_format,
    "gated_accuracy": gated_accuracy,
    "random_accuracy": random_accuracy,
}


def reward(recipe: Recipe, name: str) -> Reward:
    """A reward of a recipe: one of `REWARDS`, or the user's own.

    Raises:
        CodeError: The user's cannot be imported, or takes something else than an opening.
    """
    found: Reward | None = REWARDS.get(name)
    return found or cast(Reward, own_code.find(name, recipe.code, "opening"))


def try_out(recipe: Recipe, problem: Problem) -> None:
    """Call the user's own rewards on empty replies, which a model may write at any time, as training will call them.

    Raises:
        CodeError: One of them cannot be imported.
        TrainingError: One of them fails.
    """
    for name in filter(own_code.is_own, recipe.rewards):
        for futures, why in _futures_to_try(recipe, problem):
            number = "one future" if len(futures) == 1 else f"{len(futures)} futures"
            where = f"when tried on an empty reply to problem {problem.id} with {number}{why}"
            opening = Opening(problem, futures[0].turns[0], futures)
            earned(recipe, name, opening, where=where, remedy="correct it; nothing has been trained yet")


def _futures_to_try(recipe: Recipe, problem: Problem) -> Iterator[tuple[tuple[Trajectory, ...], str]]:
    """What a reward may be asked about, and why it is not all k futures."""
    rollout, turn = recipe.rollout, Turn("", Reply("", 1, "stop"))
    ended, whole = Trajectory(problem, (turn,)), Trajectory(problem, (turn,) * rollout.num_rounds)
    if rollout.strategy == "single_round":
        yield (ended,), ""
        return
    if credit_of(recipe).trains_later_rounds:
        yield (whole,), f', as training.credit = "{recipe.training.credit}" asks about each by itself'
    else:
        yield (whole,) * rollout.num_futures, ""
    if rollout.early_finish:
        yield (ended,), ", as rollout.early_finish ends a trajectory after round 1"


def remedy_for(name: str) -> str:
    """What to do where a reward fails in training; a resume takes a file of the user's own only as it was."""
    if own_code.is_own(name):
        return "fix the reward and start a new run in another --out, as a resume needs the file as it was"
    return "fix the reward, then continue with --resume"


def earned(recipe: Recipe, name: str, opening: Opening, *, where: str, remedy: str) -> float:
    """One reward of one opening; rewards may be the user's own code.

    Args:
        where: This was asked, for the message where it fails.
        remedy: What to do then.

    Raises:
        TrainingError: The reward raises, or what it gives is not a number.
    """
    try:
        value = reward(recipe, name)(opening)
        if not isinstance(value, SupportsFloat):
            raise TypeError(f"it gave {value!r:.60}, which is not a number")
        value = float(value)
        if not math.isfinite(value):
            raise ValueError(f"it gave {value}")
        return value
    except MotifError:
        raise
    except (Exception, SystemExit) as error:
        _log.info("reward %s on the opening %r", name, opening.turn.reply.text, exc_info=True)
        what = own_code.described(error, recipe.code.get(own_code.file_of(name), ""))
        raise TrainingError(f"reward {name}: failed {where} ({what}); {remedy}") from error
