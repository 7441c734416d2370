"""Replies are drawn from the model that is trained, and where they are not, that is said."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from motif_lite.errors import TrainingError
from motif_lite.nouns import Reply
from motif_lite.policies.engine.sampler import Generated
from motif_lite.policies.local import LocalPolicy
from motif_lite.recipe.schema import Recipe
from motif_lite.training.mismatch import Drawn, Mismatch
from tests.fakes import RecordingObserver
from tests.test_policies import disturb_adapter
from tests.test_training import Training

MakeRecipe = Callable[..., Recipe]
LESS = ("rollout.openings.max_tokens=16", "rollout.futures.max_tokens=16")


@pytest.mark.parametrize("credit", ["opening", "chain", "reset"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_an_opening_is_as_likely_to_the_trainer_as_when_it_was_drawn(
    tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path, credit: str, temperature: float
) -> None:
    same = [f"rollout.{part}.temperature={temperature}" for part in ("openings", "futures")]
    changes = ("training.max_steps=2", *LESS, *same, f'training.credit="{credit}"')
    training = Training(tiny_recipe(*changes), tiny_folder, tmp_path)
    assert training.train()
    found = [line.sampling_mismatch for line in training.run.metrics()]
    assert len(found) == 2
    assert all(each is not None and each < 1e-4 for each in found)
    assert "not drawn from the model" not in " ".join(training.observer.notes)


def drawn_by_another(monkeypatch: pytest.MonkeyPatch, change: Callable[[LocalPolicy], None]) -> None:
    """Change the adapter while replies are written, and put it back."""
    write = LocalPolicy._write

    def by_another(self: LocalPolicy, *arguments: Any) -> list[Generated]:
        weights = [weight for name, weight in self.model.named_parameters() if "lora" in name]
        own = [weight.detach().clone() for weight in weights]
        change(self)
        try:
            return write(self, *arguments)
        finally:
            with torch.no_grad():
                for weight, before in zip(weights, own, strict=True):
                    weight.copy_(before)

    monkeypatch.setattr(LocalPolicy, "_write", by_another)


@pytest.mark.parametrize("credit", ["opening", "chain"])
def test_replies_of_another_model_are_told_of_once(
    tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, credit: str
) -> None:
    drawn_by_another(monkeypatch, disturb_adapter)
    changes = ("training.max_steps=2", *LESS, f'training.credit="{credit}"')
    training = Training(tiny_recipe(*changes), tiny_folder, tmp_path)
    assert training.train()
    assert all(line.sampling_mismatch and line.sampling_mismatch > 0.1 for line in training.run.metrics())
    [told] = [note for note in training.observer.notes if "not drawn from the model that is trained" in note]
    assert told.startswith("step 1: log-probabilities of an opening differ by ")


def test_an_adapter_that_is_left_out_is_told_of_once_it_has_moved(
    tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn_by_another(monkeypatch, lambda policy: disturb_adapter(policy, scale=0.0))
    changes = ("training.max_steps=12", *LESS, "training.learning_rate=2e-3", 'training.lr_schedule="constant"')
    training = Training(tiny_recipe(*changes), tiny_folder, tmp_path)
    assert training.train()
    first, *_, last = [line.sampling_mismatch or 0.0 for line in training.run.metrics()]
    assert first < 1e-4 < last
    assert "not drawn from the model that is trained" in " ".join(training.observer.notes)


@pytest.mark.parametrize("is_left_out", [True, False])
def test_an_adapter_that_does_something_from_the_start_is_missed_in_the_first_step(
    tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_left_out: bool
) -> None:
    if is_left_out:
        drawn_by_another(monkeypatch, lambda policy: disturb_adapter(policy, scale=0.0))
    training = Training(tiny_recipe("training.max_steps=1", *LESS), tiny_folder, tmp_path)
    assert isinstance(training.policy, LocalPolicy)
    disturb_adapter(training.policy, scale=0.1)
    assert training.train()
    [line] = training.run.metrics()
    assert line.sampling_mismatch is not None
    assert 1e-3 < line.sampling_mismatch < 0.1 if is_left_out else line.sampling_mismatch < 1e-4
    told = [note for note in training.observer.notes if "not from the model that is trained" in note]
    assert len(told) == is_left_out
    assert all("replies are drawn without it" in note for note in told)


def test_after_a_resume_it_is_said_what_else_another_rounding_may_come_of() -> None:
    observer, first = RecordingObserver(), SimpleNamespace(sampling_mismatch=2e-6)
    context: Any = SimpleNamespace(observer=observer, run=SimpleNamespace(metrics=lambda: [first]))
    model = SimpleNamespace(device="cpu", disable_adapter=nullcontext)
    mismatch = Mismatch(lambda ids, number: torch.zeros(1, number), model, context)
    drawn = Drawn([1], Reply("a", 1, "stop", token_ids=(2,), logprobs=(-0.02,)))
    assert mismatch.of(drawn, 9) == pytest.approx(0.02)
    assert mismatch.of(drawn, 10) == pytest.approx(0.02)
    [note] = observer.notes
    assert "2e-06 in the first step; unless one of rollout.weights, rollout.server and training.autocast was" in note


def test_no_memory_to_compare_costs_a_figure_and_no_step(
    tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = ("training.max_steps=3", *LESS)
    roomy, cramped = (Training(tiny_recipe(*changes), tiny_folder, tmp_path / name) for name in ("roomy", "cramped"))
    assert roomy.train()
    compare = Mismatch._difference

    def starved(self: Mismatch, drawn: Drawn) -> float:
        if cramped.run.metrics() and len(cramped.run.metrics()) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return compare(self, drawn)

    monkeypatch.setattr(Mismatch, "_difference", starved)
    assert cramped.train()
    assert [line.sampling_mismatch is None for line in cramped.run.metrics()] == [False, True, False]
    assert cramped.run.rollouts() == roomy.run.rollouts()
    assert all(torch.equal(weight, cramped.adapter()[name]) for name, weight in roomy.adapter().items())
    assert "step 2: no memory to compare an opening's" in " ".join(cramped.observer.notes)


@pytest.mark.parametrize("step", [1, 2])
def test_no_memory_before_an_update_trains_nothing_on_the_rollouts_of_the_step_before(
    tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    training = Training(tiny_recipe("training.max_steps=3", *LESS), tiny_folder, tmp_path)

    def starved(self: Mismatch, drawn: Drawn, number: int) -> float:
        if number == step:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 0.0

    monkeypatch.setattr(Mismatch, "of", starved)
    with pytest.raises(TrainingError, match=r"out of memory between rollouts and update.*smaller rollout\.max_width"):
        training.train()
    assert len(training.run.metrics()) == step - 1
