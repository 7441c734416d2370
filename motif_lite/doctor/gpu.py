"""Can PyTorch use the GPU that the driver shows? One answer, for `run.py doctor` and for a run that cannot start."""

from motif_lite.doctor import facts
from motif_lite.doctor.facts import Torch
from motif_lite.planning import driver as nvidia
from motif_lite.planning.driver import Driver, Gpu

_INSTALL = "pip install -r requirements.txt into an environment of its own"

_NEEDED = {"12.6": 560, "12.8": 570, "12.9": 575, "13.0": 580}
"""The driver that comes with each version of CUDA, on Linux (NVIDIA, CUDA compatibility)."""

_OLDEST = {"12": 525, "13": 580}
"""The oldest driver that runs programs built for any version with that first number."""

_BLACKWELL = (10, 0)

ARCHITECTURES = {
    "12.8": ((7, 0), (7, 5), (8, 0), (8, 6), (9, 0), (10, 0), (12, 0)),
    "13.0": ((7, 5), (8, 0), (8, 6), (9, 0), (10, 0), (12, 0)),
}
"""Compute capabilities that PyTorch's wheels have kernels for, by their CUDA (torch 2.10)."""


def why_none() -> str:
    """Why PyTorch sees no GPU on this machine, and what to do, without its end."""
    asked = nvidia.ask()
    return gpu_fault(facts.torch(), asked) or (
        f"nvidia-smi shows {_named(asked.gpus[0])} with driver {asked.gpus[0].driver}, which PyTorch here can use, but "
        f"CUDA does not start; restart the machine or the container"
    )


def gpu_fault(torch: Torch | None, driver: Driver) -> str | None:
    """Why PyTorch cannot use a GPU here, and what to do, without its end; None where nothing is in the way."""
    if not driver.gpus:
        return _no_gpu(driver)
    gpu = driver.gpus[0]
    shown = f"nvidia-smi shows {_named(gpu)} with driver {gpu.driver}"
    if torch is None:
        return f"{shown}, and PyTorch is not installed; {_INSTALL}"
    if torch.cuda is None:
        return f"{shown}, but PyTorch {torch.version} here is built for CPUs only; {_INSTALL}"
    return _too_old(shown, torch.cuda, gpu) or _no_kernels(shown, torch, gpu)


def _no_gpu(driver: Driver) -> str:
    if driver.hidden:
        return f"CUDA_VISIBLE_DEVICES hides all {driver.hidden} GPUs that nvidia-smi shows; unset it"
    return (
        f"{driver.fault}; install NVIDIA's driver (on WSL in Windows, in a container start it with --gpus all), and "
        f"see docs/install.md"
    )


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
    known = ARCHITECTURES.get(torch.cuda or "")
    if known is None or gpu.capability is None or runs_on(gpu.capability, known):
        return None
    number, all_known = "{}.{}".format(*gpu.capability), ", ".join(f"{major}.{minor}" for major, minor in known)
    return (
        f"{shown}; its compute capability is {number}, and PyTorch {torch.version} has kernels for {all_known}; "
        f"another card is needed"
    )


def runs_on(capability: tuple[int, int], kernels: tuple[tuple[int, int], ...]) -> bool:
    """Whether one of the kernels runs: of the same first number, and no later second one."""
    return any(major == capability[0] and minor <= capability[1] for major, minor in kernels)


def _named(gpu: Gpu) -> str:
    short = gpu.name.removeprefix("NVIDIA ").removeprefix("GeForce ")
    return f"{'an' if short[:1] in 'AHLR' else 'a'} {short}"
