"""The engine's own decoder: the model's logits, and what happens where they are not."""

import copy
import logging
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from motif_lite.nouns import Sampling
from motif_lite.policies.engine import batch, checking, engine, graphs
from motif_lite.policies.engine.decoder import Decoder, can_decode
from motif_lite.policies.engine.graphs import Graphs, Key
from motif_lite.policies.engine.products import Product, Room, joined, products
from motif_lite.policies.local import LocalPolicy
from motif_lite.policies.merged_lora import adapter_folded
from motif_lite.policies.packing.packed_model import can_pack
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
    for layer, stock in zip(decoder.layers, model.get_decoder().layers, strict=True):
        layer._down = products((stock.mlp.down_proj.get_base_layer(),), None)


def another_rotary_base(decoder: Any, model: Any) -> None:
    half = decoder._cosines.shape[-1] // 2
    turns = torch.outer(torch.arange(len(decoder._cosines)), 3.0 ** -torch.arange(half))
    decoder._cosines, decoder._sines = turns.cos().repeat(1, 2), torch.cat((-turns.sin(), turns.sin()), 1)


def wrong_as_soon_as_a_token_is_a_step(decoder: Any, model: Any) -> None:
    for layer in decoder.layers:
        seen = layer._seen
        layer._seen = lambda query, keys, values, mask, seen=seen: (
            seen(query, keys, values, mask) * (2.0 if mask.shape[2] == 1 else 1.0)
        )


def an_embedding_that_is_scaled(decoder: Any, model: Any) -> None:
    embed = decoder._embed
    decoder._embed = lambda ids: 2 * embed(ids)


def layers_put_together_wrongly(decoder: Any, model: Any) -> None:
    output = decoder._output
    decoder._output = lambda *given: 0.5 * output(*given) + decoder.embedded(given[0])


def heads_in_another_order(decoder: Any, model: Any) -> None:
    layer, found = decoder.layers[0], decoder.layers[0]._query_key_value

    def swapped(states: torch.Tensor) -> torch.Tensor:
        whole, size = found(states), layer._num_queries * layer._size
        return torch.cat((whole[:, :size].roll(layer._size, -1), whole[:, size:]), -1)

    layer._query_key_value = swapped


def scale_forgotten(decoder: Any, model: Any) -> None:
    for layer in decoder.layers:
        layer._scale = 1.0


def adapter_of_yesterday(decoder: Any, model: Any) -> None:
    before = copy.deepcopy(model)
    for name, weight in before.named_parameters():
        if "lora_B" in name:
            weight.data.mul_(0.8)
    decoder.layers = Decoder(before, 256).layers


