"""Which layers an adapter covers, on any architecture, and an adapter as the start of a run."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from motif_lite.errors import ModelError, RunError
from motif_lite.jobs import adapter_choice, checking, train_job
from motif_lite.planning import shapes
from motif_lite.policies import adapters
from motif_lite.policies.local import LocalPolicy
from motif_lite.policies.positions import require_positions
from motif_lite.recipe.schema import Recipe
from motif_lite.runs.directory import RunDirectory
from tests.conftest import write_random_qwen
from tests.fakes import RecordingObserver, write
from tests.random_models import write_random
from tests.test_policies import GREEDY, disturb_adapter, load, rendered

MakeRecipe = Callable[..., Recipe]
ROOT = Path(__file__).parents[1]
SMALL = ("lora.rank=4", "lora.alpha=8")


def model_of(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder)


# ---------------------------------------------------------------------------------------------------- the layers


@pytest.mark.parametrize(
    ("kind", "config", "targets"),
    [
        ("llama", {}, {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}),
        ("phi3", {}, {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}),
        ("glm4", {"head_dim": 8}, {"q_proj", "k_proj", "v_proj", "o_proj", "gate_up_proj", "down_proj"}),
        ("starcoder2", {}, {"q_proj", "k_proj", "v_proj", "o_proj", "c_fc", "c_proj"}),
        ("phi", {}, {"q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"}),
        ("gpt_neox", {}, {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"}),
    ],
)
def test_all_linear_layers_get_an_adapter_by_default(
    tmp_path: Path, kind: str, config: dict[str, Any], targets: set[str]
) -> None:
    found = adapters.coverage(model_of(write_random(tmp_path, kind, **config)), "all-linear", "folder")
    assert set(found.targets) == targets
    assert found.remark is None
    assert found.share > 0.99
    assert found.num_layers == found.num_linear == 2 * len(targets)


def test_what_linear_layers_leave_out_is_told_with_the_share(tmp_path: Path) -> None:
    """The experts of a Mixtral are stacked matrices, no linear layers."""
    model = model_of(write_random(tmp_path, "mixtral", num_local_experts=4))
    found = adapters.coverage(model, "all-linear", "folder")
    assert found.remark is not None
    assert "the adapter covers" in found.remark
    assert "leaves out" in found.remark
    assert "to cover all" not in found.remark, "they are no linear layers"
    assert "experts" in found.remark or "gate_up_proj" in found.remark
    assert found.share < 0.5


def test_a_choice_of_layers_is_told_with_the_share(tmp_path: Path) -> None:
    model = model_of(write_random(tmp_path, "phi3"))
    found = adapters.coverage(model, ["o_proj", "down_proj"], "folder")
    layers = [layer for block in model.model.layers for layer in (block.self_attn.o_proj, block.mlp.down_proj)]
    covered = sum(layer.weight.numel() for layer in layers)
    total = sum(w.numel() for name, w in model.named_parameters() if "layers" in name and w.ndim > 1)
    assert (found.covered, found.total) == (covered, total)
    assert (found.num_layers, found.num_linear) == (4, 8)
    assert found.remark is not None
    assert f"covers {100 * covered / total:.0f} %" in found.remark
    assert "it leaves out qkv_proj, gate_up_proj; to cover all linear layers: --set 'lora.targets=" in found.remark


@pytest.mark.parametrize(
    ("targets", "complaint"),
    [
        (["q_proj", "nonsense"], "'nonsense' is no layer of it"),
        (["q_porj"], "'q_porj' is no layer of it (did you mean 'q_proj'?)"),
        (["embed_tokens", "q_proj"], "'embed_tokens' is no linear layer of its decoder"),
        (["lm_head", "q_proj"], "'lm_head' is no linear layer of its decoder"),
        (["input_layernorm"], "'input_layernorm' is no linear layer of its decoder"),
        (["mlp"], "'mlp' is no linear layer of its decoder"),
        ([""], "'' is no linear layer of its decoder"),
    ],
)
def test_targets_that_cannot_be_any_are_refused_with_those_that_can(
    qwen_folder: Path, targets: list[str], complaint: str
) -> None:
    with pytest.raises(ModelError) as caught:
        adapters.coverage(model_of(qwen_folder), targets, "folder")
    told = str(caught.value)
    assert told.startswith(f"folder: lora.targets do not fit this model: {complaint}")
    assert "q_proj, k_proj" in told


def test_a_fused_model_trains_all_its_layers(tmp_path: Path, tiny_recipe: MakeRecipe) -> None:
    policy = load(write_random(tmp_path, "phi3"), tiny_recipe(*SMALL))
    trained = {
        name.split(".lora_")[0].rpartition(".")[2] for name, w in policy.model.named_parameters() if w.requires_grad
    }
    assert trained == {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}


# ------------------------------------------------------------------------------------------------------ positions


@pytest.mark.parametrize(
    ("kind", "config", "counts"),
    [
        ("llama", {}, False),
        ("phi3", {}, False),
        ("starcoder2", {}, False),
        ("gpt2", {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}, True),
        ("gpt_neo", {"attention_types": [[["global"], 2]], "num_layers": 2, "num_heads": 2}, True),
    ],
)
def test_a_model_that_counts_padding_as_positions_is_refused(
    tmp_path: Path, kind: str, config: dict[str, Any], counts: bool
) -> None:
    model = model_of(write_random(tmp_path, kind, **config))
    if not counts:
        require_positions(model, "folder")
        return
    with pytest.raises(ModelError, match=f"folder: a {kind} model counts padding as positions"):
        require_positions(model, "folder")


# ------------------------------------------------------------------------------------------- an adapter as the start


@pytest.fixture
def trained(qwen_folder: Path, tiny_recipe: MakeRecipe, tmp_path: Path) -> tuple[Path, LocalPolicy]:
    """An adapter's folder as training leaves it, and the policy that it was saved from."""
    policy = load(qwen_folder, tiny_recipe(*SMALL))
    disturb_adapter(policy)
    policy.save_adapter(tmp_path / "adapter")
    return tmp_path / "adapter", policy


