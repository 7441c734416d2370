"""The plan: what it decides, what it says when something does not fit, and that its advice works."""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from motif_lite import cli
from motif_lite.errors import MissingHardwareError
from motif_lite.jobs import checking
from motif_lite.planning import cards, hardware, metering, planner, projection, rows, shapes, timing
from motif_lite.planning.driver import Gpu
from motif_lite.planning.machine import GIB, Machine
from motif_lite.planning.planner import Plan
from motif_lite.planning.remarks import remarks
from motif_lite.planning.rows import Lengths
from motif_lite.planning.speeds import Speed
from motif_lite.recipe.keys import changed
from motif_lite.recipe.schema import Recipe

ROOT = Path(__file__).parents[1]
GPU_RECIPES = {
    "motif_gsm8k": 24.0, "motif_gsm8k_16gb": 16.0, "motif_gsm8k_12gb": 12.0, "motif_gsm8k_8gb": 8.0, "grpo_gsm8k": 24.0,
    "motif_chain_gsm8k": 24.0, "motif_evening": 24.0, "motif_evening_12gb": 12.0, "motif_t4": 15.2,
    "motif_chain_evening": 24.0,
}  # fmt: skip
OPEN = ('rollout.max_width="auto"', 'training.micro_batch_size="auto"')


def recipe(name: str = "motif_gsm8k", *changes: str) -> Recipe:
    return checking.check(ROOT / "recipes" / f"{name}.toml", changes)


def plan(of: Recipe, gib: float) -> Plan:
    return planner.make(of, shapes.of(of.model.name), Machine("cuda", gib, f"{gib} GiB"))


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "run.py", *arguments], cwd=ROOT, env=os.environ | environment, capture_output=True, text=True
    )


def invoked(*arguments: str) -> Result:
    """The real command line in this process, for what does not depend on what is imported."""
    return CliRunner().invoke(cli.app, list(arguments))


# ------------------------------------------------------------------------------------------ the command line


@pytest.mark.parametrize(("name", "gib"), GPU_RECIPES.items())
def test_every_recipe_fits_the_card_that_it_is_for(name: str, gib: float) -> None:
    assert checking.memory_plan(ROOT / "recipes" / f"{name}.toml", [], gib - 0.5).fits, "a card has a little less"


def test_the_plan_is_a_table_by_phase_without_torch_or_a_card() -> None:
    done = command("--recipe", "recipes/motif_gsm8k.toml", "--plan", "--vram", "24")
    assert done.returncode == 0, done.stderr
    for word in ("openings", "futures", "update", "weights", "optimizer", "KV cache", "gradients", "fits", "width"):
        assert re.search(rf"\b{word}\b", done.stdout), word
    assert "assumed" in done.stdout


def test_the_table_of_every_phase_is_whole_at_80_columns() -> None:
    warm = "warm_start={num_problems=50, num_samples=2, num_steps=10, examples_per_step=8}"
    arguments = ["--recipe", "recipes/motif_gsm8k.toml", "--plan", "--vram", "24", "--set", warm]
    lines = CliRunner(env={"COLUMNS": "80"}).invoke(cli.app, arguments).stdout.splitlines()
    phases = ["openings", "futures", "update", "warm", "start", "imitation", "evaluation"]
    assert phases in [line.split() for line in lines]
    [weights] = [line.split() for line in lines if line.startswith(" weights  ")]
    assert len(set(weights[1:])) == 1, "none of the six is cut"
    assert len(weights) == 7


@pytest.mark.parametrize("vram", ["2", "3", "4", "5", "6", "8", "10"])
def test_the_flags_that_it_prints_make_it_fit(vram: str) -> None:
    arguments = ["--recipe", "recipes/motif_gsm8k.toml", "--plan", "--vram", vram]
    refused = invoked(*arguments)
    assert refused.exit_code == 2
    assert "does not fit" in refused.stderr
    assert "Traceback" not in refused.stderr
    flags = refused.stderr[refused.stderr.index("--set") :]
    accepted = invoked(*arguments, *shlex.split(flags))
    assert accepted.exit_code == 0, accepted.stderr


