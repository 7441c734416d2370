"""A warm start by Unsloth's trainer: supervised steps, and GRPO after them. A random model solves nothing by itself."""

from pathlib import Path

import pytest

from motif_lite.errors import DataError
from motif_lite.jobs import train_job
from motif_lite.runs.costs import Cost
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.warm_start import Example, Sampled, WarmStart
from tests.fakes import RecordingObserver

ROOT = Path(__file__).parents[2]


def test_supervised_steps_teach_what_is_imitated_and_grpo_goes_on_from_there(
    changes: list[str], tmp_path: Path
) -> None:
    section = (
        'warm_start={num_samples=1, instruction="", max_tokens=4, num_steps=6, examples_per_step=2, learning_rate=0.05}'
    )
    out = tmp_path / "run"
    with pytest.raises(DataError, match=r"0 of 2 problems were solved.*too few for warm_start\.examples_per_step = 2"):
        train_job.job(ROOT / "recipes" / "tiny_cpu.toml", [*changes, section], out).perform(RecordingObserver())
    files = WarmStart(out)
    prompt = "<|user|>a0b4=<|end|><|assistant|>"
    examples = [Example(problem=str(number), round=1, prompt=prompt, reply="a00\nb44") for number in range(2)]
    counted = Sampled(
        num_problems=2, num_solved=2, num_cut=2, left_out={}, examples_by_round=(2,), cost=Cost(generated_tokens=8)
    )
    files.keep_examples([], examples, counted)
    train_job.job(None, [], out, resume=True).perform(RecordingObserver())
    steps, run = files.steps(), RunDirectory(out)
    assert [step.step for step in steps] == [1, 2, 3, 4, 5, 6]
    assert steps[-1].loss < 0.8 * steps[0].loss
    assert steps[0].trained_tokens == 2 * len("a00\nb44|")
    assert run.spent().steps == 1
    assert run.preparing["warm start"].generated_tokens == 8
    assert run.metrics()[0].grad_norm is not None
