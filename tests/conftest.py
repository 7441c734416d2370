"""Real models for tests: a random one of Qwen2's architecture, and the tiny one that the project builds."""

import gc
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from motif_lite.jobs import checking
from motif_lite.planning.shapes import TINY, ModelShape
from motif_lite.recipe.schema import Recipe
from tests.faults.nursery import Nursery

ROOT = Path(__file__).parents[1]

# Unsloth changes the whole process, so its tests run in processes of their own: `make test-unsloth`. Those of a GPU run
# where they are named: `pytest -m gpu tests/gpu`.
collect_ignore = ["gpu"] if {"UNSLOTH_ALLOW_CPU", "UNSLOTH_FORCE_CPU"} & os.environ.keys() else ["gpu", "unsloth"]

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # processes of two threads each would wait for each other

# Tests in the background are started without Ctrl-C, and so would be the processes that they send it to.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Kept between test runs, as a user's cache is; a fresh clone starts without it.
os.environ.setdefault("MOTIF_LITE_CACHE", str(ROOT / ".cache"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One file that needs the tiny model goes first, the others last: while it is built, tests without it run.

    Of the others the long files come first, so that the processes end at nearly the same time. pytest-xdist keeps
    to this order with --no-loadscope-reorder alone (pyproject.toml).
    """
    needing = {item.path for item in items if "tiny_folder" in getattr(item, "fixturenames", ())}
    first = max(needing, key=_size, default=None)
    items.sort(key=lambda item: (item.path != first, item.path in needing, -_size(item.path)))


@cache
def _size(path: Path) -> int:
    return path.stat().st_size


_num_modules = 0


def pytest_runtest_setup() -> None:
    """Modules stay: each run collects garbage several times, and need not look at all of them each time."""
    global _num_modules
    if len(sys.modules) > _num_modules + 500:
        gc.collect()
        gc.freeze()
        _num_modules = len(sys.modules)


def write_random_qwen(folder: Path, shape: ModelShape) -> Path:
    """A Qwen2 with random weights that hardly ever ends a reply, with the tiny model's tokenizer."""
    import torch
    from transformers import Qwen2ForCausalLM

    from benchmarks.random_model import config_of
    from motif_lite.tasks import tiny_model

    tokenizer = tiny_model.make_tokenizer(3)
    torch.manual_seed(0)
    ends = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    model = Qwen2ForCausalLM(config_of(shape, initializer_range=0.3, max_position_embeddings=512, **ends))
    # Fresh models have zeros there, which hide whether padding is masked.
    model.get_input_embeddings().weight.data[tokenizer.pad_token_id] = torch.randn(shape.hidden_size)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def copy_without(model: Path, folder: Path, part: str) -> Path:
    """A copy of a model that lacks the weights with this part in their name."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(model, folder)
    weights = {name: w for name, w in load_file(folder / "model.safetensors").items() if part not in name}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="session")
def qwen_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen2 of 60 thousand random weights, in a local folder."""
    shape = ModelShape(2, 32, 64, num_heads=4, attention_dim=32, kv_dim=16, vocab_size=TINY.vocab_size)
    return write_random_qwen(tmp_path_factory.mktemp("qwen"), shape)


@pytest.fixture(scope="session")
def tiny_folder() -> Path:
    """The warm-started tiny model of recipes/tiny_cpu.toml; built once, then cached."""
    from motif_lite.paths import cache_folder
    from motif_lite.tasks import tiny_model

    recipe = checking.check(ROOT / "recipes" / "tiny_cpu.toml", [])
    return tiny_model.prepare(
        seed=recipe.seed,
        num_rounds=recipe.rollout.num_rounds,
        max_tokens=recipe.rollout.openings.max_tokens,
        cache_folder=cache_folder(),
        on_progress=lambda done, total: None,
    )


@pytest.fixture(scope="session")
def nursery(tiny_folder: Path) -> Iterator[Nursery]:
    """Runs the program in processes that need not import everything first; they find the tiny model in the cache."""
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """SmolLM2-135M-Instruct, a real chat model: where MOTIF_LITE_SMOLLM2 says, or in the cache."""
    from motif_lite.paths import cache_folder

    folder = Path(os.environ.get("MOTIF_LITE_SMOLLM2") or cache_folder() / "models" / "smollm2-135m")
    if not (folder / "model.safetensors").is_file():
        pytest.skip(f"needs SmolLM2-135M-Instruct in {folder}, or in a folder that MOTIF_LITE_SMOLLM2 names")
    return folder


@pytest.fixture(scope="session")
def tiny_recipe() -> Callable[..., Recipe]:
    """recipes/tiny_cpu.toml, small enough for a test, with further changes."""

    def make(*changes: str) -> Recipe:
        small = [
            "rollout.num_openings=4",
            "rollout.num_futures=2",
            "training.problems_per_step=2",
            "training.micro_batch_size=4",
            "training.max_steps=2",
            "data.num_problems=32",
            "evaluation.benchmarks.chain_sum.num_problems=8",
        ]
        return checking.check(ROOT / "recipes" / "tiny_cpu.toml", [*small, *changes])

    return make
