"""`run.py doctor` and what a run says when it cannot start, with an nvidia-smi of each kind on the PATH."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import typer

from motif_lite.commands import doctor as doctor_command
from motif_lite.doctor import checks, facts
from motif_lite.doctor.checks import Finding
from motif_lite.doctor.facts import OPTIONAL, Facts
from motif_lite.doctor.gpu import gpu_fault
from motif_lite.errors import MissingHardwareError
from motif_lite.jobs import checking
from motif_lite.planning import driver, one_card, pytorch
from motif_lite.planning.driver import Driver, Gpu
from motif_lite.planning.pytorch import Torch
from motif_lite.recipe.schema import Recipe
from tests.nvidia_smi import A100, P40, RTX_3090, T4, Install, installer

ROOT = Path(__file__).parents[1]
CUDA_12_8, FOR_CPUS = Torch("2.10.0+cu128", "12.8"), Torch("2.13.0+cpu", None)
CARD = Gpu("NVIDIA GeForce RTX 3090", 23.6, "GPU-a1", "570.86.15", capability=(8, 6))


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    return installer(tmp_path, monkeypatch)


def recipe(*changes: str) -> Recipe:
    return checking.check(ROOT / "recipes" / "tiny_cpu.toml", changes)


# ------------------------------------------------------------------------------------------ the driver


def test_the_driver_is_asked_for_all_gpus_whose_memory_is_what_pytorch_reports(smi: Install) -> None:
    smi(RTX_3090, T4, "GPU-u, Some New Card, 10240, 1024, 570.86.15, 12.0")
    assert driver.ask() == Driver(
        (
            CARD,
            Gpu("Tesla T4", 14.7, "GPU-b2", "570.86.15", capability=(7, 5)),
            Gpu("Some New Card", 9.5, "GPU-u", "570.86.15", 1.0, capability=(12, 0)),
        )
    )


@pytest.mark.parametrize("unknown", ["[N/A]", "[Insufficient Permissions]"])
def test_a_gpu_of_unknown_memory_is_a_gpu(smi: Install, unknown: str) -> None:
    smi(f"GPU-g, NVIDIA GB10, {unknown}, {unknown}, 580.95.05, 12.1")
    assert driver.ask() == Driver((Gpu("NVIDIA GB10", None, "GPU-g", "580.95.05", capability=(12, 1)),))


ON_A100 = (
    "GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-d4)",
    "  MIG 3g.20gb     Device  0: (UUID: MIG-e5)",
    "  MIG 1c.2g.10gb  Device  1: (UUID: MIG-f6)",
)


@pytest.mark.parametrize(
    ("visible", "lists", "expected"),
    [
        (None, ON_A100, ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", 19.0, "MIG-e5")),
        ("0", ON_A100, ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", 19.0, "MIG-e5")),
        ("GPU-d4", ON_A100, ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", 19.0, "MIG-e5")),
        ("MIG-f6", ON_A100, ("NVIDIA A100-SXM4-40GB MIG 1c.2g.10gb", 9.5, "MIG-f6")),
        ("MIG-f6", (), ("a MIG slice", None, "MIG-f6")),
        (None, ON_A100[:1], ("NVIDIA A100-SXM4-40GB", 39.4, "GPU-d4")),
    ],
)
def test_of_a_divided_gpu_programs_see_a_slice(
    smi: Install,
    monkeypatch: pytest.MonkeyPatch,
    visible: str | None,
    lists: tuple[str, ...],
    expected: tuple[str, float | None, str],
) -> None:
    smi(A100, lists=lists)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = driver.ask()
    [gpu] = found.gpus
    assert (gpu.name, gpu.memory_gib, gpu.uuid, gpu.capability, found.hidden) == (*expected, (8, 0), 0)


def test_a_slice_that_is_not_there_is_none(smi: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    smi(A100, lists=ON_A100)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-gone")
    assert driver.ask() == Driver(hidden=1)


@pytest.mark.parametrize(
    ("visible", "names", "hidden"),
    [
        ("1", ["Tesla T4"], 1),
        ("GPU-b2", ["Tesla T4"], 1),
        ("1,0", ["Tesla T4", CARD.name], 0),
        ("", [], 2),
        ("7", [], 2),
    ],
)
def test_what_cuda_visible_devices_hides_is_not_there(
    smi: Install, monkeypatch: pytest.MonkeyPatch, visible: str, names: list[str], hidden: int
) -> None:
    smi(RTX_3090, T4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = driver.ask()
    assert ([gpu.name for gpu in found.gpus], found.hidden) == (names, hidden)


def test_an_old_driver_that_knows_no_capability_leaves_it_to_the_table_of_cards(smi: Install) -> None:
    smi(RTX_3090.rpartition(",")[0], "GPU-c3, Some New Card, 8192, 0, 470.1", knows_capability=False)
    assert [gpu.capability for gpu in driver.ask().gpus] == [(8, 6), None]


@pytest.mark.parametrize(
    ("lines", "fails", "fault"),
    [
        ([], "NVIDIA-SMI has failed because it could not communicate with the driver", "could not communicate"),
        (["nonsense"], "", "lists no GPU"),
        ([], "", "lists no GPU"),
    ],
)
def test_a_driver_without_an_answer_is_quoted(smi: Install, lines: list[str], fails: str, fault: str) -> None:
    smi(*lines, fails=fails)
    found = driver.ask()
    assert found.gpus == ()
    assert fault in found.fault


# ------------------------------------------------------------------------------------------ why there is no GPU


def shown(gpu: Gpu) -> Driver:
    return Driver((gpu,))


def test_a_driver_that_is_too_old_is_told_with_the_one_that_is_needed() -> None:
    assert gpu_fault(CUDA_12_8, shown(replace(CARD, driver="515.105.01"))) == (
        "nvidia-smi shows an RTX 3090 with driver 515.105.01; PyTorch here is built for CUDA 12.8 and needs 570 or, on "
        "cards before Blackwell, 525 and later; update the driver"
    )
    assert gpu_fault(CUDA_12_8, shown(replace(CARD, driver="535.183.01"))) is None


def test_a_blackwell_card_needs_the_driver_of_its_cuda() -> None:
    card = Gpu("NVIDIA GeForce RTX 5090", 31.8, "GPU-d", "565.57.01", capability=(12, 0))
    assert "needs 570" in str(gpu_fault(CUDA_12_8, shown(card)))
    assert gpu_fault(CUDA_12_8, shown(replace(card, driver="570.86.15"))) is None


def test_cuda_13_runs_on_no_driver_of_cuda_12() -> None:
    assert "CUDA 13.0 and needs 580; update" in str(gpu_fault(Torch("2.11.0", "13.0"), shown(CARD)))


def test_a_pytorch_for_cpus_and_none_at_all_are_told_apart() -> None:
    assert "2.13.0+cpu here is built for CPUs only" in str(gpu_fault(FOR_CPUS, shown(CARD)))
    assert "PyTorch is not installed" in str(gpu_fault(None, shown(CARD)))


def test_a_card_without_kernels_is_named_with_those_that_there_are() -> None:
    old = Gpu("NVIDIA GeForce GTX 1080 Ti", 11.0, "GPU-e", "570.86.15", capability=(6, 1))
    assert "capability is 6.1" in str(gpu_fault(CUDA_12_8, shown(old)))
    assert gpu_fault(CUDA_12_8, shown(replace(CARD, capability=(8, 9)))) is None, "kernels for 8.6 run on 8.9"


@pytest.mark.parametrize(
    ("fault", "remedy"),
    [
        ("nvidia-smi failed (Failed to initialize NVML: Driver/library version mismatch)", "restart the machine"),
        ("nvidia-smi failed (No devices were found)", "--gpus all"),
        ("nvidia-smi lists no GPU", "--gpus all"),
        ("nvidia-smi is not on the PATH", "install NVIDIA's driver"),
    ],
)
def test_each_silence_of_the_driver_has_a_remedy(fault: str, remedy: str) -> None:
    assert remedy in str(gpu_fault(CUDA_12_8, Driver(fault=fault)))


def test_of_several_cards_the_one_that_a_run_takes_is_judged() -> None:
    old = Gpu("NVIDIA GeForce GTX 1080", 8.0, "GPU-o", CARD.driver, capability=(6, 1))
    assert gpu_fault(CUDA_12_8, Driver((old, CARD))) is None
    assert "capability is 6.1" in str(gpu_fault(CUDA_12_8, Driver((old, old))))


def test_a_run_that_cannot_start_says_why(smi: Install) -> None:
    """Through the backend itself, with the PyTorch that is installed here."""
    import torch

    from motif_lite.policies.transformers_policy import TransformersPolicy

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    smi(RTX_3090.replace("570.86.15", "470.42.01"))
    with pytest.raises(MissingHardwareError, match=r"RTX 3090 with driver 470\.42\.01.*recipes/tiny_cpu\.toml"):
        TransformersPolicy.require(recipe('model.device="cuda"'))


# ------------------------------------------------------------------------------------------ one card


def test_of_several_gpus_a_run_uses_the_best_and_says_so(smi: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    smi(T4, RTX_3090)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    told = one_card.use(recipe())
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-a1"
    assert told is not None
    assert "cuda:1 NVIDIA GeForce RTX 3090" in told
    assert "not used: cuda:0 Tesla T4" in told
    assert one_card.use(recipe()) is None, "one is left, and nothing to tell"


def test_a_card_without_kernels_is_the_last_choice(smi: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has more memory than the other: a run takes that one, and a plan is for that one."""
    smi(P40, "GPU-e, NVIDIA GeForce RTX 2080 Ti, 11264, 0, 570.86.15, 7.5")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    found = checking.memory_plan(ROOT / "recipes" / "motif_gsm8k.toml", [], None)
    assert (found.machine.name, found.machine.remark) == ("NVIDIA GeForce RTX 2080 Ti", "")
    one_card.use(recipe())
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-e"
    smi(P40)
    alone = checking.memory_plan(ROOT / "recipes" / "motif_gsm8k.toml", [], None)
    assert "capability is 6.1, and PyTorch" in alone.machine.remark


