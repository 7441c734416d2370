"""All problems that a recipe names, as the model can take them."""

from dataclasses import dataclass
from types import MappingProxyType

from motif_lite.context import RunContext
from motif_lite.nouns import Problem
from motif_lite.observer import Observer
from motif_lite.recipe.data import SourceSection
from motif_lite.recipe.schema import Recipe
from motif_lite.rollout.strategies import Strategy, strategy_of
from motif_lite.tasks import fitting as limits
from motif_lite.tasks import held_out as held_out_problems
from motif_lite.tasks import sources

Benchmarks = dict[str, list[Problem]]
"""Problems by the name of the benchmark."""


@dataclass(frozen=True, slots=True)
class Problems:
    """All problems that a recipe names.

    Attributes:
        train: Empty where nothing is trained.
        held_out: Measured along the way.
    """

    train: list[Problem]
    held_out: list[Problem]
    benchmarks: Benchmarks


def read(recipe: Recipe, observer: Observer, *, trains: bool) -> Problems:
    """All problems; what is measured is not trained on.

    Raises:
        DataError: A source cannot be read, or holds too few to train on.
    """
    section, held_out = recipe.evaluation, list[Problem]()

    def load(
        source: SourceSection, role: sources.Role, measured: held_out_problems.Measured = MappingProxyType({})
    ) -> list[Problem]:
        observer.phase("reading", f"problems of {source.source}")
        return sources.load(
            source, role=role, seed=recipe.seed, code=recipe.code, held_out=measured, on_progress=observer.advance,
            by_level=role == "train" and recipe.data.curriculum is not None,
        )  # fmt: skip

    benchmarks = {name: load(source, "test") for name, source in section.benchmarks.items()}
    measured = {f"evaluation.benchmarks.{name}": problems for name, problems in benchmarks.items()}
    if section.validation is not None:
        is_generated = sources.is_generated(section.validation.source)
        held_out = load(section.validation, "validation", measured if is_generated else {})
    for name, problems in benchmarks.items():
        held_out_problems.require_apart(held_out, problems, benchmark=name)
    measured = {held_out_problems.VALIDATION: held_out} | measured
    train = load(recipe.data.as_source(), "train", measured) if trains else []
    _require_enough(recipe, train, levels=train)
    return Problems(train, held_out, benchmarks)


def fitting(context: RunContext, problems: Problems) -> Problems:
    """The problems without those whose prompt is longer than the recipe allows.

    Raises:
        DataError: Too few are left to train on.
    """
    recipe, strategy = context.recipe, strategy_of(context.recipe, context.recipe.rollout.strategy)
    train = _short_enough(context, strategy, problems.train, recipe.data.train)
    _require_enough(recipe, train, levels=problems.train)
    benchmarks = fitting_benchmarks(context, problems.benchmarks)
    return Problems(train, _short_enough(context, strategy, problems.held_out, "evaluation.validation"), benchmarks)


def fitting_benchmarks(context: RunContext, benchmarks: Benchmarks) -> Benchmarks:
    """Drop what does not fit the longest system prompt, so that all strategies share their problems."""
    recipe, policy = context.recipe, context.policy
    chosen = [strategy_of(recipe, name) for name in recipe.evaluation.strategies]
    strategy = max(chosen, key=lambda strategy: len(policy.render(strategy.first_messages(Problem("", "", "")))))
    return {name: _short_enough(context, strategy, problems, name) for name, problems in benchmarks.items()}


def _require_enough(recipe: Recipe, train: list[Problem], *, levels: list[Problem]) -> None:
    """Each level that these problems have needs problems for a step."""
    for level in sorted({problem.level for problem in levels}):
        name = recipe.data.train if recipe.data.curriculum is None else f"{recipe.data.train}, level {level}"
        mine = [problem for problem in train if problem.level == level]
        limits.require_enough(mine, recipe.training.problems_per_step, source=name)


def _short_enough(context: RunContext, strategy: Strategy, problems: list[Problem], source: str) -> list[Problem]:
    if not problems:
        return []
    recipe, policy, observer = context.recipe, context.policy, context.observer
    observer.phase("reading", f"prompts of {source}")

    def num_tokens(problem: Problem) -> int:
        return policy.count_tokens(policy.render(strategy.first_messages(problem)))

    limit = recipe.rollout.max_prompt_tokens
    return limits.drop_long(problems, num_tokens, limit, source=source, on_progress=observer.advance)
