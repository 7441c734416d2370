"""Replies by products in bfloat16 on a CPU: close to those in 32 bits, by layers that are put back, and planned for."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from motif_lite.errors import MissingHardwareError, RecipeError
from motif_lite.jobs.checking import TABLES
from motif_lite.jobs.exactness import note_what_is_not_exact
from motif_lite.nouns import Reply, Sampling
from motif_lite.planning import memory, planner, precision, shapes, timing
from motif_lite.planning.machine import GIB, Machine
from motif_lite.planning.speeds import Speed
from motif_lite.policies import bf16_products
from motif_lite.policies.transformers_policy import TransformersPolicy
from motif_lite.recipe.keys import changed
from motif_lite.recipe.schema import Recipe
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.resuming import with_decisions_of
from tests.fakes import RecordingObserver
from tests.test_policies import disturb_adapter

pytestmark = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="PyTorch multiplies in bfloat16 with AVX-512 only"
)

MakeRecipe = Callable[..., Recipe]

HERE = Machine("cpu", 24.0, "here")


def _loaded(recipe: Recipe, folder: Path) -> TransformersPolicy:
    policy = TransformersPolicy.load(changed(recipe, {"rollout.max_width": 8}), str(folder))
    disturb_adapter(policy, 0.02)
    return policy


def _written(policy: TransformersPolicy, num_tokens: int = 24) -> list[Reply]:
    prompts = [policy.render([{"role": "user", "content": f"What is {n} plus {n}?"}]) for n in (2, 30, 405)]
    return policy.generate(prompts, Sampling(max_tokens=num_tokens), seeds=[1, 2, 3])


@torch.no_grad()
def _off(policy: TransformersPolicy, replies: list[Reply], *, autocast: bool) -> torch.Tensor:
    """How far the replies' log-probabilities are from the model's own in 32 bits, or autocast's from those."""
    found = []
    for number, reply in zip((2, 30, 405), replies, strict=True):
        prompt = policy.encode(policy.render([{"role": "user", "content": f"What is {number} plus {number}?"}]))
        ids, new = torch.tensor([[*prompt, *reply.token_ids]]), torch.tensor(reply.token_ids)
        ways = []
        for enabled in (False, autocast):
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                logits = policy.model(input_ids=ids).logits[0, -len(new) - 1 : -1]
            ways.append(logits.float().log_softmax(-1).gather(-1, new[:, None])[:, 0])
        other = ways[1] if autocast else torch.tensor(reply.logprobs)
        found.append((ways[0] - other).abs())
    return torch.cat(found)


def test_a_real_model_writes_what_it_would_in_32_bits_but_for_rounding(
    smollm2: Path, tiny_recipe: MakeRecipe, caplog: pytest.LogCaptureFixture
) -> None:
    policy = _loaded(tiny_recipe('rollout.weights="16bit"', "model.max_seq_length=512"), smollm2)
    replies = _written(policy)
    assert policy.engine is not None
    assert policy.engine.decodes, caplog.text
    ours, trainers = (_off(policy, replies, autocast=autocast) for autocast in (False, True))
    assert 1e-5 < ours.mean() < 1.5 * trainers.mean(), "it rounds, no more than training under autocast does"


