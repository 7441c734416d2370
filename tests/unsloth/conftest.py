"""Unsloth itself, on a machine without a GPU. `make test-unsloth` runs this folder both ways:

UNSLOTH_ALLOW_CPU=1  the version that requirements.txt pins, as on a GPU, which is interpreted (interpreted_gpu.py)
UNSLOTH_FORCE_CPU=1  a later version with a CPU backend of its own: stock models behind Unsloth's functions

Everything here is run by both, but for the modules that name one of them.
"""

import os
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from motif_lite.jobs import checking, train_job
from motif_lite.planning.shapes import TINY, ModelShape
from motif_lite.policies import backends
from motif_lite.recipe.schema import Recipe
from motif_lite.rollout.rewards import REWARDS
from motif_lite.runs.directory import RunDirectory
from tests.conftest import write_random_qwen
from tests.unsloth.recorder import Recorder

ROOT = Path(__file__).parents[2]
PINNED = os.environ.get("UNSLOTH_ALLOW_CPU") == "1"
WORKING_FOLDER = Path(tempfile.mkdtemp(prefix="motif_lite_cwd_"))
"""Where the user stands; it has to stay empty."""

collect_ignore = ["test_cpu_backend.py" if PINNED else "test_pinned.py"]

os.chdir(WORKING_FOLDER)
if PINNED:
    from tests.unsloth import interpreted_gpu

    interpreted_gpu.start()
backends.backend("unsloth")  # before a test module imports transformers

# What the tests below do with every opening: random replies would all earn 0, and nothing would be learned.
REWARDS["letters"] = lambda opening: sum(map(ord, opening.turn.reply.text)) / 1000

recorder = Recorder()


def _watch_unsloth() -> None:
    import peft
    import transformers
    import trl
    import unsloth

    recorder.watch(unsloth.FastLanguageModel, "from_pretrained", "get_peft_model", "for_inference", "for_training")
    recorder.watch(trl.GRPOTrainer, "train", "_generate_and_score_completions", "compute_loss")
    recorder.watch(transformers.GenerationMixin, "generate")
    recorder.watch(peft.PeftModel, "save_pretrained")
    recorder.watch(peft, "set_peft_model_state_dict")
    if PINNED:
        import sys

        from unsloth.models import llama

        recorder.watch(llama, "unsloth_fast_generate", "fast_rms_layernorm", "fast_rope_embedding")
        recorder.watch(sys.modules["UnslothGRPOTrainer"], "grpo_accumulated_loss")


_watch_unsloth()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    way = "the pinned version on an interpreted GPU" if PINNED else "its own CPU backend"
    names = ("unsloth", "unsloth_zoo", "trl", "transformers", "peft", "torch")
    terminalreporter.section(f"unsloth: {way}")
    terminalreporter.line(", ".join(f"{name} {version(name)}" for name in names))
    for label, number in recorder.calls.items():
        terminalreporter.line(f"{number:6d} calls  {label}")


@pytest.fixture(scope="session")
def random_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen2 of one layer and random weights; with rows to spare in its vocabulary, as the real one has."""
    shape = ModelShape(1, 32, 64, num_heads=2, attention_dim=32, kv_dim=16, vocab_size=TINY.vocab_size + 16)
    return write_random_qwen(tmp_path_factory.mktemp("random"), shape)


@pytest.fixture(scope="session")
def changes(random_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What makes recipes/tiny_cpu.toml a run of seconds, even where every kernel is interpreted."""
    problems, test = (tmp_path_factory.mktemp("data") / name for name in ("problems.jsonl", "test.jsonl"))
    problems.write_text('{"question": "a0b4=", "answer": "4"}\n{"question": "a7=", "answer": "7"}\n')
    test.write_text('{"question": "a1b4=", "answer": "5"}\n{"question": "a8=", "answer": "8"}\n')
    return [
        'model.backend="unsloth"', f'model.name="{random_folder}"', 'model.dtype="float32"', "lora.rank=4",
        f'data.train="{problems}"', "rollout.num_rounds=2", "rollout.num_openings=2", "rollout.num_futures=2",
        "rollout.openings.max_tokens=4", "rollout.futures.max_tokens=4", "rollout.max_prompt_tokens=64",
        "rewards={future_accuracy=1.0, letters=1.0}", "training.problems_per_step=1",
        "training.micro_batch_size=1", "training.max_steps=1", "training.warmup_fraction=0.0",
        "training.gradient_checkpointing=true", 'evaluation.strategies=["multi_round"]', "evaluation.num_samples=0",
        f'evaluation.benchmarks={{two={{source="{test}"}}}}',
    ]  # fmt: skip


@pytest.fixture(scope="session")
def make_recipe(changes: list[str]) -> Callable[..., Recipe]:
    def make(*further: str) -> Recipe:
        return checking.check(ROOT / "recipes" / "tiny_cpu.toml", [*changes, *further])

    return make


@dataclass(frozen=True)
class Finished:
    """A whole run: load, evaluate, train, save, evaluate, report; with the real calls that it made."""

    run: RunDirectory
    calls: Counter[str]
    trainer: Any

    def count(self, name: str) -> int:
        """Calls of functions of this name, wherever it was defined."""
        return sum(number for label, number in self.calls.items() if label.endswith(f": {name}"))


@pytest.fixture(scope="session")
def finished(changes: list[str], tmp_path_factory: pytest.TempPathFactory) -> Finished:
    from tests.fakes import RecordingObserver

    out, before = tmp_path_factory.mktemp("runs") / "whole", recorder.calls.copy()
    train_job.job(ROOT / "recipes" / "tiny_cpu.toml", changes, out).perform(RecordingObserver())
    return Finished(RunDirectory(out), recorder.calls - before, recorder.arguments["train"][-1][0][0])
