"""A curriculum by pass rate: which level each step has, that a resumed run finds it again, and what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from motif_lite.errors import RecipeError
from motif_lite.jobs import launching
from motif_lite.recipe.data import DataSection
from motif_lite.recipe.schema import Recipe
from motif_lite.training.curriculum import plan_of
from tests.test_training import MakeRecipe, Training

BY_PASS_RATE = {"curriculum": 2, "raise_above": 0.6, "lower_below": 0.3}


def levels_of(accuracies: list[float], hardest: int = 2, **changes: float | None) -> list[int]:
    """Of all steps whose problems are asked for by the time these are done."""
    section = DataSection.model_validate({"train": "reasoning_gym:x"} | BY_PASS_RATE | changes)
    plan = plan_of(section, lambda: accuracies)
    assert plan is not None
    return plan(len(accuracies) + 1, hardest)


@pytest.mark.parametrize(
    ("accuracies", "levels"),
    [
        ([], [0, 0]),
        ([0.7], [0, 0, 0]),  # two steps are looked at
        ([0.7, 0.7], [0, 0, 0, 1]),  # the third was asked for before the second was done
        ([0.7, 0.7, 0.0], [0, 0, 0, 1, 1]),  # the third has the old level, so it does not count for the new one
        ([0.7, 0.7, 0.0, 0.7, 0.5], [0, 0, 0, 1, 1, 1, 2]),  # 0.6 is not below the bound
        ([0.7, 0.7, 0.0, 0.1, 0.1], [0, 0, 0, 1, 1, 1, 0]),
        ([0.7, 0.7, 0.0, 0.1, 0.1, 0.9, 0.7, 0.7], [0, 0, 0, 1, 1, 1, 0, 0, 0, 1]),  # 0.9 is of level 1
        ([0.7, 0.4, 0.9], [0, 0, 0, 0, 1]),  # 0.55 is not enough, then 0.65 is
        ([0.1, 0.1, 0.1], [0, 0, 0, 0, 0]),  # there is none below the first
    ],
)
def test_the_level_follows_the_pass_rate_of_the_last_steps_at_it(accuracies: list[float], levels: list[int]) -> None:
    assert levels_of(accuracies) == levels
    assert levels_of(accuracies + [0.5] * 9)[: len(levels)] == levels, "what comes later changes nothing"


def test_the_hardest_level_stays_and_without_a_lower_bound_none_comes_back() -> None:
    assert levels_of([1.0] * 12)[-4:] == [2] * 4
    assert levels_of([1.0, 1.0] + [0.0] * 6, lower_below=None)[3:] == [1] * 7


def by_pass_rate(recipe: Recipe, **keys: float) -> Recipe:
    """With a curriculum, which a recipe of the tiny task cannot name: its problems have no levels of their own."""
    return recipe.model_copy(update={"data": recipe.data.model_copy(update=keys)})


class ThreeLevels(Training):
    """The tiny task's problems, called levels in turn."""

    def __init__(self, recipe: Recipe, folder: Path, out: Path) -> None:
        super().__init__(recipe, folder, out)
        self.problems = [replace(problem, level=place % 3) for place, problem in enumerate(self.problems)]


def test_a_resumed_run_has_the_levels_of_one_that_was_not_interrupted(
    tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path
) -> None:
    recipe = by_pass_rate(tiny_recipe("training.max_steps=4"), curriculum=1, raise_above=0.3, lower_below=0.25)
    whole = ThreeLevels(recipe, tiny_folder, tmp_path / "whole")
    assert whole.train()
    metrics = whole.run.metrics()
    plan = plan_of(recipe.data, lambda: [line.accuracy for line in metrics])
    assert plan is not None
    assert [line.level for line in metrics] == plan(3, 2)
    assert len({line.level for line in metrics}) > 1, [line.accuracy for line in metrics]
    level_of = {problem.id: problem.level for problem in whole.problems}
    assert all(level_of[line.problem] == metrics[line.step - 1].level for line in whole.run.rollouts())
    whole.require_same_when_resumed(tmp_path / "resumed", 3)


def test_a_run_without_a_curriculum_has_no_level(tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path) -> None:
    training = Training(tiny_recipe("training.max_steps=1"), tiny_folder, tmp_path)
    assert training.train()
    assert [line.level for line in training.run.metrics()] == [None]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["data.raise_above=0.5"], "data.raise_above says when the level of a curriculum rises, and there is none"),
        (["data.curriculum=2", "data.lower_below=0.5"], "data.lower_below = 0.5 needs a larger data.raise_above"),
        (["data.curriculum=2", "data.raise_above=0.5", "data.lower_below=0.5"], "needs a larger data.raise_above"),
        (["data.curriculum=2", "data.raise_above=0.5", "data.refill=2"], "data.refill and data.skip take the problems"),
    ],
)
def test_bounds_without_a_sense_are_refused(tiny_recipe: MakeRecipe, changes: list[str], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        tiny_recipe(*changes)


def test_several_processes_cannot_share_it(tiny_recipe: MakeRecipe) -> None:
    recipe = by_pass_rate(tiny_recipe(), curriculum=2, raise_above=0.5)
    launching.require_shareable(recipe, 2, trains=False, here=False)
    with pytest.raises(RecipeError, match=r"--processes 2: with data\.raise_above the next level follows from metrics"):
        launching.require_shareable(recipe, 2, trains=True, here=False)