def test_a_later_prompt_of_delethink_holds_the_head_and_the_tail_not_the_whole_chunk() -> None:
    changes = {"rollout.strategy": "delethink", "rollout.head_tokens": 100, "rollout.tail_tokens": 200}
    chunks = changed(checking.check(Path("recipes/motif_gsm8k.toml"), []), changes)
    assert rows.later_prompt(chunks) == rows.Lengths.worst(chunks).later_prompt == 1024 + 100 + 200
    assert rows.Lengths.typical(chunks, 1000).later_prompt == 250 + 100 + 200


def test_planning_imports_nothing_heavy() -> None:
    code = (
        "import sys; from pathlib import Path; from motif_lite.jobs import checking; from motif_lite.planning import "
        "driver; driver.ask(); checking.memory_plan(Path('recipes/motif_gsm8k.toml'), [], 24.0);"
        "print([name for name in ('torch', 'transformers', 'trl', 'datasets', 'peft') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("vram", ["0", "-1", "nan", "inf", "1e300"])
def test_a_card_of_no_size_is_refused(vram: str) -> None:
    done = invoked("--recipe", "recipes/motif_gsm8k.toml", "--plan", "--vram", vram)
    assert done.exit_code == 2
    assert "--vram 24" in done.stderr


@pytest.mark.parametrize("other", [["--resume"], ["--evaluate-only"], ["--out", "runs/x"]])
def test_a_plan_is_nothing_but_a_plan(other: list[str]) -> None:
    assert invoked("--recipe", "recipes/motif_gsm8k.toml", "--plan", *other).exit_code == 2


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_a_kl_penalty_takes_a_copy_of_the_adapter_and_a_forward_pass(device: str) -> None:
    machine = Machine(device, 24.0, "a test's")  # type: ignore[arg-type]
    plain, with_kl, twice = (
        planner.make(changed(recipe("laptop_gsm8k"), changes), shapes.of("Qwen/Qwen2.5-0.5B-Instruct"), machine)
        for changes in ({}, {"training.beta": 0.1}, {"training.beta": 0.1, "training.num_iterations": 2})
    )
    for phase, items in with_kl.estimate.phases.items():
        assert items["reference adapter"] == items["adapter"] > 0
        assert with_kl.estimate.total(phase) == plain.estimate.total(phase) + items["adapter"]
    update, more = plain.seconds["update"], with_kl.seconds["update"] - plain.seconds["update"]
    again = plain.recipe.training.gradient_checkpointing
    assert more == pytest.approx(update / (3 if again else 2), rel=0.2)
    assert twice.seconds["update"] == pytest.approx(2 * update + more), "once a step"


def test_a_selection_is_planned_with_its_own_samples() -> None:
    """As an evaluation of as many problems and samples, and not as the benchmarks are measured."""
    selecting = ("data.num_problems=64", "data.select={num_samples=8}", "evaluation.num_samples=0")
    measuring = ('evaluation.benchmarks={like={source="gsm8k", num_problems=64}}', "evaluation.num_samples=8")
    wide, ends = "rollout.max_width=1024", ("evaluation.before=false", "evaluation.after=false")
    plans = [plan(recipe("motif_gsm8k", wide, *changes), 24.0) for changes in (ends, (*selecting, *ends), measuring)]
    assert "evaluation" not in plans[0].estimate.phases
    assert plans[1].estimate.phases["evaluation"] == plans[2].estimate.phases["evaluation"]
    fewer = plan(recipe("motif_gsm8k", wide, *selecting, *ends, "data.select.num_samples=4"), 24.0)
    assert fewer.estimate.total("evaluation") < plans[1].estimate.total("evaluation")
    few = (
        "rollout.num_futures=1", "rollout.num_openings=2", "training.problems_per_step=1",
        "training.micro_batch_size=2", "evaluation.benchmarks={}",
    )  # fmt: skip
    assert planner._widths(recipe("tiny_cpu", *few))[0] == 2
    assert planner._widths(recipe("tiny_cpu", *few, "data.num_problems=6", "data.select={num_samples=5}"))[0] == 32


def test_an_evaluation_alone_needs_no_update() -> None:
    given = recipe("motif_gsm8k", "training.micro_batch_size=8", "evaluation.before=false", "evaluation.after=false")
    machine = Machine("cuda", 24.0, "a card")
    shape = shapes.of(given.model.name)
    assert planner.make(given, shape, machine, trains=False).estimate.phases.keys() == {"evaluation"}
    assert "evaluation" not in planner.make(given, shape, machine).estimate.phases


def test_an_evaluation_of_nothing_fits_anywhere() -> None:
    given = recipe("motif_gsm8k", "training.micro_batch_size=8", "evaluation.benchmarks={}")
    assert planner.make(given, shapes.of(given.model.name), Machine("cuda", 1.0, "a card"), trains=False).fits


def test_a_size_without_a_plan_is_refused() -> None:
    done = invoked("--recipe", "recipes/motif_gsm8k.toml", "--vram", "24")
    assert done.exit_code == 2
    assert "model.memory_gib" in done.stderr


# ------------------------------------------------------------------------------------------ what it decides


@pytest.mark.parametrize("gib", [4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 80.0])
def test_what_is_left_open_becomes_the_largest_that_fits(gib: float) -> None:
    decided = plan(recipe("motif_gsm8k", *OPEN), gib)
    usable = decided.usable_bytes
    for key, phase in (("rollout.max_width", "evaluation"), ("training.micro_batch_size", "update")):
        section, name = key.split(".")
        size = getattr(getattr(decided.recipe, section), name)
        if size not in (512, 8):  # the widest that is of use
            wider = plan(changed(decided.recipe, {key: 2 * size}), gib)
            assert wider.estimate.total(phase) > usable
        if size > 1:
            assert decided.estimate.total(phase) <= usable


def test_an_open_width_leaves_room_for_the_engines_openings() -> None:
    openings_only = ("training.problems_per_step=8", "training.micro_batch_size=1", "evaluation.benchmarks={}")
    given = recipe("grpo_gsm8k", 'model.backend="transformers"', 'rollout.max_width="auto"', *openings_only)
    decided = plan(given, 8.0)
    width = decided.recipe.rollout.max_width
    assert isinstance(width, int)
    wider = plan(changed(decided.recipe, {"rollout.max_width": 2 * width}), 8.0)
    assert decided.estimate.total("openings") <= decided.usable_bytes < wider.estimate.total("openings")
    assert decided.seconds["openings"] > wider.seconds["openings"]


def test_each_recipe_is_the_fastest_of_its_family_on_cards_of_its_size() -> None:
    """In narrower batches than need be, or in wider ones that leave no room for weights in 16 bits, it would not be."""
    family = {8: "motif_gsm8k_8gb", 12: "motif_gsm8k_12gb", 16: "motif_gsm8k_16gb", 24: "motif_gsm8k"}
    for card in cards.CARDS:
        size = next((size for size in family if size - 0.6 < card.memory_gib < size), None)
        if size is None:
            continue
        plans = {
            name: checking.memory_plan(ROOT / "recipes" / f"{name}.toml", [], None, card.name)
            for name in family.values()
        }
        assert plans[family[size]].fits
        for lengths in (Lengths.worst, lambda given: Lengths.typical(given, 250)):
            hours = {name: total(found, lengths(found.recipe)) for name, found in plans.items() if found.fits}
            assert min(hours, key=hours.__getitem__) == family[size], card.name


def total(found: Plan, lengths: Lengths) -> float:
    """Hours of the whole run."""
    evaluated = list(checking.evaluated(found.recipe, checking.expected_problems(found.recipe)))
    return projection.planned(found, evaluated, lengths).total / 3600


def test_a_larger_card_is_never_used_less() -> None:
    sizes = [plan(recipe("motif_gsm8k", *OPEN), float(gib)).recipe for gib in range(4, 81, 4)]
    for key in ("rollout.max_width", "training.micro_batch_size"):
        section, name = key.split(".")
        values = [getattr(getattr(size, section), name) for size in sizes]
        assert values == sorted(values)
        assert values[0] < values[-1]


def test_numbers_in_the_recipe_are_left_alone() -> None:
    given = recipe("motif_gsm8k", "rollout.max_width=7", 'rollout.weights="16bit"', "training.micro_batch_size=2")
    assert plan(given, 80.0).recipe == given == plan(given, 3.0).recipe


@pytest.mark.parametrize("gib", [2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 9.0, 15.0, 20.0])
@pytest.mark.parametrize("opened", [(), OPEN])
def test_no_change_that_it_proposes_can_be_left_out(gib: float, opened: tuple[str, ...]) -> None:
    given = recipe("motif_gsm8k", *opened)
    proposed = plan(given, gib).changes
    assert proposed is not None
    for key in proposed:
        fewer = {other: value for other, value in proposed.items() if other != key}
        assert not plan(changed(given, fewer), gib).fits


def test_where_nothing_helps_it_says_so() -> None:
    hopeless = plan(recipe(), 0.5)
    assert hopeless.changes is None
    assert "smaller model" in hopeless.remedy


def test_what_only_costs_time_is_changed_before_what_changes_the_method() -> None:
    for gib in (6.0, 8.0, 12.0, 16.0):
        changes = plan(recipe(), gib).changes
        assert changes is not None
        assert not {"lora.rank", "model.name"} & changes.keys()
        assert not any("max_tokens" in key for key in changes)


@pytest.mark.parametrize(
    ("changes", "phase", "smaller"),
    [
        (["rollout.max_width=8"], "futures", True),
        (["rollout.max_width=8"], "evaluation", True),
        (["evaluation.benchmarks={a={source='math500', num_problems=3}}"], "evaluation", True),
        (["lora.rank=8"], "openings", True),
        (["training.micro_batch_size=1"], "update", True),
        (["training.logit_chunks=8"], "update", True),
        (['training.optimizer="paged_adamw_8bit"'], "openings", True),
        (['training.optimizer="adamw_torch"'], "openings", False),
        (["training.gradient_checkpointing=false"], "update", False),
        (["model.load_in_4bit=false"], "update", False),
        (["model.load_in_4bit=false"], "openings", True),
        (['rollout.weights="4bit"'], "openings", True),
        (["rollout.futures.max_tokens=256", "rollout.openings.max_tokens=256"], "futures", True),
        (["rollout.openings.max_tokens=128"], "update", True),
        (["training.problems_per_step=4"], "openings", False),
    ],
)
def test_every_key_that_costs_memory_moves_its_phase(changes: list[str], phase: str, smaller: bool) -> None:
    given = ("rollout.max_width=32", "training.micro_batch_size=4")
    before = plan(recipe("motif_gsm8k", *given), 24.0).estimate.total(phase)
    after = plan(recipe("motif_gsm8k", *given, *changes), 24.0).estimate.total(phase)
    assert after < before if smaller else after > before


@pytest.mark.parametrize(("gib", "weights", "width"), [(24.0, "16bit", 64), (13.0, "4bit", 32), (7.5, "4bit", 16)])
def test_weights_are_dequantised_once_where_that_leaves_room_for_wide_batches(
    gib: float, weights: str, width: int
) -> None:
    rollout = plan(recipe("motif_gsm8k", 'rollout.max_width="auto"'), gib).recipe.rollout
    assert (rollout.weights, rollout.max_width) == (weights, width)
    for other in ('model.backend="transformers"', "model.load_in_4bit=false"):
        assert plan(recipe("motif_gsm8k", other), gib).recipe.rollout.weights == "auto", "it has no weights to hold"


def test_every_sample_of_a_problem_is_a_row_of_the_evaluation() -> None:
    few = "evaluation.benchmarks={a={source='math500', num_problems=3}}"
    once = plan(recipe("motif_gsm8k", few), 24.0).estimate.total("evaluation")
    often = plan(recipe("motif_gsm8k", few, "evaluation.num_samples=4"), 24.0).estimate.total("evaluation")
    assert often > once


def test_vllm_takes_its_share_of_the_card() -> None:
    given = recipe("motif_gsm8k", "model.fast_inference=true", "model.gpu_memory_utilization=0.6")
    assert plan(given, 24.0).estimate.phases["futures"]["weights"] == int(0.6 * 24 * GIB)


def test_a_step_costs_what_its_limits_allow() -> None:
    found = plan(recipe(), 24.0)
    assert found.num_tokens == {"openings": 8 * 1024, "futures": 8 * 4 * 2 * 2048}
    single = plan(recipe("grpo_gsm8k"), 24.0)
    assert single.num_tokens["futures"] == single.seconds["futures"] == 0
    assert "futures" not in single.estimate.phases
    wide, narrow = (
        planner.make(each, shapes.of(each.model.name), Machine("cuda", 24.0, "NVIDIA H100 80GB HBM3"))
        for each in (recipe(), recipe("motif_gsm8k", "rollout.max_width=1"))
    )
    assert narrow.seconds["futures"] > 10 * wide.seconds["futures"]


# ------------------------------------------------------------------------------------------ the machine


@pytest.mark.parametrize(
    ("changes", "gpu", "options", "expected"),
    [
        ([], None, {"vram": 12.0}, ("cuda", 12.0)),
        ([], Gpu("card", 23.6), {}, ("cuda", 23.6)),
        ([], Gpu("card", 80.0), {}, ("cuda", 80.0)),
        (["model.memory_gib=24"], Gpu("card", 80.0), {}, ("cuda", 24.0)),
        (["model.memory_gib=20"], Gpu("card", 16.0), {}, ("cuda", 20.0)),
        ([], None, {}, ("cuda", 24.0)),
        (["model.memory_gib=1"], None, {"supposing": False}, ("cpu", 1.0)),
        (['model.backend="transformers"', "model.memory_gib=1"], None, {}, ("cpu", 1.0)),
        (
            ['model.backend="transformers"', 'model.device="cpu"', "model.memory_gib=1"],
            Gpu("c", 24.0),
            {},
            ("cpu", 1.0),
        ),
        (['model.backend="transformers"', 'model.device="cuda"'], None, {}, ("cuda", 24.0)),
    ],
)
def test_the_machine_that_is_planned_for(
    changes: list[str], gpu: Gpu | None, options: dict[str, Any], expected: tuple[str, float]
) -> None:
    machine = hardware.machine_for(recipe("motif_gsm8k", *changes), gpu, **options)
    assert (machine.device, machine.memory_gib) == expected


def test_what_other_programs_use_is_not_planned_with_and_said() -> None:
    machine = hardware.machine_for(recipe(), Gpu("card", 11.7, used_gib=0.7))
    assert machine.memory_gib == pytest.approx(11.0)
    assert machine.remark == "other programs use 0.7 of its 11.7 GiB; end them, or this is what is left"
    given = hardware.machine_for(recipe("motif_gsm8k", "model.memory_gib=11.5"), Gpu("card", 11.7, used_gib=0.7))
    assert (given.memory_gib, given.remark) == (11.5, ""), "the user knows better"


def test_what_a_run_may_use_is_what_others_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own tensors and CUDA context are no other program's."""
    properties = SimpleNamespace(name="card", total_memory=12 * GIB, is_integrated=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: properties)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda number: 1 * GIB)
    for free, used in ((12, 0.0), (12 - 1 - 0.25, 0.0), (12 - 1 - 3, 2.75)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda number, free=free: (int(free * GIB), 12 * GIB))
        found = metering.gpu()
        assert found is not None
        assert found.used_gib == pytest.approx(used)