def test_a_run_starts_from_the_adapter_that_model_name_is(
    trained: tuple[Path, LocalPolicy], qwen_folder: Path, tiny_recipe: MakeRecipe
) -> None:
    folder, policy = trained
    prompts = rendered(policy, 3)
    started = load(folder, tiny_recipe(*SMALL))
    assert write(started, prompts, GREEDY) == write(policy, prompts, GREEDY)
    assert write(started, prompts, GREEDY) != write(load(qwen_folder, tiny_recipe(*SMALL)), prompts, GREEDY)
    assert started.model.peft_config.keys() == {"default"}
    ours, theirs = (dict(each.model.named_parameters()) for each in (started, policy))
    assert [name for name in theirs if "lora_" in name and not torch.equal(ours[name], theirs[name])] == []
    assert shapes.of(str(folder)) == shapes.of(str(qwen_folder))


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        (("lora.rank=8", "lora.alpha=8"), "--set lora.rank=4"),
        (("lora.rank=4", "lora.alpha=64"), "--set lora.alpha=8"),
        ((*SMALL, 'lora.targets=["q_proj"]'), """--set 'lora.targets=["down_proj", "gate_proj", "k_proj","""),
    ],
)
def test_an_adapter_of_other_settings_is_refused(
    trained: tuple[Path, LocalPolicy], tiny_recipe: MakeRecipe, changes: tuple[str, ...], remedy: str
) -> None:
    with pytest.raises(ModelError, match="does not fit this model") as caught:
        load(trained[0], tiny_recipe(*changes))
    assert remedy in str(caught.value)


def test_an_adapter_of_another_base_is_refused_with_the_name_of_its_base(
    trained: tuple[Path, LocalPolicy], tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    wider = replace(shapes.TINY, hidden_size=2 * shapes.TINY.hidden_size)
    other = load(write_random_qwen(tmp_path / "wider", wider), tiny_recipe(*SMALL))
    with pytest.raises(ModelError, match="does not fit this model") as caught:
        other.load_adapter(trained[0])
    assert f"it was trained on {trained[1].model.name_or_path}, and this is " in str(caught.value)
    assert "set model.name to its base" in str(caught.value)


def settings_with(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_dora": True}, "no plain LoRA adapter (use_dora = True)"),
        ({"use_qalora": True}, "no plain LoRA adapter (use_qalora = True)"),
        ({"r": "4"}, "adapter_config.json: r = '4' must be a number without quotes"),
        ({"use_rslora": True}, "no plain LoRA adapter (use_rslora = True)"),
        ({"peft_type": "IA3"}, "no plain LoRA adapter (peft_type = 'IA3')"),
        ({"modules_to_save": ["lm_head"]}, "no plain LoRA adapter"),
        ({"init_lora_weights": "pissa"}, "no plain LoRA adapter"),
        ({"base_model_name_or_path": "/gone/model"}, "its base model is gone (/gone/model)"),
        ({"base_model_name_or_path": "C:\\models\\t0"}, "its base model is gone (C:\\models\\t0)"),
        ({"base_model_name_or_path": "out/models/t0"}, "its base model is gone (out/models/t0)"),
        ({"base_model_name_or_path": None}, "names no base model"),
    ],
)
def test_an_adapter_that_cannot_be_gone_on_with_is_refused(
    trained: tuple[Path, LocalPolicy], tiny_recipe: MakeRecipe, changes: dict[str, Any], message: str
) -> None:
    settings_with(trained[0], **changes)
    with pytest.raises(ModelError) as caught:
        load(trained[0], tiny_recipe(*SMALL))
    assert message in str(caught.value)


