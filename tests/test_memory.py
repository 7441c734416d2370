"""The estimate against what real training steps take: their peaks, measured in processes of their own."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import memory as benchmark
from motif_lite.jobs import checking
from motif_lite.planning import memory, planner, shapes
from motif_lite.planning import rows as rows_of
from motif_lite.planning.machine import GIB, MIB, Machine
from motif_lite.planning.sizes import Items

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.mark.usefixtures("tiny_folder")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("tiny, m=8 k=4", marks=pytest.mark.versions),
        "6 layers of 0.5B, m=2 k=1",
    ],
)
def test_the_planned_peak_is_within_a_fifth_of_the_measured_one(name: str, models: Path) -> None:
    result = benchmark.measure(benchmark.CASES[name], models)
    print(benchmark.table({name: result}))
    assert 1 / 1.2 < result.ratio < 1.2
    for phase, planned in result.planned.items():
        assert 1 / 1.3 < planned / result.measured[phase] < 1.3, phase


@pytest.mark.versions
def test_a_run_counts_the_libraries_that_it_has_imported() -> None:
    """The rest of the plan is the same, whichever build of PyTorch is there."""
    recipe = checking.check(ROOT / "recipes" / "tiny_cpu.toml", ["training.micro_batch_size=1"])
    small, large = (
        memory.estimate(recipe, shapes.TINY, Machine("cpu", 8.0, "a test's", libraries=size * MIB)).phases["update"]
        for size in (500, 900)
    )
    assert large["libraries"] - small["libraries"] == 400 * MIB
    assert large | {"libraries": 0} == small | {"libraries": 0}


@pytest.mark.versions
def test_what_has_been_imported_is_measured_on_a_cpu_only() -> None:
    from motif_lite.planning import metering

    cpu, gpu = (metering.measured(Machine(device, 8.0, "a test's")) for device in ("cpu", "cuda"))
    assert gpu.libraries is None
    if sys.platform == "linux":
        assert cpu.libraries is not None
        assert cpu.libraries > 200 * MIB, "PyTorch alone takes more"
        assert cpu.libraries == metering.measured(cpu).libraries, "in steps, so that plans can be repeated"


@pytest.mark.versions
@pytest.mark.parametrize(("library", "build"), [("libtorch_cpu.so", "CPU"), ("libtorch_cuda.so", "CUDA")])
def test_a_plan_alone_looks_up_the_build_of_pytorch(
    library: str, build: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch" / "lib").mkdir(parents=True)
    (tmp_path / "torch" / "__init__.py").write_text("raise AssertionError('imported')")
    (tmp_path / "torch" / "lib" / library).touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    command = [sys.executable, "run.py", "--recipe", "recipes/tiny_cpu.toml", "--plan"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"PyTorch's {build} build" in done.stdout
    libraries = next(line.split()[1] for line in done.stdout.splitlines() if line.split()[:1] == ["libraries"])
    assert float(libraries) == pytest.approx({"CPU": 0.6, "CUDA": 0.9}[build], abs=0.05)


def test_in_one_of_the_cases_what_a_step_works_with_is_nearly_as_much_as_all_that_stays() -> None:
    """Otherwise the comparison above would be one of weights with weights."""
    case = benchmark.CASES["wide MLP"]
    recipe = checking.check(ROOT / "recipes" / case.recipe, [*case.changes, 'model.name="tiny"'])
    machine = Machine("cpu", 8.0, "a test's", libraries=550 * MIB)
    update = memory.estimate(recipe, benchmark.SHAPES[case.size], machine).phases["update"]
    assert update["activations"] + update["logits"] > 0.4 * sum(update.values())


def phases(name: str, *changes: str, decodes: bool = True) -> dict[str, Items]:
    """What a recipe needs on a card of 24 GiB.

    Args:
        decodes: Our engine can take the model over where it is Unsloth's.
    """
    recipe = checking.check(ROOT / "recipes" / f"{name}.toml", ["training.micro_batch_size=1", *changes])
    shape = replace(shapes.of(recipe.model.name), decodes=decodes)
    return memory.estimate(recipe, shape, Machine("cuda", 24.0, "a card")).phases


BY_THE_ENGINE = ('model.backend="transformers"', "model.load_in_4bit=false", 'model.dtype="bfloat16"')


def test_the_engine_holds_all_keys_and_values_of_as_many_rows_as_may_be() -> None:
    row, token = 1024 - 1 + 1024, 36 * 1024
    for width, rows in ((2, 2), (64, 8)):
        found = phases("grpo_gsm8k", *BY_THE_ENGINE, f"rollout.max_width={width}")
        assert found["openings"]["KV cache"] == (rows * row + 1) * token
    narrow, wide = (phases("grpo_gsm8k", f"rollout.max_width={width}", decodes=False) for width in (2, 8))
    assert narrow == wide | {"evaluation": narrow["evaluation"]}, "Unsloth writes all openings of a step at once"
    narrow, wide = (
        phases("grpo_gsm8k", f"rollout.max_width={width}", "data.refill=1", decodes=False) for width in (2, 8)
    )
    assert narrow["openings"] != wide["openings"], "our step asks for no more at once than that"


def test_an_update_in_16_bits_keeps_what_autocast_makes_of_frozen_weights() -> None:
    shape = benchmark.SHAPES["0.5b"]
    changes = [
        *BY_THE_ENGINE[:2], 'rollout.weights="32bit"', "rollout.max_width=8", "training.gradient_checkpointing=false",
    ]  # fmt: skip
    found = {}
    for autocast in ("bfloat16", "off"):
        own = [*changes, "training.micro_batch_size=1", f'training.autocast="{autocast}"']
        recipe = checking.check(ROOT / "recipes" / "motif_gsm8k.toml", own)
        found[autocast] = memory.estimate(recipe, shape, Machine("cpu", 24.0, "a test's")).phases["update"]
    assert found["bfloat16"]["weights in 16 bits"] == 2 * shape.num_linear_weights
    assert found["bfloat16"]["logits"] - found["off"]["logits"] == 2 * 151_936 * 896
    assert found["bfloat16"]["activations"] == pytest.approx(0.63 * found["off"]["activations"])


def test_replies_of_a_model_that_the_engine_does_not_take_are_planned_as_its_own_generate_writes_them() -> None:
    changes = [*BY_THE_ENGINE, "training.micro_batch_size=1", "rollout.max_width=32"]
    recipe = checking.check(ROOT / "recipes" / "motif_gsm8k.toml", changes)
    shape, machine = shapes.of(recipe.model.name), Machine("cuda", 24.0, "a card")
    ours, theirs = (
        memory.estimate(recipe, replace(shape, sees_all=sees_all), machine).phases["futures"]
        for sees_all in (True, False)
    )
    assert theirs["KV cache"] == 32 * rows_of.later_prompt(recipe) * 36 * 1024, "more while it reads than at the end"
    assert ours["activations"] < theirs["activations"]


def test_4_bit_weights_that_the_engine_dequantises_are_counted_with_their_adapter() -> None:
    shape, rank = shapes.KNOWN["qwen2.5-3b-instruct"], 64
    for weights, number in {"16bit": shape.num_linear_weights, "4bit": 2 * 2048 * 11008}.items():
        found = phases("motif_gsm8k", f'rollout.weights="{weights}"')
        assert found["futures"]["weights in 16 bits"] == found["openings"]["weights in 16 bits"] == 2 * number
        blocks = 3 * (2048 + 2 * 256) + 2 * (2 * 11008)  # as wide as all that are multiplied together
        apart = 2048 + 2 * 256 + 2 * 11008
        adapter = shape.num_lora_weights(rank, "all-linear") + 36 * rank * (blocks - apart)
        assert found["futures"]["adapter in 16 bits"] == 2 * adapter
        assert "weights in 16 bits" not in found["update"]
    assert "weights in 16 bits" not in phases("motif_gsm8k", *BY_THE_ENGINE)["futures"]


def test_what_prompts_have_in_common_is_read_once_by_the_engine() -> None:
    def reading(rounds: int) -> int:
        few = ("rollout.num_openings=2", "rollout.max_prompt_tokens=64", "rollout.openings.max_tokens=64")
        short = ("rollout.futures.max_tokens=64", "rollout.futures.temperature=0.0", f"rollout.num_rounds={rounds}")
        return phases("motif_gsm8k", *BY_THE_ENGINE, *few, *short)["futures"]["activations"]

    assert reading(rounds=3) == 4 * reading(rounds=2), "after that, every future has progress of its own"


def test_however_many_prompts_the_engine_reads_its_batches_are_bounded() -> None:
    def reading(width: int) -> int:
        short = ("rollout.futures.top_p=1.0", f"rollout.max_width={width}")
        return phases("motif_gsm8k", *BY_THE_ENGINE, *short)["futures"]["activations"]

    assert reading(8) == reading(16)


def test_an_adapter_is_folded_into_small_models_in_32_bits_only() -> None:
    tiny = phases("tiny_cpu", 'model.dtype="float32"')
    assert {phase for phase, items in tiny.items() if "folded adapter" in items} == tiny.keys() - {"update"}
    for name, *changes in (("tiny_cpu", 'model.dtype="bfloat16"'), ("motif_gsm8k", *BY_THE_ENGINE)):
        assert not any("folded adapter" in items for items in phases(name, *changes).values())


def test_where_later_rounds_are_trained_an_update_holds_their_prompts_and_replies() -> None:
    """The reference's limits: openings 1024 + 1024 tokens, later rounds a prompt of 2048 and a reply of 2048."""
    opening = phases("motif_gsm8k")["update"]
    chain = phases("motif_chain_gsm8k")["update"]
    assert chain["logits"] == 2 * opening["logits"]
    assert chain["activations"] == pytest.approx(opening["activations"] * (4096 / 2048), rel=1e-6)
    four, one = (phases(name, *BY_THE_ENGINE)["futures"]["KV cache"] for name in ("motif_gsm8k", "motif_chain_gsm8k"))
    assert one < four


