"""Replies are drawn from the model that is trained, and where they are not, that is said."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from motif_lite.policies.engine.sampler import Generated
from motif_lite.policies.local import LocalPolicy
from motif_lite.recipe.schema import Recipe
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
    assert all(each is not None and 0 < each < 1e-4 for each in found)
    assert "not drawn from the model" not in " ".join(training.observer.notes)


@pytest.mark.parametrize("credit", ["opening", "chain"])
def test_replies_of_another_model_are_told_of_once(
    tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, credit: str
) -> None:
    write = LocalPolicy._write

    def by_another(self: LocalPolicy, *arguments: Any) -> list[Generated]:
        weights = [weight for name, weight in self.model.named_parameters() if "lora" in name]
        own = [weight.detach().clone() for weight in weights]
        disturb_adapter(self)
        try:
            return write(self, *arguments)
        finally:
            with torch.no_grad():
                for weight, before in zip(weights, own, strict=True):
                    weight.copy_(before)

    monkeypatch.setattr(LocalPolicy, "_write", by_another)
    training = Training(
        tiny_recipe("training.max_steps=2", *LESS, f'training.credit="{credit}"'), tiny_folder, tmp_path
    )
    assert training.train()
    assert all(line.sampling_mismatch and line.sampling_mismatch > 0.1 for line in training.run.metrics())
    [told] = [note for note in training.observer.notes if "not drawn from the model that is trained" in note]
    assert told.startswith("step 1: log-probabilities of an opening differ by ")
