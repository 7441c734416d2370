"""What NVIDIA's driver says about this machine's GPUs, by nvidia-smi: importing torch would take seconds."""

import os
import shutil
import subprocess
from dataclasses import dataclass

from motif_lite.planning import cards
from motif_lite.planning.cards import Card

_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU of this machine.

    Attributes:
        uuid: The driver's name for this very GPU.
        driver: The driver's version, e.g. ``570.86.15``.
        used_gib: Of its memory, by all programs together.
        capability: CUDA's compute capability; None where an old driver does not tell it of an unknown card.
    """

    name: str
    memory_gib: float
    uuid: str = ""
    driver: str = ""
    used_gib: float = 0.0
    capability: tuple[int, int] | None = None

    @property
    def card(self) -> Card | None:
        """Its entry in the table of cards."""
        return cards.of_driver(self.name, self.memory_gib)

    @property
    def has_bfloat16(self) -> bool:
        """In hardware, from Ampere on; PyTorch emulates it on older cards, slowly."""
        return self.capability is not None and self.capability >= (8, 0)


@dataclass(frozen=True, slots=True)
class Driver:
    """The answer of nvidia-smi.

    Attributes:
        gpus: That programs may use (CUDA_VISIBLE_DEVICES), in the order of that variable or of the bus.
        hidden: GPUs that CUDA_VISIBLE_DEVICES hides.
        fault: Why there is no answer; empty where there is one.
    """

    gpus: tuple[Gpu, ...] = ()
    hidden: int = 0
    fault: str = ""


def ask() -> Driver:
    """Ask nvidia-smi for all GPUs."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return Driver(fault="nvidia-smi is not on the PATH")
    done, fields = None, "uuid,name,memory.total,memory.used,driver_version"
    for query in (f"{fields},compute_cap", fields):  # old drivers do not know the last field
        command = [tool, f"--query-gpu={query}", "--format=csv,noheader,nounits"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
        except (OSError, subprocess.SubprocessError) as error:
            return Driver(fault=f"nvidia-smi does not answer ({error})")
        if done.returncode == 0:
            found = [gpu for line in done.stdout.splitlines() if (gpu := _gpu(line)) is not None]
            gpus = _visible(found, os.environ.get("CUDA_VISIBLE_DEVICES"))
            return Driver(gpus, len(found) - len(gpus), "" if found else "nvidia-smi lists no GPU")
    said = (done.stderr or done.stdout).strip() if done else ""
    return Driver(fault=f"nvidia-smi failed ({said.partition(chr(10))[0][:200] or 'without a word'})")


def _gpu(line: str) -> Gpu | None:
    """A line of the answer; None where it is something else."""
    uuid, *rest = (part.strip() for part in line.split(","))
    try:
        name, mib, used_mib, driver = rest[:4]
        memory, used = float(mib) / 1024, float(used_mib) / 1024
    except ValueError:
        return None
    if len(rest) > 4 and (numbers := rest[4].split("."))[0].isdigit():
        capability: tuple[int, int] | None = (int(numbers[0]), int(numbers[-1]))
    else:
        card = cards.of_driver(name, memory)
        capability = card.capability if card else None
    return Gpu(name, memory, uuid, driver, used, capability)


def _visible(gpus: list[Gpu], chosen: str | None) -> tuple[Gpu, ...]:
    """Those that CUDA_VISIBLE_DEVICES names by number or UUID, up to the first that is not there, as CUDA has it."""
    if chosen is None:
        return tuple(gpus)
    found: list[Gpu] = []
    for word in filter(None, (part.strip() for part in chosen.split(","))):
        if word.isdigit():
            matching = gpus[int(word) : int(word) + 1]
        else:
            matching = [gpu for gpu in gpus if gpu.uuid.startswith(word)][:1]
        if not matching:
            break
        found += matching
    return tuple(found)