def test_memory_that_nobody_tells_is_asked_for() -> None:
    unknown = Gpu("NVIDIA GB10", None)
    with pytest.raises(MissingHardwareError, match=r"how much memory NVIDIA GB10 has; say it, e\.g\. --vram 16"):
        hardware.machine_for(recipe(), unknown)
    assert hardware.machine_for(recipe("motif_gsm8k", "model.memory_gib=16"), unknown).memory_gib == 16.0


def test_a_device_that_a_run_refuses_is_not_planned_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNSLOTH_FORCE_CPU", raising=False)
    done = invoked("--recipe", "recipes/motif_gsm8k.toml", "--plan", "--set", "model.device='cpu'")
    assert done.exit_code == 2
    assert "model.backend = 'unsloth' works on the GPU; set model.device to 'auto'" in " ".join(done.stderr.split())


def test_weights_that_stay_in_4_bits_for_lack_of_memory_are_told() -> None:
    """One reply more at a time than the 12 GB recipe's takes twice as long."""
    twelve = recipe("motif_gsm8k_12gb")
    assert list(remarks(twelve, plan(twelve, 11.7))) == []
    wider = recipe("motif_gsm8k_12gb", "rollout.max_width=12")
    [said] = remarks(wider, plan(wider, 11.7))
    assert "no memory for them in 16 bits beside 12 replies" in said


