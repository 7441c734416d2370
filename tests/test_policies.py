"""The transformers backend for real: what is generated is right, live, and leaves no trace."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers.processors import TemplateProcessing

from motif_lite.errors import MissingHardwareError, ModelError
from motif_lite.nouns import Sampling, TokenProgress, Turn
from motif_lite.policies import backends, protocol
from motif_lite.policies.engine import engine
from motif_lite.policies.local import LocalPolicy
from motif_lite.policies.protocol import ADAPTER_FILE
from motif_lite.recipe.schema import Recipe
from motif_lite.rollout.strategies import STRATEGIES
from motif_lite.tasks import chain_sum
from tests.conftest import copy_without
from tests.fakes import write

GREEDY = Sampling(max_tokens=24, temperature=0.0)
SAMPLED = Sampling(max_tokens=24)

MakeRecipe = Callable[..., Recipe]


@pytest.fixture
def policy(qwen_folder: Path, tiny_recipe: MakeRecipe) -> LocalPolicy:
    return load(qwen_folder, tiny_recipe())


def load_any(recipe: Recipe, model_name: str) -> protocol.TrainablePolicy:
    return backends.backend(recipe.model.backend).load(recipe, model_name)


def load(folder: Path, recipe: Recipe) -> LocalPolicy:
    policy = load_any(recipe, str(folder))
    assert isinstance(policy, LocalPolicy)
    return policy


def rendered(policy: LocalPolicy, num_prompts: int, min_digits: int = 1, max_digits: int = 12) -> list[str]:
    rng = random.Random(5)
    chains = [[rng.randrange(10) for _ in range(rng.randint(min_digits, max_digits))] for _ in range(num_prompts)]
    return [policy.render([{"role": "user", "content": chain_sum.question(chain)}]) for chain in chains]


def disturb_adapter(policy: LocalPolicy, scale: float = 0.5) -> None:
    """Give the adapter's zero half weights, so that it does something."""
    generator = torch.Generator().manual_seed(1)
    for name, weight in policy.model.named_parameters():
        if "lora_B" in name:
            weight.data.copy_(scale * torch.randn(weight.shape, generator=generator))


def test_a_left_padded_batch_writes_what_each_prompt_alone_writes(policy: LocalPolicy) -> None:
    prompts = rendered(policy, 9)
    assert len({policy.count_tokens(prompt) for prompt in prompts}) > 3
    together = write(policy, prompts, GREEDY)
    alone = [write(policy, [prompt], GREEDY)[0] for prompt in prompts]
    assert together == alone


def test_the_padding_side_of_the_tokenizer_does_not_matter(policy: LocalPolicy) -> None:
    prompts = rendered(policy, 5)
    left = write(policy, prompts, GREEDY)
    policy.tokenizer.padding_side = "right"
    assert write(policy, prompts, GREEDY) == left


def test_the_same_seed_gives_the_same_replies_and_another_seed_others(policy: LocalPolicy) -> None:
    prompts = rendered(policy, 6)
    first = write(policy, prompts, SAMPLED, seed=3)
    assert write(policy, prompts, SAMPLED, seed=3) == first
    assert write(policy, prompts, SAMPLED, seed=4) != first


def test_generating_leaves_the_random_state_alone(policy: LocalPolicy) -> None:
    before = torch.get_rng_state()
    write(policy, rendered(policy, 2), SAMPLED, seed=3)
    assert torch.equal(torch.get_rng_state(), before)


def test_progress_counts_tokens(policy: LocalPolicy) -> None:
    seen: list[TokenProgress] = []
    policy.max_width = 2
    prompts = rendered(policy, 3)
    replies = write(policy, prompts, GREEDY, on_progress=seen.append)
    assert {progress.to_write for progress in seen} == {3 * GREEDY.max_tokens}
    for name in ("read", "to_read", "written", "settled"):
        values = [getattr(progress, name) for progress in seen]
        assert values == sorted(values), name
    assert len(seen) > max(reply.num_tokens for reply in replies)
    assert seen[0].written == 0 < seen[0].read, "reading comes first"
    last = seen[-1]
    assert last.written == sum(reply.num_tokens for reply in replies)
    assert 0 < last.read == last.to_read < sum(map(policy.count_tokens, prompts)), "what prompts share is read once"
    assert last.share == 1


def test_a_reply_that_is_cut_off_says_so_and_one_that_ends_holds_no_special_token(policy: LocalPolicy) -> None:
    stop = policy.tokenizer.eos_token_id
    text = policy.tokenizer("a0b4=", add_special_tokens=False)["input_ids"]
    assert policy.read_reply([*text, stop, *text]).text == "a0b4="
    assert policy.read_reply([*text, stop, *text]).num_tokens == len(text) + 1
    assert policy.read_reply([*text, stop]).finish == "stop"
    assert policy.read_reply(text).finish == "length"


