"""From a question to an answer: the recipe's strategy, prompts and limits, one trajectory per sample, and a vote."""

import time
from dataclasses import dataclass

from motif_lite.errors import DataError, RecipeError
from motif_lite.evaluation.voting import Vote, votes
from motif_lite.nouns import Problem, Sampling, Trajectory
from motif_lite.policies.protocol import Policy
from motif_lite.recipe.keys import changed
from motif_lite.recipe.schema import Recipe
from motif_lite.recipe.strategy_rules import LEAST_PARALLEL_ROUNDS
from motif_lite.rollout.rollouts import derive_seed
from motif_lite.rollout.strategies import strategy_of
from motif_lite.rollout.thinking import write_openings
from motif_lite.solving.listening import ListeningPolicy
from motif_lite.solving.watcher import Watcher

MOST_ROUNDS = 100
"""As `rollout.num_rounds`."""
MOST_SAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class Effort:
    """What a question is given.

    Attributes:
        num_rounds: None: the recipe's.
        num_samples: Trajectories, which vote.
        temperature: None: greedy decoding for one sample, the recipe's ``evaluation.temperature`` for several, and for
            the drafts of ``parallel``.
    """

    num_rounds: int | None = None
    num_samples: int = 1
    temperature: float | None = None


@dataclass(frozen=True, slots=True)
class Solution:
    """What was written for a question.

    Attributes:
        trajectories: One per sample.
        votes: On the final answers, most first.
        num_cut: How many times progress was cut to fit the context.
    """

    question: str
    trajectories: tuple[Trajectory, ...]
    votes: tuple[Vote, ...]
    num_cut: int
    seconds: float

    @property
    def answer(self) -> str | None:
        """The answer with most votes; None where no final reply has a box."""
        return self.votes[0].answer if self.votes else None

    @property
    def share(self) -> float:
        """Of all samples, those that gave the answer."""
        return self.votes[0].count / len(self.trajectories) if self.votes else 0.0

    @property
    def num_tokens(self) -> int:
        """Generated tokens, over all samples and rounds."""
        return sum(trajectory.num_tokens for trajectory in self.trajectories)


def require_rounds(effort: Effort, recipe: Recipe) -> None:
    """Refuse rounds that the recipe's strategy does not take.

    Raises:
        RecipeError: It has one round, or needs more.
        CodeError: It is the user's own, and has another number.
    """
    recipe = with_rounds_of(effort, recipe)
    strategy_of(recipe, recipe.rollout.strategy)


def with_rounds_of(effort: Effort, recipe: Recipe) -> Recipe:
    """The recipe with the rounds that are asked for.

    Raises:
        RecipeError: Its strategy has one round, or needs more.
    """
    if effort.num_rounds is None:
        return recipe
    if recipe.rollout.strategy == "parallel" and effort.num_rounds < LEAST_PARALLEL_ROUNDS:
        raise RecipeError(
            f"rollout.strategy = 'parallel' has two drafts, a round that distils them and a last one; ask for at least "
            f"{LEAST_PARALLEL_ROUNDS} rounds"
        )
    if recipe.rollout.strategy == "single_round":
        raise RecipeError("rollout.strategy = 'single_round' has one round; take a recipe of several for more")
    return changed(recipe, {"rollout.num_rounds": effort.num_rounds})


def require_text(question: str) -> None:
    """Refuse a question that no model could be asked.

    Raises:
        DataError: It is empty, or not Unicode text.
    """
    if not question.strip():
        raise DataError("the question is empty")
    if not _is_unicode(question):
        raise DataError(
            "the question contains bytes that are not UTF-8, or half of a character (a lone surrogate); write it in "
            "UTF-8"
        )


class Solver:
    """Answers questions with a policy as it is.

    Args:
        recipe: That the policy was loaded with; its seed makes answers reproducible.
    """

    def __init__(self, recipe: Recipe, policy: Policy) -> None:
        self.recipe, self.policy = recipe, policy

    def remark(self, effort: Effort) -> str | None:
        """A line about what the model was not trained for; None if there is nothing to say."""
        usual = self.recipe.rollout.num_rounds
        if effort.num_rounds in (None, usual):
            return None
        return f"{effort.num_rounds} rounds; the recipe has {usual}"

    def check(self, question: str, effort: Effort) -> None:
        """Refuse a question that cannot be answered, before anything is generated.

        Raises:
            RecipeError: The strategy does not take so many rounds.
            DataError: The question is empty, too long, or not Unicode text.
        """
        recipe = with_rounds_of(effort, self.recipe)
        require_text(question)
        first = strategy_of(recipe, recipe.rollout.strategy).first_messages(_problem(question))
        num_tokens = self.policy.count_tokens(self.policy.render(first))
        limits = recipe.rollout
        notice = 0 if limits.strategy == "single_round" else limits.notice_tokens
        room = self.policy.context_tokens - max(limits.openings.max_tokens, limits.futures.max_tokens + notice)
        if num_tokens > room:
            raise DataError(
                f"the question has {num_tokens} tokens with its prompt, and model.max_seq_length = "
                f"{self.policy.context_tokens} leaves room for {room}; shorten it, or raise model.max_seq_length"
            )

    def solve(self, question: str, effort: Effort, watcher: Watcher, *, number: int) -> Solution:
        """Answer a question that `check` has passed.

        Args:
            number: Of the question in its session: asked again under another number, it gets other samples.
        """
        started = time.monotonic()
        recipe = with_rounds_of(effort, self.recipe)
        strategy, policy = strategy_of(recipe, recipe.rollout.strategy), ListeningPolicy(self.policy, watcher)
        openings, futures = (self._sampling(each, effort) for each in (recipe.rollout.openings, recipe.rollout.futures))
        seed, problems = derive_seed(recipe.seed, "solve", number), [_problem(question)] * effort.num_samples
        first = write_openings(policy, strategy, problems, openings, seed=seed, on_round=policy.on_round)
        found = strategy.continue_openings(policy, first, 1, futures, seed=seed, on_round=policy.on_round)
        trajectories = tuple(opening.futures[0] for opening in found.openings)
        counted = votes([trajectory.final.text for trajectory in trajectories], watcher.voting)
        return Solution(question, trajectories, tuple(counted), found.num_cut, time.monotonic() - started)

    def _sampling(self, limits: Sampling, effort: Effort) -> Sampling:
        """A round's limits with the temperature that is asked for."""
        section = self.recipe.evaluation
        is_greedy = effort.num_samples == 1 and self.recipe.rollout.strategy != "parallel"  # whose drafts would be one
        usual = 0.0 if is_greedy else section.temperature
        temperature = usual if effort.temperature is None else effort.temperature
        top_p = section.top_p if temperature else 1.0
        return Sampling(max_tokens=limits.max_tokens, stop=limits.stop, temperature=temperature, top_p=top_p)


def _is_unicode(text: str) -> bool:
    """Whether a tokenizer takes a text: Python reads undecodable bytes of an argument as lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _problem(question: str) -> Problem:
    return Problem("question", question, "")