# ------------------------------------------------------------------------------------------ the time


def test_without_a_gpu_the_speed_of_this_machine_is_measured() -> None:
    done = command("--recipe", "recipes/tiny_cpu.toml", "--plan")
    assert done.returncode == 0, done.stderr
    assert re.search(r"measured +[\d.e+]+ GB/s of weights, [\d.e-]+ TFLOPS reached", done.stdout)


def test_a_step_takes_as_long_as_its_work_at_the_speed_given() -> None:
    changes = ('model.backend="transformers"', "model.load_in_4bit=false", "training.micro_batch_size=4")
    given, shape = recipe("motif_gsm8k", *changes), shapes.KNOWN["qwen2.5-0.5b-instruct"]
    slow = Speed(10e9, 0.2e12, layer_seconds=0)
    seconds = timing.step_seconds(given, shape, "cpu", slow)
    twice = timing.step_seconds(given, shape, "cpu", replace(slow, bytes_per_second=20e9, flops_per_second=0.4e12))
    assert twice == pytest.approx({phase: each / 2 for phase, each in seconds.items()})
    alone = replace(shape, packs=False)
    one, two = (
        timing.step_seconds(changed(given, {"rollout.num_openings": num}), alone, "cpu", slow)["update"]
        for num in (8, 16)
    )
    assert two == pytest.approx(2 * one)
    recomputing = timing.step_seconds(changed(given, {"training.gradient_checkpointing": False}), shape, "cpu", slow)
    assert recomputing["update"] < 0.75 * seconds["update"]
    # 32 rows by hand: 0.49 billion weights in 4 bytes, a product of 2 operations with each for every row. And what the
    # engine's check takes: the weights four times, and 192 tokens through the 0.36 billion of the blocks.
    one_token = changed(given, {"rollout.openings.max_tokens": 1, "rollout.max_prompt_tokens": 1, "lora.rank": 1})
    openings = timing.step_seconds(changed(one_token, {"rollout.num_openings": 32}), shape, "cpu", slow)["openings"]
    check = 4 * 0.494e9 * (4 / 10e9 + 2 / 0.2e12) + 192 * 2 * 0.358e9 / 0.2e12
    assert openings == pytest.approx(0.494e9 * (4 / 10e9 + 32 * 2 / 0.2e12) + check, rel=0.05)


