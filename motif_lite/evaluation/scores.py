"""The reward sanity check: hand-written openings, scored as training would score them.

Futures come from the recipe's own strategy, prompts and sampling, those of all openings in one wide call per round; the
rewards are the recipe's. An opening that a person thinks better should earn more. Where it does not, the reward, the
prompts or the policy are at fault, and it costs a minute to know instead of a night.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from motif_lite.errors import DataError
from motif_lite.evaluation import intervals
from motif_lite.grading.answers import grade, is_correct, last_boxed
from motif_lite.nouns import OnTokens, Opening, Problem, Reply, Turn
from motif_lite.observer import Observer
from motif_lite.policies.protocol import Policy
from motif_lite.recipe.schema import Recipe
from motif_lite.rollout import counting, totals
from motif_lite.rollout.rewards import earned, gold_and_replies, is_solved
from motif_lite.rollout.rollouts import derive_seed
from motif_lite.rollout.strategies import Strategy, strategy_of


@dataclass(frozen=True, slots=True)
class HandWritten:
    """An opening as a person wrote it.

    Attributes:
        label: For people; where none is given, its number in the row.
    """

    problem: Problem
    label: str
    text: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What some futures of an opening have in their last box; None: they have no box."""

    text: str | None
    count: int
    is_right: bool


@dataclass(frozen=True, slots=True)
class Scored:
    """What training would make of an opening.

    Attributes:
        accuracy: Share of its futures that are right, boxed inside the answer tags or not.
        interval: Of the accuracy; given the opening, futures are independent.
        rewards: By name, in the recipe's order, without weights.
        total: Their weighted sum, which training compares.
        answers: Most common first.
    """

    written: HandWritten
    accuracy: float
    interval: tuple[float, float]
    rewards: dict[str, float]
    total: float
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Scores:
    """All openings of a file, in its order, and what their futures cost."""

    openings: tuple[Scored, ...]
    num_futures: int
    num_tokens: int
    seconds: float

    def ranked(self) -> dict[Problem, list[Scored]]:
        """By problem, the opening with the highest total first; then the more accurate, then in the file's order."""
        by_problem: dict[Problem, list[Scored]] = {}
        for scored in self.openings:
            by_problem.setdefault(scored.written.problem, []).append(scored)
        for group in by_problem.values():
            group.sort(key=lambda scored: (scored.total, scored.accuracy), reverse=True)
        return by_problem


def score(
    recipe: Recipe, policy: Policy, written: Sequence[HandWritten], num_futures: int, observer: Observer
) -> Scores:
    """Roll futures of all openings together and reward them.

    Raises:
        DataError: A question is longer than training would take.
        RecipeError: A reward fails.
    """
    started = time.monotonic()
    strategy = strategy_of(recipe, recipe.rollout.strategy)
    openings = [(each.problem, _turn(recipe, policy, strategy, each)) for each in written]
    _tell_of_long_ones(recipe, written, [turn for _, turn in openings], observer)

    def on_round(round_number: int, num_rounds: int, width: int) -> OnTokens:
        observer.phase("scoring", f"round {round_number} of {num_rounds}, {width} replies")
        return observer.generating

    rollouts = strategy.continue_openings(
        policy,
        openings,
        num_futures,
        recipe.rollout.futures,
        seed=derive_seed(recipe.seed, "score"),
        on_round=on_round,
    )
    observer.phase("grading", f"{len(openings)} openings")
    grade(gold_and_replies(rollouts.openings), observer.advance)
    scored = tuple(_scored(recipe, *pair) for pair in zip(written, rollouts.openings, strict=True))
    num_tokens = counting.generated_tokens(rollouts.openings)["futures"]
    return Scores(scored, num_futures, num_tokens, time.monotonic() - started)


def _turn(recipe: Recipe, policy: Policy, strategy: Strategy, written: HandWritten) -> Turn:
    """The opening as if the policy had just written it."""
    prompt = policy.render(strategy.first_messages(written.problem))
    num_tokens, limit = policy.count_tokens(prompt), recipe.rollout.max_prompt_tokens
    if num_tokens > limit:
        raise DataError(
            f"{written.problem.id}: its prompt has {num_tokens} tokens, and training leaves out what is longer than "
            f"rollout.max_prompt_tokens = {limit}; shorten the question, or raise that limit"
        )
    return Turn(prompt, Reply(written.text, policy.count_tokens(written.text), "stop"))


def _tell_of_long_ones(
    recipe: Recipe, written: Sequence[HandWritten], turns: Sequence[Turn], observer: Observer
) -> None:
    """Openings are scored whole, also those that the policy could not have written to their end."""
    limit = recipe.rollout.openings.max_tokens
    lengths = [turn.reply.num_tokens for turn in turns]
    long = [f"{one.problem.id}, {one.label}: {n}" for one, n in zip(written, lengths, strict=True) if n > limit]
    if long:
        observer.note(
            f"note: {len(long)} of {len(written)} openings are longer than rollout.openings.max_tokens = {limit}: the "
            f"policy could not write them in a round ({long[0]} tokens{', ...' if len(long) > 1 else ''})"
        )


def _scored(recipe: Recipe, written: HandWritten, opening: Opening) -> Scored:
    remedy = "fix the reward, or leave it out of the recipe"
    rewards = {
        name: earned(recipe, name, opening, where=f"on {written.problem.id}, {written.label}", remedy=remedy)
        for name in recipe.rewards
    }
    outcomes = {str(index): [is_solved(future)] for index, future in enumerate(opening.futures)}
    return Scored(
        written=written,
        accuracy=intervals.accuracy(outcomes),
        interval=intervals.interval(outcomes, recipe.evaluation.confidence),
        rewards=rewards,
        total=totals.total_reward(recipe, rewards),
        answers=_answers(opening),
    )


def _answers(opening: Opening) -> tuple[Answer, ...]:
    finals = [future.final.text for future in opening.futures]
    boxes = [boxed.text.strip() if (boxed := last_boxed(final)) else None for final in finals]
    reply_with = dict(zip(boxes, finals, strict=True))
    return tuple(
        Answer(text, count, is_correct(opening.problem.gold, reply_with[text]))
        for text, count in Counter(boxes).most_common()
    )
