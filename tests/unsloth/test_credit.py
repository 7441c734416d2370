"""Later rounds are trained by Unsloth's trainer, too: rows of different prompts, with our advantages."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from motif_lite.jobs import train_job
from motif_lite.runs.directory import RunDirectory
from tests.fakes import RecordingObserver
from tests.test_training import starve
from tests.unsloth.conftest import ROOT


@contextmanager
def watching() -> Iterator[list[Any]]:
    """What the trainer makes of each step's rollouts, before it is cut into micro-batches."""
    from motif_lite.training.trainer import Trainer

    seen: list[Any] = []
    score = Trainer._generate_and_score_completions

    def watched(self: Trainer, inputs: Any) -> Any:
        seen.append(score(self, inputs))
        return seen[-1]

    Trainer._generate_and_score_completions = watched  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        Trainer._generate_and_score_completions = score  # type: ignore[method-assign]


@pytest.mark.parametrize(("credit", "sizes"), [("chain", (1, 4)), ("tree", (6,))])
def test_all_rounds_are_trained_with_their_advantages_in_micro_batches_of_any_size(
    credit: str, sizes: tuple[int, ...], changes: list[str], tmp_path: Path
) -> None:
    """Of one row each, and of all rows; which credit gave the advantages makes no difference to that."""
    runs = []
    for size in sizes:
        settings = [
            *changes, f'training.credit="{credit}"', f"training.micro_batch_size={size}",
            'training.scale_rewards="batch"', "evaluation.before=false", "evaluation.after=false",
        ]  # fmt: skip
        with watching() as seen:
            train_job.job(ROOT / "recipes" / "tiny_cpu.toml", settings, tmp_path / str(size)).perform(
                RecordingObserver()
            )
        run = RunDirectory(tmp_path / str(size))
        trained = [
            (turn.advantage or 0.0) * (turn.weight or 0.0)
            for line in run.rollouts()
            for turn in (line.opening, *(turn for future in line.futures for turn in future.rounds))
        ]
        assert len(trained) == sizes[-1]
        assert any(trained)
        [scored] = seen
        assert sorted(scored["advantages"].tolist()) == pytest.approx(sorted(trained), rel=1e-5)
        runs.append(run)
    norms = [line.grad_norm or 0.0 for run in runs for line in run.metrics()]
    assert all(run.rollouts() == runs[0].rollouts() for run in runs)
    assert norms == pytest.approx([norms[0]] * len(sizes), rel=1e-4)
    assert norms[0] > 0


@pytest.mark.parametrize("loss_type", ["bnpo", "grpo"])
def test_an_update_out_of_memory_is_made_in_smaller_pieces_with_the_same_gradient(
    loss_type: str, changes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Averages over the tokens of a step, and over those of each row."""
    settings = [
        *changes, "training.micro_batch_size=2", f'training.loss_type="{loss_type}"', "evaluation.before=false",
        "evaluation.after=false",
    ]  # fmt: skip
    norms = []
    for name in ("roomy", "cramped"):
        if name == "cramped":
            starve(monkeypatch, first_call=1, room_for=1)
        observer = RecordingObserver()
        train_job.job(ROOT / "recipes" / "tiny_cpu.toml", settings, tmp_path / name).perform(observer)
        [line] = RunDirectory(tmp_path / name).metrics()
        norms.append(line.grad_norm or 0.0)
    assert "out of memory in the update: continuing with 1 openings at a time" in " ".join(observer.notes)
    assert norms[1] == pytest.approx(norms[0], rel=1e-4)
    assert norms[0] > 0