def test_what_a_gpus_driver_takes_is_not_looked_for_in_pytorch() -> None:
    recipe = checking.check(ROOT / "recipes" / "motif_gsm8k.toml", ["training.micro_batch_size=1"])
    estimate = memory.estimate(recipe, shapes.of(recipe.model.name), Machine("cuda", 24.0, "a card"))
    assert estimate.measurable("cuda")["update"] == estimate.total("update") - estimate.libraries
    assert estimate.measurable("cpu")["update"] == estimate.total("update")
    assert estimate.measurable("cpu").keys() == {"openings", "futures", "update"}, "evaluation is no phase of a step"


def test_the_3b_model_takes_about_two_gib_in_4_bit_and_36_kib_of_cache_per_token() -> None:
    """The figures that the field knows this model by."""
    assert phases("motif_gsm8k")["openings"]["weights"] == pytest.approx(2 * GIB, rel=0.1)
    cache = phases("grpo_gsm8k", "rollout.max_prompt_tokens=24")["openings"]["KV cache"]
    assert cache == (8 * (24 - 1 + 1024) + 1) * 36 * 1024


def test_a_model_whose_rows_cannot_be_packed_is_planned_with_all_their_logits() -> None:
    recipe = checking.check(ROOT / "recipes" / "motif_gsm8k.toml", [*BY_THE_ENGINE, 'training.micro_batch_size="auto"'])
    packed, machine = shapes.of(recipe.model.name), Machine("cpu", 24.0, "a test's", libraries=550 * MIB)
    alone = replace(packed, packs=False)
    plans = [planner.make(recipe, shape, machine) for shape in (packed, alone)]
    assert [plan.recipe.training.micro_batch_size for plan in plans] == [8, 4]
    update = plans[1].estimate.phases["update"]
    assert update["logits"] == 16 * 4 * 1024 * alone.vocab_size
