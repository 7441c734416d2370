"""Checks of a recipe that need no torch, GPU or download."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from motif_lite.credits.table import CREDITS
from motif_lite.errors import DataError, RecipeError
from motif_lite.loggers.table import LOGGERS
from motif_lite.planning import cards, hardware, planner, shapes, speeds
from motif_lite.planning.projection import Evaluated
from motif_lite.policies.backends import BACKENDS, require_device
from motif_lite.recipe import loading
from motif_lite.recipe.data import SourceSection
from motif_lite.recipe.schema import Recipe
from motif_lite.recipe.tables import Tables
from motif_lite.rollout.rewards import REWARDS, reward
from motif_lite.rollout.strategies import STRATEGIES, strategy_of
from motif_lite.tasks import sources

TABLES: Tables = {
    "backend": BACKENDS, "strategy": STRATEGIES, "reward": REWARDS, "credit": CREDITS, "logger": LOGGERS,
}  # fmt: skip


def check(path: Path | None, changes: Sequence[str]) -> Recipe:
    """Read and validate a recipe and what it names, as far as that needs no download and no torch.

    Args:
        path: The recipe file.
        changes: ``key.path=value`` as given to ``--set``.

    Raises:
        MotifError: Something in it is wrong.
    """
    if path is None:
        raise RecipeError("no recipe given; use --recipe FILE, e.g. recipes/tiny_cpu.toml, which runs on any machine")
    recipe = loading.load(path, changes, TABLES)
    check_names(recipe)
    return recipe


def check_names(recipe: Recipe) -> None:
    """Whether what a recipe names is there; Python files of the user's own are imported.

    Raises:
        DataError: A source of problems is unknown or missing.
        CodeError: A file of the user's own cannot be used.
    """
    for key, role, source in _sources(recipe):
        by_level = role == "train" and recipe.data.curriculum is not None
        try:
            sources.check(source, role=role, code=recipe.code, by_level=by_level)
        except DataError as error:
            raise DataError(f"{key}: {error}") from None
    for name in recipe.rewards:
        reward(recipe, name)
    for name in {recipe.rollout.strategy, *recipe.evaluation.strategies}:
        strategy_of(recipe, name)


def require_in_process(recipe: Recipe, what: str) -> None:
    """Refuse, for what needs the model in this process, one that a server has.

    Args:
        what: For the message: ``training``, or an option.

    Raises:
        RecipeError: It is a server's.
    """
    if recipe.model.backend == "server":
        raise RecipeError(
            f"{what} needs the model in this process, and model.backend = 'server' leaves it to "
            f"{recipe.model.url}; set model.backend to 'transformers' or 'unsloth' and leave model.url out. A served "
            f"model can be evaluated (--evaluate-only), scored with and asked (solve); its server loads its adapter"
        )


def _sources(recipe: Recipe) -> Iterator[tuple[str, sources.Role, SourceSection]]:
    """All sources of problems with the keys that name them."""
    yield "data.train", "train", recipe.data.as_source()
    if recipe.evaluation.validation is not None:
        yield "evaluation.validation.source", "validation", recipe.evaluation.validation
    for name, source in recipe.evaluation.benchmarks.items():
        yield f"evaluation.benchmarks.{name}.source", "test", source


def memory_plan(
    path: Path | None, changes: Sequence[str], vram: float | None, card: str | None = None, processes: int = 1
) -> planner.Plan:
    """What a recipe needs on this machine, on a card of ``vram`` GiB or on one of that name; needs no torch or weights.

    Without a GPU it takes four seconds, in which the processor's speed is measured.

    Args:
        processes: That share the run, each with such a card or a part of the processor.

    Raises:
        MotifError: The recipe is wrong, the model's shape cannot be had, or the card is unknown.
    """
    recipe = check(path, changes)
    require_in_process(recipe, "--plan")
    require_device(recipe)
    if vram is not None and not 0 < vram <= 100_000:
        raise RecipeError(f"--vram {vram:g}: give the card's memory in GiB, e.g. --vram 24")
    if card is not None:
        machine = hardware.machine_of(recipe, cards.named(card))
    else:
        machine = hardware.machine_for(recipe, None if vram is not None else hardware.gpu_by_driver(recipe), vram=vram)
    machine = hardware.shared(machine, processes)
    speed = speeds.shared(speeds.measured(), machine, processes) if machine.device == "cpu" else None
    return planner.make(recipe, shapes.of(recipe.model.name), machine, speed=speed, processes=processes)


@dataclass(frozen=True, slots=True)
class NumProblems:
    """How many problems a recipe names; None stands for what a download would tell.

    Attributes:
        benchmarks: By name.
        validation: None as well where the recipe asks for none.
        train: Those that are selected from.
    """

    benchmarks: Mapping[str, int | None]
    validation: int | None
    train: int | None


def expected_problems(recipe: Recipe) -> NumProblems:
    """As far as they are known before anything is read."""
    section, validation = recipe.evaluation, recipe.evaluation.validation
    return NumProblems(
        {name: sources.expected_problems(source, "test") for name, source in section.benchmarks.items()},
        None if validation is None else sources.expected_problems(validation, "validation"),
        sources.expected_problems(recipe.data.as_source(), "train"),
    )


def evaluated(recipe: Recipe, number: NumProblems) -> Iterator[Evaluated]:
    """All that a run measures, with how often; what has no known number of problems is left out."""
    section, select, warm_start = recipe.evaluation, recipe.data.select, recipe.warm_start
    samples, whens = section.greedy + section.num_samples, ["before"] * section.before + ["after"] * section.after
    for strategy in section.strategies:
        num_rounds = strategy_of(recipe, strategy).num_rounds
        for name in section.benchmarks if whens else ():
            if (num_problems := number.benchmarks[name]) is not None:
                label = f"{name}, {strategy}, {' and '.join(whens)}"
                yield Evaluated(label, samples * num_problems, num_rounds, len(whens))
    num_rounds = strategy_of(recipe, recipe.rollout.strategy).num_rounds
    for name in section.benchmarks if section.memorisation is not None else ():
        if (num_problems := number.benchmarks[name]) is not None:  # the rest of a question counts as a further round
            yield Evaluated(f"{name}, probe of memorisation", num_problems, num_rounds + 1, 1)
    if section.validation is not None and number.validation is not None:
        yield Evaluated("validation", number.validation, num_rounds, section.validation.num_marks + 1)
    if warm_start is not None:
        asked = min(warm_start.num_problems, number.train or warm_start.num_problems)
        yield Evaluated("solutions of the warm start", warm_start.num_samples * asked, 1, 1, takes_budget=True)
    if select is not None and number.train is not None:
        num_trajectories = select.num_samples * number.train
        yield Evaluated("selection of problems", num_trajectories, num_rounds, 1, takes_budget=True)


def not_counted(recipe: Recipe, number: NumProblems) -> Iterator[str]:
    """What is measured and has no known number of problems."""
    yield from (name for name, num_problems in number.benchmarks.items() if num_problems is None)
    if recipe.evaluation.validation is not None and number.validation is None:
        yield "validation"
    if recipe.data.select is not None and number.train is None:
        yield "training problems, for their selection"