def test_a_recipe_may_name_the_other(smi: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    smi(RTX_3090, T4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    one_card.use(recipe('model.device="cuda:1"'))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-b2"


def test_a_gpu_that_is_not_there_is_refused_with_those_that_are(smi: Install) -> None:
    smi(RTX_3090, T4)
    with pytest.raises(MissingHardwareError, match="cuda:0 NVIDIA GeForce RTX 3090, cuda:1 Tesla T4"):
        one_card.use(recipe('model.device="cuda:2"'))
    smi(fails="no driver")
    with pytest.raises(MissingHardwareError, match="no driver"):
        one_card.use(recipe('model.device="cuda:1"'))


def test_a_cpus_run_leaves_the_environment_alone(smi: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    smi(RTX_3090, T4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert one_card.use(recipe('model.device="cpu"')) is None
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"


# ------------------------------------------------------------------------------------------ the checks


GOOD = Facts(
    python=(3, 11),
    torch=CUDA_12_8,
    driver=Driver((CARD,)),
    compiler="/usr/bin/gcc",
    python_header=Path("/usr/include/python3.11/Python.h"),
    memory_gib=32.0,
    free_disk_gib={"runs (/home)": 100.0},
    requirements="requirements.txt",
    pins={"torch": "2.10.0", "trl": "1.14.2"},
    installed={"torch": "2.10.0+cu128", "trl": "1.14.2", **dict.fromkeys(OPTIONAL, "1.0")},
)


def remarks(given: Facts) -> list[tuple[str, Finding]]:
    return [(name, finding) for name, finding in checks.examine(given) if finding.state != "ok"]


def test_a_good_machine_has_nothing_to_put_right() -> None:
    assert remarks(GOOD) == []
    assert {name for name, _ in checks.examine(GOOD)} == checks.CHECKS.keys() - {"card"}


@pytest.mark.parametrize(
    ("given", "name", "state", "text", "remedy"),
    [
        (replace(GOOD, python=(3, 10)), "Python", "wrong", "3.10", "another"),
        (replace(GOOD, installed={**GOOD.installed, "trl": None}), "packages", "wrong", "trl", "-r requirements.txt"),
        (replace(GOOD, installed={**GOOD.installed, "trl": "1.15.0"}), "packages", "wrong", "pinned 1.14.2", "pip"),
        (replace(GOOD, pins={}), "packages", "note", "not compared", ""),
        (replace(GOOD, torch=FOR_CPUS), "GPU", "wrong", "for CPUs only", "requirements.txt"),
        (replace(GOOD, driver=Driver(fault="no nvidia-smi")), "GPU", "wrong", "no nvidia-smi", "tiny_cpu.toml"),
        (
            replace(GOOD, driver=Driver(fault="no nvidia-smi"), requirements=facts.FOR_CPUS),
            "GPU",
            "note",
            "no nvidia-smi",
            "tiny_cpu.toml",
        ),
        (replace(GOOD, driver=Driver(hidden=2)), "GPU", "wrong", "hides all 2", "unset"),
        (replace(GOOD, driver=Driver((replace(CARD, memory_gib=6.0),))), "card", "note", "6.0 GiB", "--plan"),
        (replace(GOOD, driver=Driver((replace(CARD, capability=(7, 5)),))), "card", "note", "no bfloat16", "t4"),
        (
            replace(GOOD, driver=Driver((replace(CARD, used_gib=4.0),))),
            "card",
            "note",
            "4.0 of 23.6",
            "what is left",
        ),
        (replace(GOOD, driver=Driver((CARD, CARD))), "card", "note", "best: cuda:0 NVIDIA", "cuda:N"),
        (replace(GOOD, driver=Driver((replace(CARD, memory_gib=None),))), "card", "note", "not tell", "--vram"),
        (replace(GOOD, compiler=None), "compiler", "wrong", "no C compiler", "gcc"),
        (replace(GOOD, python_header=None), "compiler", "wrong", "Python.h", "python3.11-dev"),
        (replace(GOOD, memory_gib=8.0), "memory", "note", "8.0 GiB", "WSL"),
        (replace(GOOD, free_disk_gib={"runs (/home)": 2.0}), "disk", "note", "2.0 GiB free for runs", "HF_HOME"),
        (
            replace(GOOD, installed={**GOOD.installed, "vllm": None}),
            "optional",
            "note",
            "model.fast_inference",
            "requirements-vllm.txt",
        ),
    ],
)
def test_each_fault_has_one_finding_and_a_remedy(given: Facts, name: str, state: str, text: str, remedy: str) -> None:
    [(found_name, finding)] = remarks(given)
    assert (found_name, finding.state) == (name, state)
    assert text in finding.text
    assert remedy in finding.remedy


def test_the_installed_pytorch_is_read_from_its_files() -> None:
    import torch

    assert pytorch.installed() == Torch(torch.__version__, torch.version.cuda)


def test_a_missing_compiler_is_found_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    assert facts.compiler() is None
    gcc = tmp_path / "gcc"
    gcc.write_text("#!/bin/sh\n")
    gcc.chmod(0o755)
    assert facts.compiler() == str(gcc)


def test_the_screen_ends_with_a_verdict_and_the_exit_code_of_a_fault(
    smi: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    """This machine's own packages are compared with the pins of the file for GPUs, since there is one."""
    smi(RTX_3090.replace("570.86.15", "470.42.01"))
    with pytest.raises(typer.Exit) as ended:
        doctor_command.doctor()
    assert ended.value.exit_code == 2
    screen = capsys.readouterr().out
    assert "driver 470.42.01" in screen
    assert "-> " in screen
    assert screen.splitlines()[-1].endswith("to put right")


def test_a_python_without_the_packages_is_told_what_to_install() -> None:
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-S", str(ROOT / "run.py"), "doctor"]  # -S: no packages but Python's own
    done = subprocess.run(command, capture_output=True, text=True, env=alone, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("error: the package ") and sys.executable in line
    assert "pip install -r requirements.txt" in line and "requirements-cpu.txt" in line
