"""Real models for tests: a random one of Qwen2's architecture, and the tiny one that the project builds."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from motif_lite import pipeline
from motif_lite.recipe import Recipe

ROOT = Path(__file__).parents[1]

# Unsloth changes the whole process, so its tests run in processes of their own: `make test-unsloth`.
collect_ignore = [] if {"UNSLOTH_ALLOW_CPU", "UNSLOTH_FORCE_CPU"} & os.environ.keys() else ["unsloth"]

# Kept between test runs, as a user's cache is; a fresh clone starts without it.
os.environ.setdefault("MOTIF_LITE_CACHE", str(ROOT / ".cache"))


@pytest.fixture(scope="session")
def qwen_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen2 of 60 thousand random weights that hardly ever ends a reply, in a local folder."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from motif_lite import tiny

    folder = tmp_path_factory.mktemp("qwen")
    tokenizer = tiny.make_tokenizer(3)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    model = Qwen2ForCausalLM(config)
    # Fresh models have zeros there, which hide whether padding is masked.
    model.get_input_embeddings().weight.data[tokenizer.pad_token_id] = torch.randn(config.hidden_size)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_folder() -> Path:
    """The warm-started tiny model of recipes/tiny_cpu.toml; built once, then cached."""
    from motif_lite import tiny
    from motif_lite.paths import cache_folder

    recipe = pipeline.check(ROOT / "recipes" / "tiny_cpu.toml", [])
    return tiny.prepare(
        seed=recipe.seed,
        num_rounds=recipe.rollout.num_rounds,
        max_tokens=recipe.rollout.openings.max_tokens,
        cache_folder=cache_folder(),
        on_progress=lambda done, total: None,
    )


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
        return pipeline.check(ROOT / "recipes" / "tiny_cpu.toml", [*small, *changes])

    return make
