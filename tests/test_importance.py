"""Replies that another engine or precision has drawn are weighed; test_oracle.py has what is ascended then."""

from collections import defaultdict
from collections.abc import Callable
from math import inf, log, nan
from pathlib import Path
from typing import Any

import pytest
import torch

from motif_lite.errors import RecipeError
from motif_lite.nouns import Reply
from motif_lite.policies.engine import engine
from motif_lite.recipe.schema import Recipe
from motif_lite.training.importance import ImportanceWeights, drawn_logprobs
from tests.test_training import Training

MakeRecipe = Callable[..., Recipe]


def batch(**changes: torch.Tensor) -> dict[str, Any]:
    """Two tokens that were drawn with probabilities 0.4 and 0.8, in a reply that is rewarded."""
    drawn = torch.tensor([[log(0.4), log(0.8)]])
    plain = {"advantages": torch.tensor([2.0]), "completion_mask": torch.ones(1, 2, dtype=torch.long)}
    return plain | {"sampling_per_token_logps": drawn} | changes


TO_THE_POLICY = torch.tensor([[log(0.5), log(0.2)]])


def test_two_tokens_are_weighed_as_by_hand() -> None:
    """0.5 / 0.4 = 1.25 is cut to 1.2, and 0.2 / 0.8 = 0.25 is not."""
    metrics = defaultdict[str, list[float]](list)
    weights, given = ImportanceWeights(1.2, metrics), batch()
    piece = weights.begin(given)
    weights.weigh(TO_THE_POLICY)
    torch.testing.assert_close(piece["advantages"], 2 * torch.tensor([[1.2, 0.25]]))
    assert given["advantages"].tolist() == [2.0], "a later update finds what this one found"
    assert metrics == {"importance_weight": [pytest.approx(0.725)], "importance_cut": [0.5]}
    weights.weigh(TO_THE_POLICY)
    torch.testing.assert_close(piece["advantages"], 2 * torch.tensor([[1.2, 0.25]]))
    assert len(metrics["importance_weight"]) == 1, "a forward pass outside of a loss weighs nothing"


def test_in_later_updates_the_weights_are_those_of_the_policy_before_the_first() -> None:
    weights = ImportanceWeights(1.2, defaultdict(list))
    piece = weights.begin(batch(old_per_token_logps=TO_THE_POLICY))
    weights.weigh(torch.tensor([[log(0.9), log(0.9)]]))
    torch.testing.assert_close(piece["advantages"], 2 * torch.tensor([[1.2, 0.25]]))


def test_what_is_no_token_and_what_nobody_knows_is_not_weighed_and_does_not_count() -> None:
    metrics = defaultdict[str, list[float]](list)
    weights = ImportanceWeights(3.0, metrics)
    drawn = torch.tensor([[log(0.4), 0.0], [nan, -inf], [-inf, -inf]])
    mask = torch.tensor([[1, 0], [1, 0], [1, 1]])
    piece = weights.begin(batch(advantages=torch.ones(3), sampling_per_token_logps=drawn, completion_mask=mask))
    weights.weigh(torch.tensor([[log(0.6), -99.0], [-1.0, -1.0], [-1.0, -inf]]))
    torch.testing.assert_close(piece["advantages"], torch.tensor([[1.5, 1.0], [1.0, 1.0], [3.0, 1.0]]))
    assert metrics == {"importance_weight": [pytest.approx(2.25)], "importance_cut": [0.5]}


def test_nothing_is_handed_on_or_changed_without_a_cap(tiny_recipe: MakeRecipe) -> None:
    replies, given = [Reply("ab", 2, "stop", (1, 2), (-0.5, -1.5))], batch()
    assert drawn_logprobs(tiny_recipe().training, replies, 1) is None
    told = drawn_logprobs(tiny_recipe("training.importance_cap=2").training, replies, 1)
    assert told == [[-0.5, -1.5], [pytest.approx(nan, nan_ok=True)]]
    weights = ImportanceWeights(None, {})
    assert weights.begin(given) is given
    weights.weigh(TO_THE_POLICY)
    assert given["advantages"].tolist() == [2.0]


ROUNDED = (
    'rollout.weights="16bit"', "training.importance_cap=1.0005", "rollout.openings.max_tokens=12",
    "rollout.futures.max_tokens=12", "training.learning_rate=0.002", 'training.lr_schedule="constant"',
    "training.warmup_fraction=0.0",
)  # fmt: skip
"""Replies are drawn by products in bfloat16, and trained in 32 bits."""


@pytest.mark.parametrize("credit", ["opening", "reset"])
def test_a_run_in_two_precisions_is_weighed_and_a_resumed_one_equals_it(
    tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path, credit: str
) -> None:
    recipe = tiny_recipe(*ROUNDED, "training.num_iterations=2", f'training.credit="{credit}"')
    whole = Training(recipe, tiny_folder, tmp_path / "whole")
    assert whole.train()
    for line in whole.run.metrics():
        assert line.importance_weight is not None
        assert line.importance_cut is not None
        assert 0.98 < line.importance_weight < 1
        assert 0.01 < line.importance_cut < 0.99
    whole.require_same_when_resumed(tmp_path / "run", 1)


@pytest.mark.parametrize("changes", [("data.refill=1",), ('training.credit="chain"',)])
def test_replies_of_a_models_own_generate_are_weighed_where_they_are_sampled_here(
    tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: list[str]
) -> None:
    """In one precision, so with weights of 1."""
    monkeypatch.setattr(engine, "supports", lambda model: False)
    more = ("training.max_steps=1", "training.importance_cap=1.5", 'rollout.weights="32bit"')
    training = Training(tiny_recipe(*ROUNDED, *more, *changes), tiny_folder, tmp_path)
    assert training.train()
    [line] = training.run.metrics()
    assert line.importance_weight == pytest.approx(1, abs=1e-4)
    assert line.importance_cut == 0


def test_what_cannot_be_weighed_is_refused_with_the_remedy(tiny_recipe: MakeRecipe) -> None:
    cap = "training.importance_cap=2"
    with pytest.raises(RecipeError, match=r"temperature 1; set rollout\.openings\.temperature = 1\.0 instead of 0\.7"):
        tiny_recipe(cap, "rollout.openings.temperature=0.7")
    with pytest.raises(RecipeError, match=r"importance_cap = 2\.0 is not tested with .*\"transformers\", or leave it"):
        tiny_recipe(cap, 'model.backend="unsloth"')
    with pytest.raises(RecipeError, match=r"training\.importance_cap.*greater than or equal to 1"):
        tiny_recipe("training.importance_cap=0.5")
    with pytest.raises(RecipeError, match=r"training\.importance_cap"):
        tiny_recipe("training.vllm_importance_sampling_cap=2.0")