def test_folders_that_are_something_else_are_named(
    trained: tuple[Path, LocalPolicy], qwen_folder: Path, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    folder = trained[0]
    on_it = tmp_path / "on-an-adapter"
    shutil.copytree(folder, on_it)
    settings_with(on_it, base_model_name_or_path=str(folder))
    with pytest.raises(ModelError, match="is itself an adapter"):
        load(on_it, tiny_recipe(*SMALL))
    (tmp_path / "resolved.json").write_text("{}")
    with pytest.raises(ModelError, match=r"is a run's folder and no model; give its adapter: .*/adapter"):
        load(tmp_path, tiny_recipe(*SMALL))
    shutil.copy(qwen_folder / "model.safetensors", folder)
    with pytest.raises(ModelError, match="holds both an adapter and a model"):
        load(folder, tiny_recipe(*SMALL))


def rewritten(folder: Path, change: Callable[[str, torch.Tensor], torch.Tensor | None]) -> None:
    """Change each weight of an adapter by its name, or leave it out."""
    from safetensors.torch import load_file, save_file

    path = folder / "adapter_model.safetensors"
    changed = {name: change(name, weight) for name, weight in load_file(path).items()}
    save_file({name: weight for name, weight in changed.items() if weight is not None}, path)


def test_an_adapter_on_other_layers_says_which(trained: tuple[Path, LocalPolicy], tiny_recipe: MakeRecipe) -> None:
    folder = trained[0]
    rewritten(folder, lambda name, weight: weight if "q_proj" in name or "v_proj" in name else None)
    with pytest.raises(ModelError, match="does not fit") as caught:
        load(folder, tiny_recipe(*SMALL))
    targets = """lora.targets=["q_proj", "v_proj"]"""
    assert str(caught.value).endswith(f"--set '{targets}'")
    load(folder, tiny_recipe(*SMALL, targets))
    rewritten(folder, lambda name, weight: weight if "layers.0." in name else None)
    with pytest.raises(ModelError, match=r"on some layers called q_proj, v_proj .* merge it into its model"):
        load(folder, tiny_recipe(*SMALL))
    path = folder / "adapter_model.safetensors"
    from safetensors.torch import load_file, save_file

    save_file({name.replace("v_proj", "lm_head"): weight for name, weight in load_file(path).items()}, path)
    with pytest.raises(ModelError, match="also on lm_head, which gets no adapter here; merge it into its model"):
        load(folder, tiny_recipe(*SMALL, targets))


def test_an_adapter_whose_weights_cannot_be_used_is_named(
    trained: tuple[Path, LocalPolicy], tiny_recipe: MakeRecipe
) -> None:
    folder, policy = trained
    rewritten(folder, lambda name, weight: weight.index_fill(0, torch.tensor([0]), torch.inf))
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors: holds weights that are not finite numbers"):
        policy.load_adapter(folder)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"adapter_model\.bin: is a pickle.*to convert it"):
        load(folder, tiny_recipe(*SMALL))


def test_what_became_of_the_base_is_told(trained: tuple[Path, LocalPolicy], caplog: pytest.LogCaptureFixture) -> None:
    folder, _ = trained
    settings_with(folder, base_model_name_or_path="models/gone", revision="v1.0")
    assert adapters.start_of(str(folder)) == ("models/gone", folder)
    assert "was trained on revision v1.0 of models/gone, and the newest is used" in caplog.text
    with (
        pytest.raises(ModelError, match=r"if models/gone is to be a folder, .* set base_model_name_or_path in "),
        adapters.named(folder),
    ):
        raise ModelError("models/gone: the model cannot be loaded")


# ------------------------------------------------------------------------------------------- an adapter to evaluate


