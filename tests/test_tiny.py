"""The tiny model: its tokenizer, its cache, and what it can do after the warm start."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from motif_lite.errors import ModelError
from motif_lite.policies import backends
from motif_lite.recipe.schema import Recipe
from motif_lite.rollout.prompts import conversation, progress_notice
from motif_lite.rollout.rewards import is_solved
from motif_lite.rollout.strategies import STRATEGIES
from motif_lite.rollout.thinking import think
from motif_lite.tasks import chain_sum, tiny_model

TOKENIZER = tiny_model.make_tokenizer(3)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A warm start too short to learn anything, checked on few problems."""
    monkeypatch.setattr(tiny_model, "_NUM_STEPS", 2)
    monkeypatch.setattr(tiny_model, "_NUM_CHECKED", 8)


@pytest.fixture
def uncritical(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes any outcome of it."""
    monkeypatch.setattr(tiny_model, "_ACCEPTED", (0.0, 1.0))


def prepare(folder: Path, **changes: Any) -> Path:
    arguments: dict[str, Any] = {"seed": 1, "num_rounds": 3, "max_tokens": 35, "on_progress": lambda done, total: None}
    return tiny_model.prepare(cache_folder=folder, **(arguments | changes))


@given(st.text())
def test_any_text_survives_the_tokenizer(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_the_fixed_phrases_of_prompts_and_replies_are_single_tokens() -> None:
    question = "a0b4="
    for round_number in (1, 2):
        notice = progress_notice(round_number, 3, "b=4")
        assert len(TOKENIZER.encode(question + notice)) <= len(question) + len("b=4") + 2
    for tag in ("<reasoning>", "</reasoning>", "<answer>", "</answer>", "\\boxed{"):
        assert len(TOKENIZER.encode(tag)) == 1


def test_a_round_has_room_for_five_steps_and_not_for_six(tiny_recipe: Callable[..., Recipe]) -> None:
    limit = tiny_recipe().rollout.openings.max_tokens
    digits = [9] * 14
    lengths = {steps: len(TOKENIZER.encode(chain_sum.reply(digits, 0, steps))) + 1 for steps in (5, 6)}
    assert lengths[5] <= limit < lengths[6]
    assert 3 * 5 >= 14 > 2 * 5, "three rounds are needed, and are enough"


def test_the_chat_template_opens_the_reply() -> None:
    rendered = TOKENIZER.apply_chat_template(conversation("", "a0="), tokenize=False, add_generation_prompt=True)
    assert rendered == "<|user|>a0=<|end|><|assistant|>"
    assert TOKENIZER.pad_token_id != TOKENIZER.eos_token_id


@pytest.mark.usefixtures("uncritical")
def test_a_finished_model_comes_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    first = prepare(tmp_path, on_start=lambda: started.append("once"))
    assert (first / "model.safetensors").is_file()
    monkeypatch.setattr(tiny_model, "_imitate", lambda *arguments: pytest.fail("it was built again"))
    assert prepare(tmp_path, on_start=lambda: started.append("again")) == first
    assert started == ["once"]


@pytest.mark.usefixtures("uncritical")
def test_a_model_that_another_process_builds_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two in this process: the second begins in the middle of the first."""
    built: list[Path] = []
    meanwhile = threading.Thread(target=lambda: built.append(prepare(tmp_path)))

    def progress(done: int, total: int) -> None:
        if done == 1:
            monkeypatch.setattr(tiny_model, "_imitate", lambda *arguments: pytest.fail("it was built again"))
            meanwhile.start()
            meanwhile.join(0.5)
            assert meanwhile.is_alive()

    first = prepare(tmp_path, on_progress=progress)
    meanwhile.join()
    assert built == [first]


@pytest.mark.usefixtures("uncritical")
def test_building_leaves_the_random_state_alone_and_repeats_itself(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    one, same, other = prepare(tmp_path / "1"), prepare(tmp_path / "2"), prepare(tmp_path / "3", seed=2)
    assert torch.equal(torch.get_rng_state(), before)
    weights = [(folder / "model.safetensors").read_bytes() for folder in (one, same, other)]
    assert weights[0] == weights[1] != weights[2]


def test_an_interrupted_build_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path / "cache", on_progress=interrupt)
    assert not list(tmp_path.rglob("tiny-*"))


@pytest.mark.usefixtures("quick")
def test_a_warm_start_that_comes_out_too_weak_is_repeated_and_then_refused(tmp_path: Path) -> None:
    attempts: list[int] = []
    with pytest.raises(ModelError, match="another seed"):
        prepare(tmp_path, on_progress=lambda done, total: attempts.append(done))
    assert attempts == [0, *[1, 2] * tiny_model._NUM_ATTEMPTS]
    assert not list(tmp_path.glob("tiny-*"))


def test_a_limit_without_room_for_a_step_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"rollout\.futures\.max_tokens"):
        prepare(tmp_path, max_tokens=5)


def test_the_warm_start_leaves_something_to_reinforce_and_something_to_gain(
    tiny_folder: Path, tiny_recipe: Callable[..., Recipe]
) -> None:
    recipe = tiny_recipe()
    policy = backends.backend("transformers").load(recipe, str(tiny_folder))
    problems = chain_sum.problems(300, seed=99, split="test")
    sampling = recipe.rollout.futures
    strategy = STRATEGIES["multi_round"](recipe.rollout)
    trajectories = think(policy, strategy, problems, sampling, sampling, seed=0)
    assert 0.15 <= sum(map(is_solved, trajectories)) / 300 <= 0.65