def test_a_text_starts_with_the_mark_that_the_tokenizer_sets_itself(
    policy: LocalPolicy, qwen_folder: Path, tmp_path: Path, tiny_recipe: MakeRecipe
) -> None:
    assert policy.text_start == "", "Qwen's sets none"
    folder, tokenizer, mark = tmp_path / "marked", policy.tokenizer, policy.tokenizer.eos_token
    shutil.copytree(qwen_folder, folder)
    tokenizer.add_special_tokens({"bos_token": mark})
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{mark} $A", special_tokens=[(mark, tokenizer.eos_token_id)]
    )
    tokenizer.save_pretrained(folder)
    marked = load(folder, tiny_recipe())
    assert marked.text_start == mark
    assert marked.encode(marked.text_start + "a0b4") == tokenizer("a0b4")["input_ids"] != policy.encode("a0b4")


def test_keep_end_keeps_the_end(policy: LocalPolicy) -> None:
    assert policy.keep_end("a0b4c5", 4) == "b4c5"
    assert policy.keep_end("a0b4c5", 0) == ""
    assert policy.keep_end("a0b4c5", 99) == "a0b4c5"


def test_keep_end_cuts_no_character(policy: LocalPolicy) -> None:
    """One that is four tokens is kept whole or not at all; half of it would read U+FFFD."""
    assert policy.count_tokens("\U0001f9ee") == 4
    kept = [policy.keep_end("a\U0001f9eeb", number) for number in range(7)]
    assert kept == ["", "b", "b", "b", "b", "\U0001f9eeb", "a\U0001f9eeb"]


def test_replies_change_with_the_adapters_weights(policy: LocalPolicy) -> None:
    prompts = rendered(policy, 4)
    base = write(policy, prompts, GREEDY)
    disturb_adapter(policy)
    assert write(policy, prompts, GREEDY) != base
    with policy.model.disable_adapter():
        assert write(policy, prompts, GREEDY) == base


def test_futures_come_from_the_adapter_as_it_stands(policy: LocalPolicy, tiny_recipe: MakeRecipe) -> None:
    recipe = tiny_recipe()
    strategy = STRATEGIES["multi_round"](recipe.rollout)
    problem = chain_sum.problems(1, seed=5, split="test")[0]
    prompt = policy.render(strategy.first_messages(problem))
    opening = (problem, Turn(prompt, write(policy, [prompt], GREEDY)[0]))

    def futures() -> list[str]:
        rollouts = strategy.continue_openings(policy, [opening], 3, GREEDY, seed=1)
        return [future.final.text for future in rollouts.openings[0].futures]

    before = futures()
    assert futures() == before
    disturb_adapter(policy)
    assert futures() != before


@pytest.fixture
def training_policy(policy: LocalPolicy) -> Iterator[LocalPolicy]:
    """As TRL leaves the model while it calls the rewards: train mode, gradient checkpointing on."""
    disturb_adapter(policy, 0.1)
    policy.model.train()
    policy.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    policy.model.enable_input_require_grads()
    yield policy


def flags(model: Any) -> list[tuple[bool, object]]:
    return [(module.training, getattr(module, "gradient_checkpointing", None)) for module in model.modules()]


def test_generation_in_mid_training_equals_eval_mode_token_by_token(training_policy: LocalPolicy) -> None:
    prompts = rendered(training_policy, 5)
    during = write(training_policy, prompts, GREEDY)
    training_policy.model.gradient_checkpointing_disable()
    training_policy.model.eval()
    assert write(training_policy, prompts, GREEDY) == during


def test_modes_are_as_they_were_after_generating(training_policy: LocalPolicy) -> None:
    training_policy.model.get_base_model().model.layers[1].eval()
    before = flags(training_policy.model)
    write(training_policy, rendered(training_policy, 2), GREEDY)
    assert flags(training_policy.model) == before


def test_modes_are_as_they_were_after_an_exception(training_policy: LocalPolicy) -> None:
    before = flags(training_policy.model)

    def fail(progress: TokenProgress) -> None:
        assert not training_policy.model.training
        raise RuntimeError("in mid-generation")

    with pytest.raises(RuntimeError, match="in mid-generation"):
        write(training_policy, rendered(training_policy, 2), GREEDY, on_progress=fail)
    assert flags(training_policy.model) == before


