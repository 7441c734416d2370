"""Budgets: whichever limit is nearest ends a run, and the learning rate follows it."""

import pytest
from transformers import get_scheduler

from motif_lite.recipe.training import TrainingSection
from motif_lite.runs.budget import Spent, learning_rate_factor, share_done, spent
from tests import records

LINE = records.step(tokens={"openings": 100, "futures": 300}, seconds={"openings": 1.0, "update": 2.0})


def test_what_is_spent_is_the_sum_of_all_lines() -> None:
    assert spent([LINE, LINE]) == Spent(2, 800, 6.0)
    assert spent([]) == Spent()


def test_the_nearest_limit_counts() -> None:
    so_far = Spent(10, 400, 60.0)
    assert share_done(TrainingSection(max_steps=20), so_far) == 0.5
    assert share_done(TrainingSection(max_steps=20, until_tokens=500), so_far) == 0.8
    assert share_done(TrainingSection(max_steps=20, until_tokens=500, until_seconds=61.0), so_far) == 60 / 61
    assert share_done(TrainingSection(max_steps=20, until_tokens=300), so_far) == 1.0


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant", "constant_with_warmup"])
def test_over_a_budget_of_steps_the_schedule_is_the_librarys(schedule: str) -> None:
    import torch

    training = TrainingSection(max_steps=40, lr_schedule=schedule, warmup_fraction=0.1, learning_rate=1.0)  # type: ignore[arg-type]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = get_scheduler(schedule, optimizer, num_warmup_steps=4, num_training_steps=40)
    for step in range(41):
        ours = learning_rate_factor(training, step / 40)
        assert ours == pytest.approx(theirs.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        theirs.step()
