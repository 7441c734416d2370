"""Packed rows against each row alone: log-probabilities, gradients, and what stays within memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from motif_lite.planning import shapes
from motif_lite.policies.packing import packed_model
from motif_lite.policies.packing.logprobs import token_logprobs
from motif_lite.policies.packing.packed_model import PackedModel, can_pack
from motif_lite.policies.packing.tree import WORTH_SHARING, pieces, tree_of
from motif_lite.recipe.schema import Recipe
from motif_lite.training.determinism import deterministic
from tests.oracle import gradient_of
from tests.random_models import write_random
from tests.test_policies import disturb_adapter, load
from tests.test_training import Training

MakeRecipe = Callable[..., Recipe]

TOKENS = st.lists(st.integers(0, 1), min_size=1, max_size=40)


def lengthened(rows: list[list[int]]) -> list[list[int]]:
    """Each token ten times, so that beginnings are long enough to be shared."""
    return [[token for token in row for _ in range(10)] for row in rows]


@settings(max_examples=200, deadline=None)
@given(st.lists(TOKENS, min_size=1, max_size=9).map(lengthened))
def test_a_tree_holds_every_row_in_full_and_what_they_share_once(rows: list[list[int]]) -> None:
    tree = tree_of(rows)
    for row, places in zip(rows, tree.places, strict=True):
        assert [tree.ids[place] for place in places] == row
        assert [tree.positions[place] for place in places] == list(range(len(row)))
    segments = [segment for family in tree.families for segment in family.segments]
    assert [start for start, _ in segments] == [0, *(end for _, end in segments[:-1])], "one behind the other"
    assert segments[-1][1] == len(tree.ids) == len(set().union(*map(set, tree.places)))
    beginnings = {tuple(row[:length]) for row in rows for length in range(1, len(row) + 1)}
    assert len(beginnings) <= len(tree.ids) <= len(beginnings) + 2 * len(rows) * (WORTH_SHARING - 1)


@settings(max_examples=100, deadline=None)
@given(st.lists(TOKENS, min_size=1, max_size=9).map(lengthened), st.integers(1, 900), st.none() | st.integers(1, 4))
def test_pieces_hold_each_row_once_and_no_more_tokens_than_allowed(
    rows: list[list[int]], most_tokens: int, most_rows: int | None
) -> None:
    found = pieces(rows, most_tokens, most_rows)
    assert sorted(row for piece in found for row in piece) == list(range(len(rows)))
    for piece in found:
        assert len(piece) <= (most_rows or len(rows))
        assert len(piece) == 1 or len(tree_of([rows[row] for row in piece]).ids) <= most_tokens


def family_of_rows(policy: Any) -> list[tuple[list[int], list[int]]]:
    """Openings of two problems, and later rounds whose prompts go on from one of them; as (prompt, reply)."""
    generator = torch.Generator().manual_seed(0)

    def some(count: int) -> list[int]:
        return torch.randint(5, 20, (count,), generator=generator).tolist()

    system, question, other = some(30), some(20), some(25)
    first = [(system + question, some(count)) for count in (5, 17, 1)]
    second = [(system + other, some(count)) for count in (9, 3)]
    progress = system + question + some(19)
    return [*first, *second, (progress, some(6)), (progress, some(11)), first[0], (some(3), some(4))]


def unshared(policy: Any, rows: list[tuple[list[int], list[int]]], temperature: float) -> torch.Tensor:
    found = []
    for prompt, reply in rows:
        logits = policy.model(input_ids=torch.tensor([prompt + reply])).logits[0, len(prompt) - 1 : -1] / temperature
        found.append(logits.log_softmax(-1).gather(-1, torch.tensor(reply)[:, None])[:, 0])
    return torch.cat(found)


def weighted_gradient(policy: Any, logprobs: torch.Tensor) -> Any:
    policy.model.zero_grad()
    (logprobs * torch.linspace(-1, 2, len(logprobs))).sum().backward()  # type: ignore[no-untyped-call]
    return torch.from_numpy(gradient_of(policy.model))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_gradient_of_packed_rows_is_that_of_each_row_alone(
    qwen_folder: Path, tiny_recipe: MakeRecipe, checkpointing: bool
) -> None:
    policy = load(qwen_folder, tiny_recipe())
    disturb_adapter(policy)
    rows = family_of_rows(policy)
    alone = unshared(policy, rows, 0.7)
    expected = weighted_gradient(policy, alone)
    if checkpointing:
        policy.model.gradient_checkpointing_enable({"use_reentrant": False})
        policy.model.enable_input_require_grads()
        policy.model.train()
    packed = PackedModel(policy.model)
    with packed.ready():
        found, entropies = packed.logprobs([prompt for prompt, _ in rows], [reply for _, reply in rows], 0.7)
        assert torch.allclose(found, alone, atol=1e-5)
        assert (entropies > 0).all()
        gradient = weighted_gradient(policy, found)
    assert (gradient - expected).norm() < 1e-5 * expected.norm()
    assert policy.model.get_base_model().config._attn_implementation == "sdpa"


def test_two_threads_add_gradients_up_in_one_order(qwen_folder: Path, tiny_recipe: MakeRecipe) -> None:
    policy = load(qwen_folder, tiny_recipe())
    disturb_adapter(policy)
    prompts, replies = [[5] * 30] * 24, [list(range(5, 65))] * 24  # each state gets 24 gradients
    packed, num_threads = PackedModel(policy.model), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with packed.ready(), deterministic(policy.model.device):
            found = {
                weighted_gradient(policy, packed.logprobs(prompts, replies, 1.0)[0]).numpy().tobytes()
                for _ in range(20)
            }
    finally:
        torch.set_num_threads(num_threads)
    assert len(found) == 1
    assert not torch.are_deterministic_algorithms_enabled(), "left as it was"


def test_log_probabilities_in_chunks_are_those_of_all_logits_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    head, states = torch.nn.Linear(8, 50), torch.randn(23, 8, requires_grad=True)
    head.requires_grad_(False)
    targets, weights = torch.randint(50, (23,)), torch.randn(23)
    distributions = (head(states) / 1.3).log_softmax(-1)
    expected = distributions.gather(-1, targets[:, None])[:, 0]
    entropies = -(distributions.exp() * distributions).sum(-1)
    (slope,) = torch.autograd.grad((expected * weights).sum(), states)
    monkeypatch.setattr("motif_lite.policies.packing.logprobs.LOGIT_CHUNK_BYTES", 4 * 50 * 7)
    found, found_entropies = token_logprobs(head, states, targets, 1.3)
    assert torch.allclose(found, expected, atol=1e-6)
    assert torch.allclose(found_entropies, entropies, atol=1e-5)
    (found_slope,) = torch.autograd.grad((found * weights).sum(), states)
    assert torch.allclose(found_slope, slope, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "config", "packs"),
    [
        ("llama", {}, True),
        ("qwen3", {"head_dim": 8}, True),
        ("mistral", {"sliding_window": None}, True),
        ("mistral", {"sliding_window": 16}, False),
        ("qwen2", {"sliding_window": 16, "use_sliding_window": False}, True),
        ("qwen2", {"sliding_window": 16, "use_sliding_window": True, "max_window_layers": 1}, False),
        ("phi3", {"sliding_window": 16}, False),
        ("phi3", {"sliding_window": None, "resid_pdrop": 0.1}, False),
        ("llama", {"attention_dropout": 0.1}, False),
        ("gpt_neox", {}, False),
        ("granite", {"logits_scaling": 3.0}, False),
    ],
)
def test_models_pack_where_rows_keep_their_log_probabilities(
    kind: str, config: dict[str, Any], packs: bool, tmp_path: Path, tiny_recipe: MakeRecipe
) -> None:
    policy = load(write_random(tmp_path / "model", kind, **config), tiny_recipe('lora.targets="all-linear"'))
    assert can_pack(policy) is packs
    planned = shapes.of(str(tmp_path / "model"))
    assert planned.packs is packs
    assert planned.sees_all is (policy.engine is not None)


SIZES = {
    "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 24, "vocab_size": 99,
}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "packs"),
    [
        ({"model_type": "qwen2", "sliding_window": 32768, "use_sliding_window": False}, True),
        ({"model_type": "llama", "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, True),
        ({"model_type": "llama", "rope_scaling": {"type": "dynamic", "factor": 2.0}}, False),
        ({"model_type": "mistral", "sliding_window": None}, True),
        ({"model_type": "mistral"}, False),
        ({"model_type": "phi3", "sliding_window": 2047, "rope_scaling": None}, False),
        ({"model_type": "phi3", "sliding_window": None, "rope_scaling": {"type": "su"}}, False),
        ({"model_type": "phi3", "rope_parameters": {"rope_type": "longrope"}}, False),
        ({"model_type": "gemma2"}, False),
        ({"text_config": {"model_type": "gemma3_text", **SIZES}}, False),
    ],
)
def test_a_plan_knows_from_config_json_which_models_pack(config: dict[str, Any], packs: bool) -> None:
    assert shapes.ModelShape.from_config(SIZES | config if "model_type" in config else config, "it").packs is packs


def gradients_of_a_step(
    recipe: Recipe, folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Any, list[str]]:
    """What the optimiser gets in the first step, and what was noted."""
    from motif_lite.training.callback import StepCallback

    seen: list[Any] = []
    before = StepCallback.on_pre_optimizer_step

    def watched(self: StepCallback, *arguments: Any, **named: Any) -> None:
        seen.append(gradient_of(named["model"]))
        before(self, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(StepCallback, "on_pre_optimizer_step", watched)
        training = Training(recipe, folder, out)
        disturb_adapter(training.policy, scale=0.01)  # type: ignore[arg-type]
        training.train()
    return torch.from_numpy(seen[0]), training.observer.notes


@pytest.mark.parametrize(
    ("credit", "loss_type", "scale"),
    [
        ("opening", "bnpo", "group"), ("opening", "grpo", "none"), ("opening", "dr_grpo", "batch"),
        ("chain", "bnpo", "batch"), ("chain", "grpo", "group"), ("tree", "dr_grpo", "none"), ("tree", "bnpo", "group"),
    ],
)  # fmt: skip
def test_a_packed_step_has_the_gradient_of_an_unpacked_one(
    credit: str,
    loss_type: str,
    scale: str,
    tiny_recipe: MakeRecipe,
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = tiny_recipe(
        f'training.credit="{credit}"', f'training.loss_type="{loss_type}"', f'training.scale_rewards="{scale}"',
        "training.max_steps=1", "training.micro_batch_size=2",
    )  # fmt: skip
    packed, notes = gradients_of_a_step(recipe, tiny_folder, tmp_path / "packed", monkeypatch)
    assert not any("cannot share" in note for note in notes)
    monkeypatch.setitem(packed_model.MOST_OFF, torch.float32, 0.0)  # nothing is that exact
    alone, notes = gradients_of_a_step(recipe, tiny_folder, tmp_path / "alone", monkeypatch)
    assert any("rows of this model cannot share it" in note for note in notes)
    assert alone.norm() > 1e-4
    assert (packed - alone).norm() < 1e-5 * alone.norm()


def test_under_autocast_the_gradient_points_where_that_in_32_bits_does(
    tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bfloat16 products; this processor may have to emulate them."""
    recipes = [tiny_recipe(f'training.autocast="{way}"', "training.max_steps=1") for way in ("bfloat16", "off")]
    half, full = (
        gradients_of_a_step(recipe, tiny_folder, tmp_path / recipe.training.autocast, monkeypatch)[0]
        for recipe in recipes
    )
    assert not half.equal(full)
    assert half @ full > 0.999 * half.norm() * full.norm()


@pytest.mark.parametrize(
    ("autocast", "dtype", "expected"),
    [
        ("off", "auto", False),
        ("bfloat16", "auto", True),
        ("bfloat16", "float32", True),
        ("bfloat16", "bfloat16", False),
    ],
)
def test_autocast_is_for_32_bit_weights(
    autocast: str, dtype: str, expected: bool, tiny_recipe: MakeRecipe, qwen_folder: Path, tmp_path: Path
) -> None:
    from motif_lite.training import options

    recipe = tiny_recipe(f'training.autocast="{autocast}"', f'model.dtype="{dtype}"')
    assert options.grpo_options(recipe, load(qwen_folder, tiny_recipe()), tmp_path)["bf16"] is expected