def test_the_models_own_sampling_defaults_do_not_leak(
    qwen_folder: Path, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    """Qwen2.5's generation_config.json asks for top-k 20 and a repetition penalty."""
    folder = tmp_path / "with_defaults"
    shutil.copytree(qwen_folder, folder)
    settings = json.loads((folder / "generation_config.json").read_text())
    settings |= {"do_sample": True, "top_k": 1, "repetition_penalty": 5.0, "temperature": 0.01}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    plain, defaulted = load(qwen_folder, tiny_recipe()), load(folder, tiny_recipe())
    prompts = rendered(plain, 4)
    assert write(defaulted, prompts, SAMPLED, seed=3) == write(plain, prompts, SAMPLED, seed=3)
    assert write(defaulted, prompts, GREEDY, seed=3) == write(plain, prompts, GREEDY, seed=3)
    assert defaulted.model.generation_config.top_k != 1  # what TRL's openings would take


def test_an_adapter_survives_saving_and_loading(
    policy: LocalPolicy, qwen_folder: Path, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    disturb_adapter(policy)
    policy.save_adapter(tmp_path / "adapter")
    assert (tmp_path / "adapter" / ADAPTER_FILE).is_file()
    assert not list((tmp_path / "adapter").glob("*.bin"))
    fresh = load(qwen_folder, tiny_recipe())
    prompts = rendered(policy, 3)
    assert write(fresh, prompts, GREEDY) != write(policy, prompts, GREEDY)
    fresh.load_adapter(tmp_path / "adapter")
    assert write(fresh, prompts, GREEDY) == write(policy, prompts, GREEDY)


def test_an_adapter_that_does_not_fit_is_refused(
    policy: LocalPolicy, qwen_folder: Path, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    policy.save_adapter(tmp_path)
    with pytest.raises(ModelError, match="does not fit"):
        load(qwen_folder, tiny_recipe("lora.rank=2")).load_adapter(tmp_path)
    with pytest.raises(ModelError, match="does not fit"):
        load(qwen_folder, tiny_recipe('lora.targets=["q_proj"]')).load_adapter(tmp_path)


def test_a_damaged_or_missing_adapter_is_refused(policy: LocalPolicy, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not an adapter that can be read"):
        policy.load_adapter(tmp_path)
    (tmp_path / ADAPTER_FILE).write_bytes(b"\x08\0\0\0\0\0\0\0garbage")
    with pytest.raises(ModelError, match="not an adapter that can be read"):
        policy.load_adapter(tmp_path)


def test_a_4_bit_model_generates_between_training_steps(qwen_folder: Path, tiny_recipe: MakeRecipe) -> None:
    """bitsandbytes repacks weights in eval mode on some processors, after which training fails."""
    policy = load(qwen_folder, tiny_recipe("model.load_in_4bit=true"))
    ids = torch.tensor([policy.tokenizer(text)["input_ids"] for text in rendered(policy, 2, 8, 8)])
    for _ in range(2):
        policy.model.train()
        loss = policy.model(input_ids=ids, labels=ids).loss
        loss.backward()
        assert torch.isfinite(loss)
        assert all(reply.num_tokens for reply in write(policy, rendered(policy, 3), SAMPLED))


def test_folders_that_are_no_models_are_refused_with_the_remedy(tiny_recipe: MakeRecipe, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json"):
        load_any(tiny_recipe(), str(tmp_path))
    with pytest.raises(ModelError, match="no such folder"):
        load_any(tiny_recipe(), str(tmp_path / "nowhere"))


def test_a_model_without_weights_is_refused(qwen_folder: Path, tiny_recipe: MakeRecipe, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(qwen_folder, folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_any(tiny_recipe(), str(folder))


def test_a_model_that_lacks_some_weights_is_refused(qwen_folder: Path, tiny_recipe: MakeRecipe, tmp_path: Path) -> None:
    folder = copy_without(qwen_folder, tmp_path / "model", "layers.1.mlp")
    with pytest.raises(ModelError, match="weights are missing"):
        load_any(tiny_recipe(), str(folder))


def test_a_chat_template_without_a_system_role_names_the_remedy(policy: LocalPolicy) -> None:
    policy.tokenizer.chat_template = "{{ raise_exception('no system role') }}"
    with pytest.raises(ModelError, match=r"rollout\.system_prompt"):
        policy.render([{"role": "user", "content": "a0="}])


def test_a_model_without_a_chat_template_is_refused(qwen_folder: Path, tiny_recipe: MakeRecipe, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(qwen_folder, folder)
    for name in ("chat_template.jinja",):
        (folder / name).unlink(missing_ok=True)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match="no chat template"):
        load_any(tiny_recipe(), str(folder))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_only_openings_that_trl_samples_itself_cannot_end_at_a_text_or_be_weighed(
    qwen_folder: Path, tiny_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "supports", lambda model: False)
    stop = 'rollout.openings.stop=["</answer>"]'
    with pytest.raises(ModelError, match=r"end at an end-of-turn token only; leave out rollout\.openings\.stop"):
        load(qwen_folder, tiny_recipe(stop))
    assert not load(qwen_folder, tiny_recipe(stop, "data.refill=1")).writes_openings
    cap = "training.importance_cap=2.0"
    with pytest.raises(
        ModelError, match=r"without the log-probabilities that training\.importance_cap compares.*refill"
    ):
        load(qwen_folder, tiny_recipe(cap))
    assert not load(qwen_folder, tiny_recipe(cap, "data.refill=1")).writes_openings


def test_a_recipe_that_needs_a_gpu_names_the_one_that_does_not(tiny_recipe: MakeRecipe) -> None:
    for change in ('model.backend="unsloth"', 'model.device="cuda"'):
        with pytest.raises(MissingHardwareError, match=r"recipes/tiny_cpu\.toml"):
            load_any(tiny_recipe(change), "nowhere")
