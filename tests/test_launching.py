"""Which runs can be shared among processes, and what is said where they cannot."""

import re
import shlex
from pathlib import Path

import pytest

from motif_lite.errors import RecipeError
from motif_lite.jobs import checking, launching

TINY = Path("recipes/tiny_cpu.toml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["training.problems_per_step=4", "training.micro_batch_size=32"],
         "take --processes 1 or 2 or 4, or --set training.problems_per_step=6 --set training.micro_batch_size=24"),
        (["training.problems_per_step=4", "training.micro_batch_size=16"],
         "take --processes 1 or 2 or 4, or --set training.problems_per_step=6"),
        (['training.credit="chain"', "rollout.num_futures=1", "rewards={future_accuracy=1.0}"],
         "or --set training.problems_per_step=9"),
    ],
)  # fmt: skip
def test_a_step_that_can_be_shared_is_a_recipe_and_a_resumed_run_gets_a_number_of_processes(
    changes: list[str], message: str
) -> None:
    recipe = checking.check(TINY, changes)
    with pytest.raises(RecipeError) as refused:
        launching.require_shareable(recipe, 3, trains=True)
    assert message in str(refused.value)
    wanted = [word for word in shlex.split(str(refused.value)) if word.startswith("training.") and "=" in word]
    launching.require_shareable(checking.check(TINY, [*changes, *wanted]), 3, trains=True)

    with pytest.raises(RecipeError) as refused:
        launching.require_shareable(recipe, 3, trains=True, resumes=True)
    [fitting] = re.findall(r"take --processes ([\d or]+)$", str(refused.value))
    for count in fitting.split(" or "):
        launching.require_shareable(recipe, int(count), trains=True, resumes=True)


def test_no_step_of_more_problems_than_there_are_is_advised() -> None:
    recipe = checking.check(TINY, ["data.num_problems=8", "training.problems_per_step=8"])
    with pytest.raises(RecipeError, match=r"take --processes 1 or 2 or 4 or 8$"):
        launching.require_shareable(recipe, 3, trains=True)


def test_a_resumed_run_is_not_told_to_become_another_one() -> None:
    recipe = checking.check(TINY, ['model.device="cuda:1"'])
    with pytest.raises(RecipeError, match=r"names one GPU; leave --processes out$"):
        launching.require_shareable(recipe, 2, trains=True, resumes=True)
