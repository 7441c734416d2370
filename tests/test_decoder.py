"""The engine's own decoder: the model's logits, and what happens where they are not."""

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from motif_lite.nouns import Sampling
from motif_lite.policies.engine import batch, engine
from motif_lite.policies.engine.decoder import Decoder, agree, can_decode
from motif_lite.policies.local import LocalPolicy
from motif_lite.policies.merged_lora import adapter_folded
from motif_lite.recipe.schema import Recipe
from tests.fakes import write
from tests.test_engine import GREEDY, ids, of_family
from tests.test_policies import disturb_adapter, load, rendered

MakeRecipe = Callable[..., Recipe]
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0}},
    "mistral": {"sliding_window": None}, "qwen2": {}, "qwen3": {"head_dim": 16},
}  # fmt: skip


@pytest.fixture
def policy(qwen_folder: Path, tiny_recipe: MakeRecipe) -> LocalPolicy:
    policy = load(qwen_folder, tiny_recipe())
    disturb_adapter(policy)
    return policy


def with_adapter(model: Any, **settings: Any) -> Any:
    """The model with a LoRA adapter that changes what it writes."""
    peft = get_peft_model(model, LoraConfig(r=4, lora_alpha=12, target_modules="all-linear", **settings)).eval()
    torch.manual_seed(1)
    for name, weight in peft.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.2)
    return peft


def steps(policy: LocalPolicy, model: Any, how: engine.Engine | None = None) -> torch.Tensor:
    """Log-probabilities of greedy replies to prompts of several lengths, one after the other."""
    other = LocalPolicy(model, policy.tokenizer, context_tokens=256, max_width=4)
    other.engine = how or other.engine
    return torch.cat([torch.tensor(reply.logprobs) for reply in write(other, rendered(policy, 4), GREEDY)])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("adapter", ["none", "thin products", "folded"])
def test_logits_are_the_models_own(policy: LocalPolicy, family: str, adapter: str) -> None:
    model = of_family(policy, family, **FAMILIES[family])
    peft = None if adapter == "none" else with_adapter(model)
    assert can_decode(model)
    alone = engine.Engine(model)
    alone.decodes = False
    with torch.inference_mode(False), adapter_folded(peft) if adapter == "folded" else torch.no_grad():
        own, ours = steps(policy, model, alone), steps(policy, model)
    assert torch.allclose(own, ours, atol=1e-5)
    if peft is not None:
        with peft.disable_adapter():
            bare = steps(policy, model)
        assert bare.shape != own.shape or not torch.allclose(own, bare, atol=0.1)


@pytest.mark.parametrize("settings", [{"use_dora": True}, {"lora_bias": True}, {"use_rslora": True}])
def test_an_adapter_of_another_kind_is_left_to_peft(policy: LocalPolicy, settings: dict[str, Any]) -> None:
    model = of_family(policy, "qwen2")
    with_adapter(model, **settings)
    alone = engine.Engine(model)
    alone.decodes = False
    assert torch.allclose(steps(policy, model, alone), steps(policy, model), atol=1e-5)


def adapter_left_out(decoder: Any, model: Any) -> None:
    for layer, stock in zip(decoder._layers, model.get_decoder().layers, strict=True):
        layer._value = stock.self_attn.v_proj.get_base_layer()


def another_rotary_base(decoder: Any, model: Any) -> None:
    decoder._cosines, decoder._sines = decoder._cosines.roll(1, 0), decoder._sines.roll(1, 0)


def heads_in_another_order(decoder: Any, model: Any) -> None:
    layer, query = decoder._layers[0], decoder._layers[0]._query
    layer._query = lambda states: query(states).roll(layer._size, -1)


def scale_forgotten(decoder: Any, model: Any) -> None:
    for layer in decoder._layers:
        layer._scale = 1.0


def adapter_of_yesterday(decoder: Any, model: Any) -> None:
    before = copy.deepcopy(model)
    for name, weight in before.named_parameters():
        if "lora_B" in name:
            weight.data.mul_(0.8)
    decoder._layers = Decoder(before, 256)._layers


@pytest.mark.parametrize(
    "fault", [adapter_left_out, another_rotary_base, heads_in_another_order, scale_forgotten, adapter_of_yesterday]
)
def test_a_decoder_that_is_wrong_is_found_before_its_first_token_and_said_once(
    policy: LocalPolicy,
    fault: Callable[[Any, Any], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = ids(write(policy, rendered(policy, 6), GREEDY))

    class Faulty(Decoder):
        def __init__(self, model: Any, capacity: int) -> None:
            super().__init__(model, capacity)
            fault(self, model)

    monkeypatch.setattr(batch, "Decoder", Faulty)
    monkeypatch.setattr("motif_lite.policies.merged_lora.LARGEST_FOLDED_BYTES", 0)  # the adapter stays two products
    with caplog.at_level(logging.WARNING):
        assert ids(write(policy, rendered(policy, 6), GREEDY)) == expected
        assert ids(write(policy, rendered(policy, 6), GREEDY)) == expected
    assert len([record for record in caplog.records if "other logits than the model" in record.getMessage()]) == 1


def test_an_adapter_that_was_trained_meanwhile_is_the_one_that_writes(policy: LocalPolicy) -> None:
    sampling = Sampling(max_tokens=8, temperature=0.0)
    before = write(policy, rendered(policy, 4), sampling)
    with torch.no_grad():
        for name, weight in policy.model.named_parameters():
            if "lora_B" in name:
                weight.mul_(-1)
    after = write(policy, rendered(policy, 4), sampling)
    assert [reply.logprobs for reply in before] != [reply.logprobs for reply in after]


def test_logits_of_noise_do_not_pass_for_rounding() -> None:
    logits = torch.randn(4, 100, generator=torch.Generator().manual_seed(0))
    for precision in (torch.float32, torch.bfloat16, torch.float16):
        assert agree((logits * (1 + 1e-7)).to(precision), logits.to(precision))
        assert not agree(logits.to(precision) * 1.1, logits.to(precision))
        assert not agree(logits.to(precision) * torch.nan, logits.to(precision))