@pytest.mark.parametrize(
    ("fault", "part"),
    [
        (adapter_left_out, "the products of layer 0"),
        (another_rotary_base, "attention of layer 0"),
        (heads_in_another_order, "attention of layer 0"),
        (scale_forgotten, "attention of layer 0"),
        (adapter_of_yesterday, "attention of layer 0"),
        (wrong_as_soon_as_a_token_is_a_step, "attention of layer 0"),
        (an_embedding_that_is_scaled, "the embedding"),
        (layers_put_together_wrongly, "the logits"),
    ],
)
def test_a_decoder_that_is_wrong_is_found_before_its_first_token_and_said_once(
    policy: LocalPolicy,
    fault: Callable[[Any, Any], None],
    part: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = ids(write(policy, rendered(policy, 6), GREEDY))

    class Faulty(Decoder):
        def __init__(self, model: Any, capacity: int, room: Room | None = None) -> None:
            super().__init__(model, capacity, room)
            fault(self, model)

    monkeypatch.setattr(engine, "Decoder", Faulty)
    monkeypatch.setattr("motif_lite.policies.merged_lora.LARGEST_FOLDED_BYTES", 0)  # the adapter stays two products
    with caplog.at_level(logging.WARNING):
        assert ids(write(policy, rendered(policy, 6), GREEDY)) == expected
        assert ids(write(policy, rendered(policy, 6), GREEDY)) == expected
    [said] = [record.getMessage() for record in caplog.records if "is not the model's" in record.getMessage()]
    assert f"is not the model's ({part})" in said, "an exception is no finding"


def test_an_adapter_that_was_trained_meanwhile_is_the_one_that_writes(policy: LocalPolicy) -> None:
    sampling = Sampling(max_tokens=8, temperature=0.0)
    before = write(policy, rendered(policy, 4), sampling)
    with torch.no_grad():
        for name, weight in policy.model.named_parameters():
            if "lora_B" in name:
                weight.mul_(-1)
    after = write(policy, rendered(policy, 4), sampling)
    assert [reply.logprobs for reply in before] != [reply.logprobs for reply in after]


def test_noise_does_not_pass_for_rounding() -> None:
    own = torch.randn(40, 100, generator=torch.Generator().manual_seed(0))
    for precision, off in {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.01}.items():
        most = checking.MOST_OFF[precision]
        assert checking._share((own * (1 + 1e-5)).to(precision), own.to(precision)) <= most
        assert checking._share((own * (1 + off)).to(precision), own.to(precision)) > most
        assert not checking._share(own.to(precision) * torch.nan, own.to(precision)) <= most


KEEPS = pytest.mark.parametrize("keeps", [True, False], ids=["dequantised once", "dequantised at every step"])


@pytest.fixture
def in_4_bits(qwen_folder: Path, tiny_recipe: MakeRecipe) -> LocalPolicy:
    policy = load(qwen_folder, tiny_recipe("model.load_in_4bit=true"))
    disturb_adapter(policy)
    return policy


@KEEPS
@pytest.mark.parametrize("adapter", [True, False])
def test_weights_of_4_bits_are_multiplied_as_bitsandbytes_does(
    in_4_bits: LocalPolicy, keeps: bool, adapter: bool
) -> None:
    layer = in_4_bits.model.get_base_model().get_decoder().layers[0]
    states = torch.randn(5, layer.hidden_size, generator=torch.Generator().manual_seed(1))
    attention, mlp = layer.self_attn, layer.mlp
    together, made = (
        [(attention.q_proj, attention.k_proj, attention.v_proj), (mlp.gate_proj, mlp.up_proj)],
        Room(keeps=keeps),
    )
    with torch.no_grad(), nullcontext() if adapter else in_4_bits.model.disable_adapter():
        ours = [products(modules, made) for modules in together]
        for modules, multiplied in zip(together, ours, strict=True):
            for module, found in zip(modules, multiplied(states), strict=True):
                torch.testing.assert_close(found, module(states), atol=1e-5, rtol=1e-5)


def test_queries_stand_as_far_apart_as_attention_on_a_gpu_takes_them(
    qwen_folder: Path, tiny_recipe: MakeRecipe
) -> None:
    policy = load(qwen_folder, tiny_recipe("model.load_in_4bit=true", "lora.rank=3"))
    disturb_adapter(policy)
    attention = policy.model.get_base_model().get_decoder().layers[0].self_attn
    modules = [attention.q_proj, attention.k_proj, attention.v_proj]
    with torch.no_grad():
        whole = joined(modules, Room(keeps=True))(torch.ones(2, attention.q_proj.in_features))
        expected = torch.cat([module(torch.ones(2, attention.q_proj.in_features)) for module in modules], -1)
    assert whole.stride(0) % 8 == 0
    torch.testing.assert_close(whole, expected, atol=1e-5, rtol=1e-5)


@KEEPS
def test_an_engine_that_dequantises_writes_what_the_models_modules_write(in_4_bits: LocalPolicy, keeps: bool) -> None:
    prompts = rendered(in_4_bits, 6)
    expected = write(in_4_bits, prompts, GREEDY)
    assert in_4_bits.engine is not None
    in_4_bits.engine.keeps_weights = keeps
    found = write(in_4_bits, prompts, GREEDY)
    assert ids(found) == ids(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=2e-5)
    assert in_4_bits.engine.decodes


def rounded(norm: Product, states: torch.Tensor) -> torch.Tensor:
    return (1 + 2e-5) * norm(states)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_of_4_bit_layers_may_round_as_they_compute(
    qwen_folder: Path,
    tiny_recipe: MakeRecipe,
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """On every GPU bitsandbytes multiplies in 16 bits, and the states around its products have 32.

    What is rounding there makes some states other ones in 16 bits. Where a real model is a thousand wide, the last
    bits do; here it takes more.
    """
    policy = load(qwen_folder, tiny_recipe("model.load_in_4bit=true", f"model.dtype='{str(dtype)[6:]}'"))
    disturb_adapter(policy)
    assert policy.engine is not None
    assert (policy.model.dtype, policy.engine.precision) == (torch.float32, dtype)

    class Rounding(Decoder):
        def __init__(self, model: Any, capacity: int, room: Room | None = None) -> None:
            super().__init__(model, capacity, room)
            for layer in self.layers:
                layer._before = partial(rounded, layer._before)

    model, prompt = policy.engine._model, policy.encode(rendered(policy, 1, 12, 12)[0])
    with torch.no_grad():
        largest = max(each.share for each in checking.differences(model, Rounding(model, 256), prompt, dtype))
    assert (largest > checking.MOST_OFF[torch.float32]) == (dtype == torch.bfloat16), largest
    monkeypatch.setattr(engine, "Decoder", Rounding)
    write(policy, rendered(policy, 2), Sampling(max_tokens=2, temperature=0.0))
    assert policy.engine.decodes, caplog.text
    assert can_pack(policy)


class NotRecorded(Graphs):
    """What a GPU records is computed anew: the shapes, their rounding and the memory are as there."""

    def __init__(self, num_rows: int) -> None:
        super().__init__(num_rows)
        self.keys: list[Key] = []

    def logits(self, key: Key, compute: Callable[[], torch.Tensor]) -> torch.Tensor:
        self.keys.append(key)
        found = compute()
        assert (len(found), key[0] <= self._num_rows) == (key[0], True)
        return found


@pytest.mark.parametrize("is_stock", [True, False])
def test_steps_of_rounded_shapes_write_the_same(
    policy: LocalPolicy, monkeypatch: pytest.MonkeyPatch, is_stock: bool
) -> None:
    """As on a GPU; a model that is not stock, as Unsloth's, has its prompts read by the decoder as well."""
    expected = write(policy, rendered(policy, 9), GREEDY)
    policy.max_width = 4
    assert policy.engine is not None
    recorded = NotRecorded(4)
    real = batch.Batch

    def with_graphs(*arguments: Any, **named: Any) -> batch.Batch:
        return real(*arguments, **named | {"graphs": recorded, "is_stock": is_stock})

    monkeypatch.setattr(engine, "Batch", with_graphs)
    monkeypatch.setattr(policy.engine, "_is_stock", is_stock)
    monkeypatch.setattr(graphs, "_COLUMNS", 16)
    found = write(policy, rendered(policy, 9), GREEDY)
    assert ids(found) == ids(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
    assert {columns % 16 for _, columns in recorded.keys} <= {0, max(columns for _, columns in recorded.keys) % 16}
    assert 2 < len(set(recorded.keys)) < len(recorded.keys) / 3


def test_prompts_that_share_most_of_a_long_one_are_read_within_the_rotations(
    policy: LocalPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short rest is padded to the longest that is read with it; what pads it must not ask for positions beyond."""
    prompts = ["abcd" * 20, "abcd" * 18 + "efgh", "abcd" * 5 + "efgh" * 15]
    few = GREEDY.model_copy(update={"max_tokens": 4})
    expected = [write(policy, [prompt], few)[0] for prompt in prompts]
    assert policy.engine is not None
    monkeypatch.setattr(policy.engine, "_is_stock", False)
    assert ids(write(policy, prompts, few)) == ids(expected)


def test_steps_that_cannot_be_recorded_are_taken_one_by_one_and_that_is_said(
    policy: LocalPolicy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Graphs):
        def logits(self, *arguments: Any) -> torch.Tensor:
            raise RuntimeError("operation not permitted when stream is capturing")

    real = batch.Batch
    expected = ids(write(policy, rendered(policy, 6), GREEDY))
    monkeypatch.setattr(engine, "Batch", lambda *given, **named: real(*given, **named | {"graphs": Failing(6)}))
    with caplog.at_level(logging.WARNING):
        assert ids(write(policy, rendered(policy, 6), GREEDY)) == expected
    assert "cannot be recorded (operation not permitted" in caplog.text


def test_a_decoder_that_disagrees_with_a_model_that_is_not_stock_writes_nothing(
    policy: LocalPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert policy.engine is not None
    monkeypatch.setattr(policy.engine, "_is_stock", False)
    monkeypatch.setitem(checking.MOST_OFF, torch.float32, 0.0)  # nothing is that exact
    heard: list[int] = []
    with pytest.raises(engine.OtherDecoderError, match="attention of layer 0"):
        policy.generate(
            rendered(policy, 2), GREEDY, seeds=[0, 1], on_progress=lambda progress: heard.append(progress.written)
        )
    assert heard == []


class FakeCuda:
    """CUDA graphs of a GPU that is not there: what is recorded runs once, and again at each replay."""

    def __init__(self, *, replays: bool = True, fails_at: int = -1) -> None:
        self.replays, self.fails_at = replays, fails_at
        self.pools: list[object] = []

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        outer = self

        class Graph:
            run: Callable[[], None]

            def pool(self) -> str:
                return "the pool"

            def replay(self) -> None:
                if outer.replays:
                    self.run()

        monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda: None)
        monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
        monkeypatch.setattr(torch.cuda, "graph", lambda graph, pool: self.recording(pool))
        record = Graphs._record

        def recorded(graphs: Graphs, compute: Callable[[], torch.Tensor]) -> Any:
            graph = record(graphs, compute)

            def run() -> None:
                logits = compute()
                graphs._logits[: len(logits)].copy_(logits)

            graph.run = run
            return graph

        monkeypatch.setattr(Graphs, "_record", recorded)

    def recording(self, pool: object) -> Any:
        self.pools.append(pool)
        if len(self.pools) - 1 == self.fails_at:
            raise RuntimeError("operation not permitted when stream is capturing\nand more")
        return nullcontext()


def test_recorded_steps_are_replayed_from_one_pool_into_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda()
    cuda.use(monkeypatch)
    made, calls = Graphs(4), [0]

    def compute(rows: int) -> torch.Tensor:
        calls[0] += 1
        return torch.ones(rows, 3)

    first = made.logits((4, 256), lambda: compute(4))
    assert first.shape == (4, 3)
    assert calls == [3], "once not recorded, once recorded, once replayed"
    made.logits((4, 256), lambda: compute(4))
    assert calls == [4]
    fewer = made.logits((2, 256), lambda: compute(2))
    assert (fewer.shape, fewer.data_ptr()) == ((2, 3), first.data_ptr())
    assert cuda.pools == [None, "the pool"]


def test_a_replay_that_does_nothing_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeCuda(replays=False).use(monkeypatch)
    calls = [0.0]

    def compute() -> torch.Tensor:
        calls[0] += 1
        return torch.full((2, 3), 1 / calls[0])

    with pytest.raises(RuntimeError, match="other logits"):
        Graphs(2).logits((2, 256), compute)
