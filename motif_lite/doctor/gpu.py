"""Can PyTorch use the GPU that the driver shows? One answer, for `run.py doctor` and for a run that cannot start."""

from motif_lite.planning import driver as nvidia
from motif_lite.planning import one_card, pytorch
from motif_lite.planning.driver import Driver, Gpu
from motif_lite.planning.pytorch import Torch

_INSTALL = "pip install -r requirements.txt into an environment of its own"

_NEEDED = {"12.6": 560, "12.8": 570, "12.9": 575, "13.0": 580}
"""The driver that comes with each version of CUDA, on Linux (NVIDIA, CUDA compatibility)."""

_OLDEST = {"12": 525, "13": 580}
"""The oldest driver that runs programs built for any version with that first number."""

_BLACKWELL = (10, 0)

_NO_CARD = "start a container with --gpus all, and see whether the machine lists the card (lspci)"

_REMEDIES = {
    "version mismatch": "restart the machine: the driver was updated, and the old one is still loaded",
    "no devices were found": _NO_CARD,
    "lists no gpu": _NO_CARD,
}
"""By words of the driver's fault; otherwise the driver is not there, or not at work."""


def why_none() -> str:
    """Why PyTorch sees no GPU on this machine, and what to do, without its end."""
    asked = nvidia.ask()
    if fault := gpu_fault(pytorch.installed(), asked):
        return fault
    return f"{_shown(asked)}, which PyTorch here can use, but CUDA does not start; restart the machine or the container"


def gpu_fault(torch: Torch | None, driver: Driver) -> str | None:
    """Why PyTorch cannot use the GPU that a run takes, and what to do, without an end; None where it can."""
    if not driver.gpus:
        return _no_gpu(driver)
    gpu, shown = one_card.best_first(driver.gpus)[0], _shown(driver)
    if torch is None:
        return f"{shown}, and PyTorch is not installed; {_INSTALL}"
    if torch.cuda is None:
        return f"{shown}, but PyTorch {torch.version} here is built for CPUs only; {_INSTALL}"
    return _too_old(shown, torch.cuda, gpu) or _no_kernels(shown, torch, gpu)


def _no_gpu(driver: Driver) -> str:
    if driver.hidden:
        return f"CUDA_VISIBLE_DEVICES hides all {driver.hidden} GPUs that nvidia-smi shows; unset it"
    usual = (
        "install NVIDIA's driver (on WSL in Windows, in a container start it with --gpus all), and see docs/install.md"
    )
    said = driver.fault.lower()
    return f"{driver.fault}; {next((remedy for words, remedy in _REMEDIES.items() if words in said), usual)}"


def _too_old(shown: str, cuda: str, gpu: Gpu) -> str | None:
    first = gpu.driver.partition(".")[0]
    needed, oldest = _NEEDED.get(cuda), _OLDEST.get(cuda.partition(".")[0])
    if not first.isdigit() or needed is None or oldest is None:
        return None
    is_new_card = gpu.capability is not None and gpu.capability >= _BLACKWELL
    if int(first) >= (needed if is_new_card else oldest):
        return None
    older = f" or, on cards before Blackwell, {oldest} and later" if oldest < needed else ""
    return f"{shown}; PyTorch here is built for CUDA {cuda} and needs {needed}{older}; update the driver"


def _no_kernels(shown: str, torch: Torch, gpu: Gpu) -> str | None:
    why = pytorch.why_no_kernels(torch, gpu.capability)
    return f"{shown}; {why}; another card is needed" if why else None


def _shown(driver: Driver) -> str:
    """The GPU that a run takes."""
    gpu = one_card.best_first(driver.gpus)[0]
    short = gpu.name.removeprefix("NVIDIA ").removeprefix("GeForce ").removeprefix("a ")
    return f"nvidia-smi shows {'an' if short[:1] in 'AHLR' else 'a'} {short} with driver {gpu.driver}"
