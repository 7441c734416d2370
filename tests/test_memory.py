"""The estimate against what real training steps take: their peaks, measured in processes of their own."""

from pathlib import Path

import pytest

from benchmarks import memory as benchmark
from motif_lite import memory, pipeline, shapes
from motif_lite.memory import GIB, Machine

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.mark.usefixtures("tiny_folder")
@pytest.mark.parametrize("name", ["tiny, m=8 k=4", "0.5B, m=2 k=1", "wide MLP"])
def test_the_planned_peak_is_within_a_fifth_of_the_measured_one(name: str, models: Path) -> None:
    result = benchmark.measure(benchmark.CASES[name], models)
    print(benchmark.table({name: result}))
    assert 1 / 1.2 < result.ratio < 1.2
    for phase, measured in result.measured.items():
        assert 1 / 1.3 < result.planned[phase] / measured < 1.3, phase


def test_in_one_of_the_cases_what_a_step_works_with_outweighs_all_that_stays() -> None:
    """Otherwise the comparison above would be one of weights with weights."""
    case = benchmark.CASES["wide MLP"]
    recipe = pipeline.check(ROOT / "recipes" / case.recipe, [*case.changes, 'model.name="tiny"'])
    update = memory.estimate(recipe, benchmark.SHAPES[case.size], Machine("cpu", 8.0, "a test's")).phases["update"]
    assert update["activations"] + update["logits"] > 0.5 * sum(update.values())


def test_what_a_gpus_driver_takes_is_not_looked_for_in_pytorch() -> None:
    recipe = pipeline.check(ROOT / "recipes" / "motif_gsm8k.toml", ["training.micro_batch_size=1"])
    estimate = memory.estimate(recipe, shapes.of(recipe.model.name), Machine("cuda", 24.0, "a card"))
    assert estimate.measurable("cuda")["update"] == estimate.total("update") - estimate.libraries
    assert estimate.measurable("cpu")["update"] == estimate.total("update")
    assert estimate.measurable("cpu").keys() == {"openings", "futures", "update"}, "evaluation is no phase of a step"


def test_the_3b_model_takes_about_two_gib_in_4_bit_and_36_kib_of_cache_per_token() -> None:
    """The figures that the field knows this model by."""
    recipe = pipeline.check(ROOT / "recipes" / "motif_gsm8k.toml", ["training.micro_batch_size=1"])
    phases = memory.estimate(recipe, shapes.of(recipe.model.name), Machine("cuda", 24.0, "a card")).phases
    assert phases["openings"]["weights"] == pytest.approx(2 * GIB, rel=0.1)
    one = pipeline.check(
        ROOT / "recipes" / "grpo_gsm8k.toml", ["training.micro_batch_size=1", "rollout.max_prompt_tokens=24"]
    )
    cache = memory.estimate(one, shapes.of(one.model.name), Machine("cuda", 24.0, "a card")).phases["openings"][
        "KV cache"
    ]
    assert cache == 8 * (24 + 1024) * 36 * 1024