def test_layers_are_put_back_and_weights_reordered_once(
    tiny_folder: Path, tiny_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    reordered = []
    reorder = torch.ops.mkldnn._reorder_linear_weight
    policy = _loaded(tiny_recipe('rollout.weights="16bit"'), tiny_folder)

    def counted(weight: torch.Tensor, rows: int) -> object:
        reordered.append(weight.shape)
        return reorder(weight, rows)

    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_linear_weight", counted)
    first, again = _written(policy), _written(policy)
    assert first == again
    layers = [module for module in policy.model.modules() if type(module) is torch.nn.Linear]
    assert 0 < len(reordered) <= len(layers)
    assert not any("forward" in vars(layer) for layer in layers)
    assert {weight.dtype for weight in policy.model.parameters()} == {torch.float32}
    assert _off(policy, first, autocast=False).max() > 1e-5, "bfloat16 was at work"


def test_an_adapter_that_was_trained_meanwhile_is_the_one_that_writes(
    tiny_folder: Path, tiny_recipe: MakeRecipe
) -> None:
    policy = _loaded(tiny_recipe('rollout.weights="16bit"'), tiny_folder)
    before = _written(policy)
    with torch.no_grad():
        for name, weight in policy.model.named_parameters():
            if "lora_B" in name:
                weight.mul_(-3)
    assert [reply.logprobs for reply in _written(policy)] != [reply.logprobs for reply in before]


@pytest.mark.parametrize(
    ("changes", "writes", "updates"),
    [
        ((), False, False),
        (('training.autocast="bfloat16"',), True, True),
        (('rollout.weights="16bit"',), True, False),
        (('rollout.weights="32bit"', 'training.autocast="bfloat16"'), False, True),
        (('training.autocast="bfloat16"', 'model.dtype="bfloat16"'), False, False),
        (('training.autocast="bfloat16"', "model.load_in_4bit=true"), False, False),
    ],
)
def test_what_multiplies_in_bfloat16(
    changes: tuple[str, ...], writes: bool, updates: bool, tiny_recipe: MakeRecipe
) -> None:
    recipe = tiny_recipe(*changes)
    assert precision.writes_in_bf16(recipe, "cpu") is writes
    assert precision.updates_in_bf16(recipe, "cpu") is updates
    assert not precision.writes_in_bf16(recipe, "cuda")


@pytest.mark.parametrize(
    ("has", "device", "expected"), [(True, "cpu", "bfloat16"), (False, "cpu", "off"), (True, "cuda", "off")]
)
def test_auto_is_bfloat16_on_a_processor_that_has_it(
    has: bool, device: str, expected: str, tiny_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "has_instructions", lambda: has)
    machine = Machine("cuda" if device == "cuda" else "cpu", 24.0, "here")
    plan = planner.make(tiny_recipe('training.autocast="auto"'), shapes.TINY, machine)
    assert plan.recipe.training.autocast == expected


def test_a_processor_without_it_writes_in_32_bits_unless_the_recipe_insists(
    tiny_folder: Path, tiny_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    insisting, following = (
        tiny_recipe(change) for change in ('rollout.weights="16bit"', 'training.autocast="bfloat16"')
    )
    with pytest.raises(MissingHardwareError, match="32bit"):
        _loaded(bf16_products.where_possible(insisting, "cpu", trains=True), tiny_folder)
    assert not caplog.text
    used = bf16_products.where_possible(insisting, "cpu", trains=False)
    assert used.rollout.weights == "32bit", "a model that is only used may be used elsewhere"
    policy = _loaded(bf16_products.where_possible(following, "cpu", trains=True), tiny_folder)
    assert "32 bits" in caplog.text
    assert _off(policy, _written(policy), autocast=False).max() < 1e-4


def test_the_plan_counts_the_copy_and_the_speed(tiny_recipe: MakeRecipe) -> None:
    shape = shapes.KNOWN["qwen2.5-0.5b-instruct"]
    full = tiny_recipe("training.micro_batch_size=8", "rollout.max_width=8")
    half = changed(full, {"training.autocast": "bfloat16"})
    more = memory.estimate(half, shape, HERE).total("openings") - memory.estimate(full, shape, HERE).total("openings")
    assert more == 2 * (shape.num_linear_weights + shape.vocab_size * shape.hidden_size)
    speed = Speed(10e9, 0.2e12, 0, in_bf16=Speed(10e9, 2e12, 0))
    slow, fast = (timing.step_seconds(recipe, shape, "cpu", speed) for recipe in (full, half))
    assert 0.4 * slow["openings"] < fast["openings"] < 0.6 * slow["openings"], "half the bytes, reading them decides"
    assert fast["update"] == pytest.approx(slow["update"] / 10)


def test_where_the_copy_alone_does_not_fit_replies_are_in_32_bits(tiny_recipe: MakeRecipe) -> None:
    shape = shapes.KNOWN["qwen2.5-0.5b-instruct"]
    given = ('training.autocast="bfloat16"', 'rollout.max_width="auto"', 'training.micro_batch_size="auto"')
    copy = 2 * (shape.num_linear_weights + shape.vocab_size * shape.hidden_size)

    def planned(machine: Machine, *changes: str) -> planner.Plan:
        return planner.make(tiny_recipe(*given, *changes), shape, machine)

    assert planned(HERE).recipe.rollout.weights == "16bit"
    narrow = changed(
        tiny_recipe(*given), {"rollout.max_width": 1, "training.micro_batch_size": 1, "rollout.weights": "32bit"}
    )
    least = memory.estimate(narrow, shape, HERE).peak
    small = Machine("cpu", (least + copy / 2) / 0.95 / GIB, "a small one")
    assert planned(small).recipe.rollout.weights == "32bit"
    assert planned(small).fits
    insisting = planned(small, 'rollout.weights="16bit"')
    assert insisting.recipe.rollout.weights == "16bit"
    assert insisting.changes == {"rollout.weights": "32bit"}
    assert planned(HERE, 'rollout.weights="32bit"').recipe.rollout.weights == "32bit"


def test_a_run_of_an_earlier_version_says_in_which_precision_it_goes_on(
    tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe, observer = tiny_recipe('training.autocast="bfloat16"'), RecordingObserver()
    run = RunDirectory.create(tmp_path / "earlier", recipe, "")
    resumed = with_decisions_of(run, recipe, TABLES)
    assert resumed.rollout.weights == "auto"
    note_what_is_not_exact(resumed, run.root, observer)
    assert not observer.notes, "where nothing is decided, as on a GPU, nothing has changed"
    decided = planner.make(resumed, shapes.TINY, HERE).recipe
    note_what_is_not_exact(decided, run.root, observer)
    [note] = observer.notes
    assert "did not record in which precision" in note
    assert 'rollout.weights = "16bit"' in note
    run = RunDirectory.create(tmp_path / "later", decided, "")
    assert with_decisions_of(run, recipe, TABLES).rollout.weights == "16bit"


def test_weights_in_4_bits_are_not_in_32(tiny_recipe: MakeRecipe) -> None:
    with pytest.raises(RecipeError, match=r'rollout\.weights = "32bit" is for a model in 32 bits'):
        tiny_recipe('rollout.weights="32bit"', "model.load_in_4bit=true")
