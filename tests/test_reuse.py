"""Several updates on the same rollouts: a step of the run stays a step, and a resume finds all of it again.

What each of the updates is made of is in test_oracle.py.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from motif_lite.errors import RecipeError
from motif_lite.recipe.schema import Recipe
from tests.test_training import Training, spoil, starve

MakeRecipe = Callable[..., Recipe]

SETTINGS = [
    "training.num_iterations=2", "training.max_steps=3", "training.lr_schedule=\"constant\"",
    "training.warmup_fraction=0.0", "training.learning_rate=0.002", "training.epsilon=0.01",
    "training.epsilon_high=0.02", "rollout.futures.max_tokens=12", "rollout.openings.max_tokens=12",
]  # fmt: skip
"""At a rate and within bounds where ratios are clipped from the second step on."""


@pytest.fixture(scope="module", params=["opening", "reset"])
def whole(
    request: pytest.FixtureRequest, tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Training:
    recipe = tiny_recipe(*SETTINGS, f'training.credit="{request.param}"')
    training = Training(recipe, tiny_folder, tmp_path_factory.mktemp("runs") / "whole")
    assert training.train()
    return training


def test_a_step_is_its_rollouts_with_all_their_updates(whole: Training) -> None:
    metrics = whole.run.metrics()
    assert [line.step for line in metrics] == [1, 2, 3]
    assert sorted({line.step for line in whole.run.rollouts()}) == [1, 2, 3]
    for line in metrics:
        turns = [turn for row in whole.run.rollouts() if row.step == line.step for turn in row.turns()]
        trained = [turn for turn in turns if turn.advantage is not None]
        if whole.recipe.training.credit == "opening":
            trained = [row.opening for row in whole.run.rollouts() if row.step == line.step]
        assert line.trained_tokens == 2 * sum(turn.tokens for turn in trained)
    assert {path.name for path in whole.run.checkpoints.iterdir()} <= {f"checkpoint-{step}" for step in (1, 2, 3)}
    assert any(line.clip_ratio for line in metrics)


def test_a_run_killed_between_two_updates_of_a_step_and_resumed_equals_one_that_was_not(
    whole: Training, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dies as the second update of step 2 begins: the step is made again, from the checkpoint before it."""
    from motif_lite.training.callback import StepCallback

    before = StepCallback.on_pre_optimizer_step

    def dying(self: StepCallback, args: Any, state: Any, *others: Any, **named: Any) -> None:
        if state.global_step == 3:
            raise SystemError("killed")
        before(self, args, state, *others, **named)

    with monkeypatch.context() as patch:
        patch.setattr(StepCallback, "on_pre_optimizer_step", dying)
        patch.setattr("motif_lite.training.saving.SHARE", 1e9)  # a checkpoint after every step
        with pytest.raises(SystemError):
            Training(whole.recipe, tiny_folder, tmp_path / "run").train()
    resumed = Training(whole.recipe, tiny_folder, tmp_path / "run")
    assert [line.step for line in resumed.run.metrics()] == [1]
    assert resumed.train()
    resumed.require_same_as(whole)


def test_a_second_update_in_smaller_pieces_has_the_same_gradient(
    whole: Training, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from motif_lite.training.old_logprobs import OldLogprobs

    keep = OldLogprobs.keep
    has_graph: list[bool] = []

    def watched(self: OldLogprobs, piece: Any, logprobs: torch.Tensor) -> None:
        has_graph.append(logprobs.requires_grad)
        keep(self, piece, logprobs)

    monkeypatch.setattr(OldLogprobs, "keep", watched)
    starve(monkeypatch, first_call=2, room_for=3)
    pieces = Training(whole.recipe, tiny_folder, tmp_path / "run")
    assert pieces.train()
    assert any("out of memory in the update" in note for note in pieces.observer.notes)
    one, other = (training.run.metrics()[0] for training in (pieces, whole))
    assert one.loss == pytest.approx(other.loss, rel=1e-3, abs=1e-6)
    assert one.grad_norm == pytest.approx(other.grad_norm, rel=1e-3)
    assert one.clip_ratio == pytest.approx(other.clip_ratio, abs=0.02)
    assert has_graph and not any(has_graph), "a graph that is kept would keep its memory past the update"


def test_a_step_is_skipped_only_if_all_its_updates_are(
    tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second of step 1, and both of step 2."""
    spoil(monkeypatch, {2, 3, 4})
    training = Training(tiny_recipe(*SETTINGS, "training.max_steps=2"), tiny_folder, tmp_path / "run")
    assert training.train()
    metrics = training.run.metrics()
    assert [line.update_skipped for line in metrics] == [False, True]
    assert [(line.loss, line.grad_norm) for line in metrics] == [(None, None)] * 2, "none of the last update"


def test_openings_that_were_cut_off_are_left_out_of_the_update(
    tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path
) -> None:
    """With a limit that all replies reach nothing is trained; with one that some reach, those are not."""
    recipe = tiny_recipe(*SETTINGS, "training.mask_truncated_completions=true", "training.max_steps=1",
                         "rollout.openings.max_tokens=2", "training.weight_decay=0.0")  # fmt: skip
    training = Training(recipe, tiny_folder, tmp_path / "none")
    before = training.adapter()
    assert training.train()
    assert {line.opening.finish for line in training.run.rollouts()} == {"length"}
    assert training.run.metrics()[0].trained_tokens == 0
    assert all(torch.equal(weight, before[name]) for name, weight in training.adapter().items())


def test_losses_are_refused_with_a_level_they_are_not_defined_for(tiny_recipe: MakeRecipe) -> None:
    with pytest.raises(RecipeError, match=r'"luspo" is defined with .*importance_sampling_level = "sequence"'):
        tiny_recipe('training.loss_type="luspo"')
    with pytest.raises(RecipeError, match=r'"vespo" is defined with .*"token"; set that, or loss_type = "grpo"'):
        tiny_recipe('training.loss_type="vespo"', 'training.importance_sampling_level="sequence"')
    with pytest.raises(RecipeError, match=r"epsilon_high = 0.28 is the largest policy ratio .* above 1"):
        tiny_recipe('training.loss_type="cispo"', "training.epsilon_high=0.28")
    for loss_type in ("sapo", "vespo"):
        with pytest.raises(RecipeError, match=f'epsilon_high = 0.28 has no effect with .*"{loss_type}".* leave it out'):
            tiny_recipe(f'training.loss_type="{loss_type}"', "training.epsilon_high=0.28")


def test_what_was_not_tested_with_unsloth_is_refused_there(tiny_recipe: MakeRecipe) -> None:
    unsloth = 'model.backend="unsloth"'
    with pytest.raises(RecipeError, match=r'num_iterations = 2 is not tested .*"transformers", or num_iterations = 1'):
        tiny_recipe(unsloth, "training.num_iterations=2")
    for loss_type in ("cispo", "sapo", "luspo", "vespo"):
        level = "sequence" if loss_type == "luspo" else "token"
        with pytest.raises(RecipeError, match=f'"{loss_type}" is not tested .*"transformers", or another loss_type'):
            tiny_recipe(unsloth, f'training.loss_type="{loss_type}"', f'training.importance_sampling_level="{level}"')
