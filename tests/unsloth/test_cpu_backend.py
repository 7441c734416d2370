"""The whole program as a user runs it, with Unsloth's own CPU backend behind model.backend = "unsloth"."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from motif_lite.recipe.schema import Recipe
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.records import Subject
from tests.test_training import Training
from tests.unsloth.conftest import ROOT

PROBE = """
import json, os, sys
heavy = ("unsloth", "trl", "transformers", "peft")

class Order:
    found = []
    def find_spec(self, name, path=None, target=None):
        if name in heavy and name not in self.found:
            self.found.append(name)

sys.meta_path.insert(0, Order())
from motif_lite.jobs import checking
from motif_lite.policies import backends
before = [name for name in heavy if name in sys.modules]
backend = backends.backend("unsloth")
import trl
print(json.dumps([before, Order.found, os.listdir("."), os.environ["UNSLOTH_COMPILE_LOCATION"]]))
"""


def program(
    arguments: list[str], folder: Path, changes: list[str], **environment: str
) -> subprocess.CompletedProcess[str]:
    settings = [part for change in changes for part in ("--set", change)]
    return subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *arguments, *settings],
        cwd=folder, capture_output=True, text=True, timeout=300, env=os.environ | environment, check=False,
    )  # fmt: skip


def environment_with(**variables: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ['PYTHONPATH']}"} | variables


def test_unsloth_is_imported_before_what_it_patches_and_compiles_into_our_cache(tmp_path: Path) -> None:
    cache, stood_in = tmp_path / "cache", tmp_path / "here"
    stood_in.mkdir()
    environment = environment_with(MOTIF_LITE_CACHE=str(cache))
    environment.pop("UNSLOTH_COMPILE_LOCATION", None)
    done = subprocess.run(
        [sys.executable, "-c", PROBE], cwd=stood_in, env=environment, capture_output=True, text=True, check=True
    )
    before, order, written, compiled = json.loads(done.stdout.splitlines()[-1])
    assert before == []
    assert order[0] == "unsloth"
    assert {"transformers", "trl", "peft"} <= set(order)
    assert written == []
    assert Path(compiled) == cache / f"unsloth-{unsloth_version()}-torch-{torch.__version__}"


def unsloth_version() -> str:
    import unsloth

    version: str = unsloth.__version__
    return version


@pytest.fixture(scope="module")
def whole(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], Any]:
    """The tiny recipe in small, on the model that knows its task, by the command line."""
    folder = tmp_path_factory.mktemp("program")
    changes = [
        'model.backend="unsloth"', f'model.name="{tiny_folder}"', "rollout.num_openings=4", "rollout.num_futures=2",
        "training.problems_per_step=2", "training.micro_batch_size=4", "training.max_steps=2",
        "training.gradient_checkpointing=true", "data.num_problems=32",
        "evaluation.benchmarks.chain_sum.num_problems=8", 'evaluation.strategies=["multi_round"]',
    ]  # fmt: skip
    recipe = str(ROOT / "recipes" / "tiny_cpu.toml")
    return folder, changes, program(["--recipe", recipe, "--out", "out"], folder, changes)


def test_the_program_runs_whole(whole: tuple[Path, list[str], Any]) -> None:
    folder, _, process = whole
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    assert "Unsloth" not in process.stdout, "its banners belong into run.log"
    lines = [json.loads(line) for line in (folder / "out" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert any(line["grad_norm"] > 0 for line in lines)
    assert {each.when for each in RunDirectory(folder / "out").evaluation().measurements} == {"before", "after"}
    assert (folder / "out" / "adapter" / "adapter_model.safetensors").exists()
    assert [path.name for path in folder.iterdir()] == ["out"]


def test_a_finished_run_is_loaded_and_measured_again_with_the_same_result(
    whole: tuple[Path, list[str], Any],
) -> None:
    folder, _, _ = whole

    def correct() -> int:
        sampled = Subject("chain_sum", "multi_round", "sampled")
        found = RunDirectory(folder / "out").evaluation().find(sampled, "after")
        assert found is not None
        return found.num_correct

    before = correct()
    (folder / "out" / "evaluation.json").unlink()
    process = program(["--evaluate-only", "--out", "out"], folder, [])
    assert process.returncode == 0, process.stderr
    assert correct() == before


def test_fast_inference_without_vllm_ends_with_code_2_and_the_remedy(
    whole: tuple[Path, list[str], Any],
) -> None:
    folder, changes, _ = whole
    recipe = str(ROOT / "recipes" / "tiny_cpu.toml")
    arguments = ["--recipe", recipe, "--out", "refused"]
    process = program(arguments, folder, [*changes, "model.fast_inference=true"])
    assert process.returncode == 2
    assert "requirements-vllm.txt" in process.stderr
    assert "Traceback" not in process.stderr
    assert not (folder / "refused").exists()


def test_without_unsloths_switch_the_missing_gpu_is_named(whole: tuple[Path, list[str], Any]) -> None:
    folder, changes, _ = whole
    recipe = str(ROOT / "recipes" / "tiny_cpu.toml")
    arguments = ["--recipe", recipe, "--out", "refused"]
    process = program(arguments, folder, changes, UNSLOTH_FORCE_CPU="0")
    assert process.returncode == 2
    assert "needs an NVIDIA GPU" in process.stderr


def test_a_run_stopped_and_resumed_equals_one_that_was_not(
    tiny_recipe: Callable[..., Recipe], tiny_folder: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe('model.backend="unsloth"', "training.gradient_checkpointing=true")
    whole = Training(recipe, tiny_folder, tmp_path / "whole")
    assert whole.train()
    whole.require_same_when_resumed(tmp_path / "stopped", 1)
