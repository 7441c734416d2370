"""The requirements files: exact pins, in accord with each other. `make resolve` asks uv whether they resolve."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = (
    "requirements.txt",
    "requirements-cpu.txt",
    "requirements-vllm.txt",
    "requirements-export.txt",
    "requirements-gym.txt",
)


def pins(file: str) -> dict[str, str]:
    lines = [line.partition("#")[0].strip() for line in (ROOT / file).read_text().splitlines()]
    return dict(line.split("==") for line in lines if line and not line.startswith("-r"))


@pytest.mark.parametrize("file", FILES)
def test_every_pin_is_exact(file: str) -> None:
    assert all(re.fullmatch(r"\d[\w.]*", version) for version in pins(file).values())


def test_vllm_comes_with_the_versions_of_the_other_file_but_numpy() -> None:
    """NumPy's is the newest that vLLM's numba takes."""
    with_vllm, without = pins("requirements-vllm.txt"), pins("requirements.txt")
    assert {name for name, version in with_vllm.items() if without.get(name) != version} == {"vllm", "numpy"}
    assert without.keys() - with_vllm.keys() == set()


def test_what_torch_and_unsloth_bring_along_is_pinned() -> None:
    """Unpinned, pip fetches the newest Triton and drops it, and takes a torchao that is built for a later torch."""
    assert pins("requirements.txt").keys() >= {"torch", "torchvision", "triton", "torchao", "diffusers", "xformers"}


def test_cpu_and_gpu_have_the_same_libraries_but_torch() -> None:
    on_cpu, on_gpu = pins("requirements-cpu.txt"), pins("requirements.txt")
    assert {name for name in on_cpu.keys() & on_gpu.keys() if on_cpu[name] != on_gpu[name]} == {"torch"}
