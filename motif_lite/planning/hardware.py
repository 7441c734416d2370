"""Detects the machine's memory and GPU, without importing torch."""

import os
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from motif_lite.errors import MissingHardwareError
from motif_lite.planning import driver, one_card, pytorch
from motif_lite.planning.cards import Card
from motif_lite.planning.driver import Gpu
from motif_lite.planning.machine import GIB, Machine
from motif_lite.recipe.schema import Recipe

_DEFAULT_GPU_GIB = 24.0
"""The card that is planned for where nothing says which."""

_WORTH_SAYING_GIB = 0.05
"""Of other programs: less is what a driver itself takes."""


def machine_for(recipe: Recipe, gpu: Gpu | None, *, vram: float | None = None, supposing: bool = True) -> Machine:
    """What the recipe would run on.

    Args:
        gpu: The machine's own, if it has one.
        vram: Plan for a card of so many GiB instead.
        supposing: Where the recipe needs a GPU and there is none, suppose one; a run has to do with what is here.

    Raises:
        MissingHardwareError: Nobody says how much memory the GPU has.
    """
    given = None if recipe.model.memory_gib == "auto" else recipe.model.memory_gib
    if vram is not None:
        return Machine("cuda", vram, f"a GPU of {vram:g} GiB")
    wants_gpu = recipe.model.device.startswith("cuda") or recipe.model.backend == "unsloth"
    if gpu is not None and recipe.model.device != "cpu":
        return _of_gpu(gpu, given)
    if wants_gpu and supposing:
        size = given or _DEFAULT_GPU_GIB
        return Machine("cuda", size, f"a GPU of {size:g} GiB", is_here=False)
    return Machine("cpu", given or physical_memory_gib(), "this machine without a GPU")


def _of_gpu(gpu: Gpu, given: float | None) -> Machine:
    """What the recipe gives, or what other programs leave."""
    remarks = []
    if why := pytorch.why_no_kernels(pytorch.installed(), gpu.capability):
        remarks.append(f"no run works on it: {why}")
    if gpu.uuid.startswith("MIG-"):
        remarks.append("a MIG slice, whose speed is not known")
    if given is None and gpu.memory_gib is None:
        raise MissingHardwareError(
            f"nvidia-smi does not tell how much memory {gpu.name} has; say it, e.g. --vram 16, or limit the run: --set "
            f"model.memory_gib=16"
        )
    if given is None and gpu.used_gib >= _WORTH_SAYING_GIB:
        remarks.append(f"other programs use {gpu.used_gib:.1f} of its {gpu.size}; end them, or this is what is left")
    free = max(0.0, (gpu.memory_gib or 0.0) - gpu.used_gib)
    return Machine("cuda", given or free, gpu.name, remark="; ".join(remarks))


def shared(machine: Machine, count: int) -> Machine:
    """What each of several processes has: a GPU of its own, or its part of a CPU's memory."""
    if machine.device == "cuda" or count == 1:
        return machine
    return replace(machine, memory_gib=machine.memory_gib / count, name=f"{machine.name}, one of {count} processes")


def machine_of(recipe: Recipe, card: Card) -> Machine:
    """A card by its name, or as much of its memory as the recipe may use."""
    given = card.memory_gib if recipe.model.memory_gib == "auto" else recipe.model.memory_gib
    return Machine("cuda", min(given, card.memory_gib), card.name)


def gpu_by_driver(recipe: Recipe) -> Gpu | None:
    """The NVIDIA GPU that a run of the recipe would use.

    Raises:
        MissingHardwareError: The recipe names one of several that is not there.
    """
    return one_card.choose(recipe, driver.ask().gpus)


def torch_build() -> Literal["CPU", "CUDA"]:
    """Which build of PyTorch is installed; looks for its libraries, for importing it takes seconds."""
    spec = find_spec("torch")
    folders = spec.submodule_search_locations if spec else None
    has_cuda = any((Path(folder) / "lib" / "libtorch_cuda.so").exists() for folder in folders or ())
    return "CUDA" if has_cuda else "CPU"


def physical_memory_gib() -> float:
    """The machine's memory, or what a container is allowed of it."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text(encoding="ascii").strip() if limit.exists() else "max"
    return min(total, int(text) if text.isdigit() else total) / GIB
