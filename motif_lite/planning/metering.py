"""Seconds and peak memory by phase of a training step, and the limits that memory is kept within."""

import ctypes
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import torch

from motif_lite.planning.driver import Gpu
from motif_lite.planning.machine import GIB, MIB, Machine
from motif_lite.planning.memory import CUDA_LIBRARIES

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1
"""mallopt's names (malloc.h) for the bytes from which a block goes back at once, and from which free ones do."""

_GRANULE = 16 * MIB

_CONTEXT = 256 * MIB
"""What a process takes on a GPU at least, before it has a tensor there; cards with more multiprocessors take more."""

PHASES = ("openings", "futures", "update")


def gpu() -> Gpu | None:
    """The GPU that PyTorch would use.

    What is not free is used by other programs, but for this one's tensors and its CUDA context; where CPU and GPU share
    their memory, files that were read count as well, and so nothing is said.
    """
    if not torch.cuda.is_available():
        return None
    found = torch.cuda.get_device_properties(0)
    free, total = torch.cuda.mem_get_info(0)
    others = total - free - torch.cuda.memory_reserved(0) - _CONTEXT
    return Gpu(found.name, found.total_memory / GIB, used_gib=0.0 if found.is_integrated else max(0, others) / GIB)


def measured(machine: Machine) -> Machine:
    """The machine, on a CPU with what the libraries take: call it after they are imported and before a model is loaded.

    Rounded up, so that a run that is started again has the same plan. Outside Linux nothing can be measured.
    """
    if machine.device == "cuda" or (resident := _from_status("VmRSS")) is None:
        return machine
    return replace(machine, libraries=-(-resident // _GRANULE) * _GRANULE)


def keep_within(machine: Machine, *, is_tiny: bool = False) -> None:
    """Make PyTorch stay within the memory that was planned for; call it before the model is loaded.

    On a GPU what goes beyond raises out-of-memory, as on a card of that size. On a CPU nothing is capped, but freed
    tensors of 1 MiB and more go back to the system at once: glibc would keep those under 32 MB, which doubled the peak
    of an update of 0.5 billion weights (measured, docs/measurements.md).

    Args:
        is_tiny: The model is the built-in one, of which glibc may keep what it likes: some 30 MB, and a quarter of an
            update's time went into clearing new pages.
    """
    if machine.device == "cuda" and torch.cuda.is_available():
        tensors, total = machine.memory_gib * GIB - CUDA_LIBRARIES, torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, max(0.01, tensors / total)))
    elif machine.device == "cpu" and not is_tiny:
        _set_malloc(_MMAP_THRESHOLD, MIB)


@contextmanager
def keeping_freed_memory() -> Iterator[None]:
    """Let glibc keep what is freed meanwhile, for who frees it to take again: clearing new pages is left out.

    That was up to a quarter of the tiny model's warm start: 40 steps took 9.8 and 11.1 s without, 7.9 and 10.9 with,
    on a busy machine.
    """
    _set_malloc(_MMAP_THRESHOLD, 32 * MIB)
    _set_malloc(_TRIM_THRESHOLD, GIB)
    try:
        yield
    finally:
        _set_malloc(_TRIM_THRESHOLD, 64 * MIB)  # what glibc itself arrives at
        give_back()


def _set_malloc(name: int, size: int) -> None:
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").mallopt(name, size)


def give_back() -> None:
    """Give the system what freed tensors below that threshold have left behind on a CPU.

    glibc keeps it between blocks in use: half a gigabyte after a few micro-batches of 300 tokens and 0.5 billion
    weights, on top of 2.8 in use (measured).
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


class PhaseMeter:
    """Measures phases that follow each other; starting one ends the one before.

    Seconds are wall-clock and monotonic. Memory is the peak in bytes while the phase ran: what PyTorch has reserved
    on a GPU, resident memory of the process on a CPU (Linux; elsewhere it is absent).

    Args:
        device_type: ``cuda`` or ``cpu``.
    """

    def __init__(self, device_type: str) -> None:
        self._reset, self._peak = (_reset_gpu, _peak_gpu) if device_type == "cuda" else (_reset_cpu, _peak_cpu)
        self._phase: str | None = None
        self._started = 0.0
        self.seconds: dict[str, float] = {}
        self.peak_bytes: dict[str, int] = {}

    def start(self, phase: str) -> None:
        """End the current phase, if any, and begin the next."""
        self.stop()
        self._reset()
        self._phase, self._started = phase, time.monotonic()

    def stop(self) -> None:
        """End the current phase."""
        if self._phase is None:
            return
        self.seconds[self._phase] = self.seconds.get(self._phase, 0.0) + time.monotonic() - self._started
        peak = self._peak()
        if peak is not None:
            self.peak_bytes[self._phase] = max(peak, self.peak_bytes.get(self._phase, 0))
        self._phase = None

    def so_far(self) -> dict[str, float]:
        """Seconds by phase up to now, the current one last."""
        phase, seconds = self._phase, dict(self.seconds)  # asked from another thread while phases change
        if phase is None:
            return seconds
        return seconds | {phase: seconds.pop(phase, 0.0) + time.monotonic() - self._started}

    def take(self) -> tuple[dict[str, float], dict[str, int]]:
        """End the current phase and hand over (seconds, peak bytes) by phase, starting afresh."""
        self.stop()
        taken = self.seconds, self.peak_bytes
        self.seconds, self.peak_bytes = {}, {}
        return taken


def _reset_gpu() -> None:
    torch.cuda.synchronize()
    torch.cuda.empty_cache()  # what the phase before has left in PyTorch's cache is neither this one's nor in its way
    torch.cuda.reset_peak_memory_stats()


def _peak_gpu() -> int | None:
    torch.cuda.synchronize()
    return torch.cuda.max_memory_reserved()


def _reset_cpu() -> None:
    give_back()
    with suppress(OSError):  # not Linux, or not allowed: the peak is then that of the whole run so far
        Path("/proc/self/clear_refs").write_text("5")  # 5 resets VmHWM, see proc(5)


def _peak_cpu() -> int | None:
    return _from_status("VmHWM")


def _from_status(name: str) -> int | None:
    """Bytes that the kernel counts for this process, see proc(5); None outside Linux."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return None
