"""How fast a machine is: a card's speed from the table of cards, a CPU's measured.

A CPU is measured with PyTorch's own products, in 32 and in 16 bits (`probe`): another library's say little about them.
"""

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from motif_lite.planning import cards, probe
from motif_lite.planning.cards import Card
from motif_lite.planning.machine import Machine

_PROBE_SECONDS = 120
"""The probe takes four, most of them for importing PyTorch; where it does not answer, speeds are assumed."""

_OF_BANDWIDTH, _OF_TFLOPS = 0.85, 0.35
"""Shares of a data sheet's figures that rollouts and updates reach. A copy on an H100 reached 87 % and a large product
79 %; those of an update are smaller, and what they reach is assumed."""

REACHED = (
    f"{100 * _OF_BANDWIDTH:.0f} % of the data sheet's bandwidth (87 % measured on an H100) and "
    f"{100 * _OF_TFLOPS:.0f} % of its TFLOPS, assumed:"
)

_LAUNCHING = 1.9e-3
"""Seconds that Python and launches take for a layer and token step in Unsloth's loop, while the GPU works on earlier
layers: 69 ms for 36 layers, measured on an H100's host."""

_RECORDED = 0.105e-3
"""Seconds of a layer's small kernels in a recorded token step, which the GPU adds to reading the weights: 6.3 ms for 36
layers of Qwen2.5-3B's shape on an H100, less 2.5 ms for what is read and drawn."""


@dataclass(frozen=True, slots=True)
class Speed:
    """What a machine does.

    Attributes:
        bytes_per_second: Of weights, as a product with few rows takes them in.
        flops_per_second: Of matrix products, as reached and not as advertised.
        layer_seconds: What one layer costs per token step whatever its size: on a GPU its small kernels, where steps
            are recorded, otherwise Python.
        launch_seconds: The same where a GPU's steps are not recorded: Python, and launching kernels, meanwhile.
        card: That it was assumed for.
        is_measured: On this machine, now.
        adapted_seconds: What each adapted projection adds to `layer_seconds` on a CPU.
        values_per_second: Of activations, that an update computes on a CPU between its products.
        in_bf16: A CPU's speed where it multiplies in bfloat16.
    """

    bytes_per_second: float
    flops_per_second: float
    layer_seconds: float
    launch_seconds: float = 0.0
    card: Card | None = None
    is_measured: bool = False
    adapted_seconds: float = 0.0
    values_per_second: float = float("inf")
    in_bf16: "Speed | None" = None

    def __str__(self) -> str:
        launching = f", {1e3 * self.launch_seconds:.3g} ms where it is not recorded" if self.launch_seconds else ""
        adapted = f" and {1e3 * self.adapted_seconds:.3g} per adapted projection" if self.adapted_seconds else ""
        here = (
            f"{self.bytes_per_second / 1e9:.3g} GB/s of weights, {self.flops_per_second / 1e12:.3g} TFLOPS reached, "
            f"{1e3 * self.layer_seconds:.3g} ms per layer and token step{adapted}{launching}"
        )
        if self.in_bf16 is None:
            return here
        bf16 = f"{self.in_bf16.bytes_per_second / 1e9:.3g} GB/s and {self.in_bf16.flops_per_second / 1e12:.3g} TFLOPS"
        return f"{here}; in bfloat16 {bf16}"


_VALUES_PER_CORE = 0.25e9
"""Activations that one core computes in a second: measured for 0.5 billion weights and 1,530 tokens."""

_OPERATIONS, _OF_ADAPTED = 40, 7
"""Small operations that a layer is worth between its products in a token step, and what each adapted projection
adds: 2.5 to 2.8 ms for a layer of Qwen2.5-0.5B with seven adapted ones, where one operation took 0.03 ms."""

_CASTS = 21
"""The same for products in bfloat16 of states in 32 bits: three for each of seven."""

_SMALL = 30e-6
"""Seconds of a small operation, on two cores of an Intel Xeon."""

CPU = Speed(
    10e9, 0.4e12, _OPERATIONS * _SMALL,
    adapted_seconds=_OF_ADAPTED * _SMALL, values_per_second=2 * _VALUES_PER_CORE,
)  # fmt: skip
"""Two cores of a server, where nothing is measured."""


def assumed(machine: Machine) -> Speed:
    """Of a card by its name, or as `cards.DEFAULT` where it is unknown."""
    if machine.device == "cpu":
        return CPU
    card = cards.of_driver(machine.name, machine.memory_gib) or cards.DEFAULT
    reached = _OF_BANDWIDTH * 1e9 * card.gigabytes_per_second, _OF_TFLOPS * 1e12 * card.tflops
    return Speed(*reached, _RECORDED, _LAUNCHING, card)


def measured() -> Speed:
    """This CPU's speed by `probe`, with as much else as works on it now. Takes four seconds.

    As everywhere, OMP_NUM_THREADS says how many threads there are; by default PyTorch has one per core.
    """
    threads = str(_num_threads())
    command = [sys.executable, "-P", probe.__file__, threads]
    as_many = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), threads)
    try:
        done = subprocess.run(
            command, env=os.environ | as_many, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=True
        )
        flops, narrow, flops_in_bf16, narrow_in_bf16, small = map(float, done.stdout.split())
    except (OSError, subprocess.SubprocessError, ValueError):
        return CPU
    in_bf16 = _of_cpu(flops_in_bf16, narrow_in_bf16, 2, small) if flops_in_bf16 else None
    return _of_cpu(flops, narrow, 4, small, in_bf16)


def _of_cpu(flops: float, narrow: float, weight_bytes: int, small: float, in_bf16: Speed | None = None) -> Speed:
    """From what `probe` measures; products of fewer bytes take casts."""
    size, operations = probe.WEIGHTS**2, _OPERATIONS + (_CASTS if weight_bytes < 4 else 0)
    reading = max(narrow - 2 * probe.NARROW * size / flops, 0.1 * narrow)
    return Speed(
        weight_bytes * size / reading, flops, operations * small, is_measured=True,
        adapted_seconds=_OF_ADAPTED * small, values_per_second=_num_threads() * _VALUES_PER_CORE, in_bf16=in_bf16,
    )  # fmt: skip


def shared(speed: Speed, machine: Machine, count: int) -> Speed:
    """What each of several processes reaches: a GPU's own speed, or its part of a CPU."""
    if machine.device == "cuda" or count == 1:
        return speed
    return replace(
        speed,
        bytes_per_second=speed.bytes_per_second / count,
        flops_per_second=speed.flops_per_second / count,
        values_per_second=speed.values_per_second / count,
        in_bf16=shared(speed.in_bf16, machine, count) if speed.in_bf16 else None,
    )


def _num_threads() -> int:
    """Of PyTorch's products: cores that this process may use, two threads of one core being one."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdigit() and int(given):
        return int(given)
    if not hasattr(os, "sched_getaffinity"):  # not Linux
        return os.cpu_count() or 1
    topology = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    files = [Path(topology.format(number)) for number in os.sched_getaffinity(0)]
    return len({file.read_text(encoding="ascii") if file.exists() else str(file) for file in files})