def evaluated(out: Path, adapter: str, *changes: str) -> Any:
    """The evaluation of an adapter, after one problem in one way."""
    asked = [
        "evaluation.benchmarks.chain_sum.num_problems=4", "evaluation.num_samples=0", "rollout.max_width=4",
        "evaluation.strategies=['multi_round']", *changes,
    ]  # fmt: skip
    job = train_job.job(ROOT / "recipes" / "tiny_cpu.toml", asked, out, evaluate_only=True, adapter=adapter)
    observer = RecordingObserver()
    job.perform(observer)
    return RunDirectory(out).evaluation(), observer


@pytest.fixture(scope="module")
def somebodys(tiny_folder: Path, tiny_recipe: MakeRecipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter with other settings than recipes/tiny_cpu.toml has, that changes what is written."""
    folder = tmp_path_factory.mktemp("somebody") / "their-adapter"
    policy = load(tiny_folder, tiny_recipe("lora.rank=4", "lora.alpha=8", 'lora.targets=["q_proj", "down_proj"]'))
    disturb_adapter(policy)
    policy.save_adapter(folder)
    return folder


def test_somebody_elses_adapter_is_evaluated_next_to_its_base_with_its_own_settings(
    tmp_path: Path, somebodys: Path
) -> None:
    evaluation, _ = evaluated(tmp_path / "out", str(somebodys))
    before, after = ([each for each in evaluation.measurements if each.when == when] for when in ("before", "after"))
    assert len(before) == len(after) == 1
    assert before[0].policy != after[0].policy
    kept = RunDirectory(tmp_path / "out")
    lora = kept.resolved(checking.TABLES).lora
    assert (lora.rank, lora.alpha, lora.targets) == (4, 8, ["down_proj", "q_proj"])
    assert (kept.adapter / "adapter_model.safetensors").read_bytes() == (
        somebodys / "adapter_model.safetensors"
    ).read_bytes()
    train_job.job(None, [], tmp_path / "out", evaluate_only=True).perform(RecordingObserver())
    assert kept.evaluation() == evaluation, "repeated without --adapter, it has nothing left to do"


def test_an_adapter_on_the_hub_is_taken_by_its_name(
    tmp_path: Path, somebodys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the hub's cache, where a download would have put it."""
    from huggingface_hub import constants

    snapshot = tmp_path / "hub" / "models--somebody--rounds" / "snapshots" / ("0" * 40)
    shutil.copytree(somebodys, snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    adapter_choice.require("somebody/rounds")
    assert adapter_choice.fetched("somebody/rounds", RecordingObserver()) == snapshot
    with pytest.raises(ModelError, match=r"somebody/other: the adapter cannot be downloaded .*give a folder"):
        adapter_choice.fetched("somebody/other", RecordingObserver())


@pytest.mark.parametrize(
    ("base", "is_told"),
    [
        ("here/model", False), ("elsewhere/model", True), ("/gone/model", True), ("someone/model", False),
        ("someone/other", True),
    ],
)  # fmt: skip
def test_an_adapter_on_another_model_of_the_same_name_is_told(
    trained: tuple[Path, LocalPolicy], tmp_path: Path, tiny_recipe: MakeRecipe, base: str, is_told: bool
) -> None:
    for name in ("here", "elsewhere"):
        (tmp_path / name / "model").mkdir(parents=True)
    here = tmp_path / "here" / "model"
    base = str(tmp_path / base) if (tmp_path / base).is_dir() else base
    settings_with(trained[0], base_model_name_or_path=base)
    observer = RecordingObserver()
    recipe = tiny_recipe(f"model.name={json.dumps(str(here))}")
    assert adapter_choice.with_settings_of(recipe, trained[0], observer).lora.rank == 4
    told = f"note: {trained[0]} was trained on {base}, and is used with {here}"
    assert observer.notes == ([told] if is_told else [])


def test_an_adapter_that_does_not_go_with_the_command_is_refused(tmp_path: Path, somebodys: Path) -> None:
    recipe = ROOT / "recipes" / "tiny_cpu.toml"
    for path, evaluate_only in ((recipe, False), (None, True)):
        with pytest.raises(RunError, match="--adapter goes with --evaluate-only and --recipe"):
            train_job.job(path, [], tmp_path / "out", evaluate_only=evaluate_only, adapter=str(somebodys))
    (tmp_path / "resolved.json").write_text("{}")
    with pytest.raises(RunError, match="holds a run; evaluate it without --adapter"):
        train_job.job(recipe, [], tmp_path, evaluate_only=True, adapter=str(somebodys))
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(ModelError, match="is a pickle, which could execute code"):
        train_job.job(recipe, [], tmp_path / "out", evaluate_only=True, adapter=str(pickled))