def test_an_update_of_packed_rows_computes_a_prompt_once_for_those_that_go_together() -> None:
    """Openings of 1024 + 1024 tokens, 8 to a problem: all of them at once, or each by itself."""
    given = recipe("motif_gsm8k", 'model.backend="transformers"')
    narrow, wide = (changed(given, {"training.micro_batch_size": size}) for size in (1, 8))
    assert rows.update_tokens(narrow, packs=True) == 8 * 2048
    assert rows.update_tokens(wide, packs=True) == 1024 + 8 * 1024
    shape, speed = shapes.KNOWN["qwen2.5-0.5b-instruct"], Speed(1e15, 0.2e12, layer_seconds=0)
    packed, alone = (
        timing.step_seconds(wide, replace(shape, packs=packs), "cpu", speed)["update"] for packs in (True, False)
    )
    assert 9 / 16 < packed / alone < 0.75, "the output layer works on replies, which none share"


def test_what_prompts_share_is_read_once() -> None:
    """Openings of one problem share their prompt, futures of one opening its reply."""
    changes = ('model.backend="transformers"', "training.micro_batch_size=4")
    given, shape = recipe("motif_gsm8k", *changes), shapes.KNOWN["qwen2.5-0.5b-instruct"]
    speed = Speed(1e15, 0.2e12, layer_seconds=0)
    openings, more = (
        timing.step_seconds(changed(given, {"rollout.openings.max_tokens": 1, key: 4}), shape, "cpu", speed)["openings"]
        for key in ("rollout.num_openings", "training.problems_per_step")
    )
    assert more > 3 * openings
