"""What NVIDIA's driver says about this machine's GPUs, by nvidia-smi: importing torch would take seconds."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, replace

from motif_lite.planning import cards
from motif_lite.planning.cards import Card
from motif_lite.planning.pytorch import Capability

_SECONDS = 10

_REPORTED = 0.95
"""Of what nvidia-smi or the name of a MIG slice says, where the table of cards does not know what PyTorch reports; of
its cards PyTorch reports 96 % or more."""

_CARD_OF_LIST = re.compile(r"^GPU \d+:.*\(UUID: (GPU-[^)]+)\)")

_SLICE_OF_LIST = re.compile(r"^\s+MIG (\S+)\s.*\(UUID: (MIG-[^)]+)\)")

_SIZE_OF_PROFILE = re.compile(r"\.(\d+)gb")


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU of this machine, or a MIG slice of one.

    Attributes:
        memory_gib: What PyTorch reports, or will; None where nvidia-smi does not tell.
        uuid: The driver's name for this very GPU.
        driver: The driver's version, e.g. ``570.86.15``.
        used_gib: Of its memory, by all programs together, as far as it is told.
        capability: CUDA's compute capability; None where an old driver does not tell it of an unknown card.
    """

    name: str
    memory_gib: float | None
    uuid: str = ""
    driver: str = ""
    used_gib: float = 0.0
    capability: Capability | None = None

    @property
    def card(self) -> Card | None:
        """Its entry in the table of cards."""
        return cards.of_driver(self.name, self.memory_gib or 0.0)

    @property
    def has_bfloat16(self) -> bool:
        """In hardware, from Ampere on; PyTorch emulates it on older cards, slowly."""
        return self.capability is not None and self.capability >= (8, 0)

    @property
    def size(self) -> str:
        """Its memory, for people."""
        return "of unknown memory" if self.memory_gib is None else f"{self.memory_gib:.1f} GiB"


@dataclass(frozen=True, slots=True)
class Driver:
    """The answer of nvidia-smi.

    Attributes:
        gpus: That programs may use (CUDA_VISIBLE_DEVICES), in the order of that variable or of the bus; of a GPU that
            is divided into MIG slices the first one, unless another is named.
        hidden: GPUs that CUDA_VISIBLE_DEVICES hides.
        fault: Why there is no answer; empty where there is one.
    """

    gpus: tuple[Gpu, ...] = ()
    hidden: int = 0
    fault: str = ""


@dataclass(frozen=True, slots=True)
class _Divided:
    """A GPU and its MIG slices; none where it is whole."""

    whole: Gpu
    slices: tuple[Gpu, ...]

    @property
    def first(self) -> Gpu:
        """What CUDA takes where no slice is named."""
        return self.slices[0] if self.slices else self.whole


def ask() -> Driver:
    """Ask nvidia-smi for all GPUs."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return Driver(fault="nvidia-smi is not on the PATH")
    done, fields = None, "uuid,name,memory.total,memory.used,driver_version"
    for query in (f"{fields},compute_cap", fields):  # old drivers do not know the last field
        try:
            done = _answer(tool, f"--query-gpu={query}", "--format=csv,noheader,nounits")
        except (OSError, subprocess.SubprocessError) as error:
            return Driver(fault=f"nvidia-smi does not answer ({error})")
        if done.returncode == 0:
            found, chosen = list(filter(None, map(_gpu, done.stdout.splitlines()))), _chosen()
            divided = _divided(found, tool, chosen)
            gpus = _visible(divided, chosen)
            return Driver(gpus, max(0, len(found) - len(gpus)), "" if found else "nvidia-smi lists no GPU")
    said = (done.stderr or done.stdout).strip() if done else ""
    return Driver(fault=f"nvidia-smi failed ({said.partition(chr(10))[0][:200] or 'without a word'})")


def _answer(tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([tool, *arguments], capture_output=True, text=True, timeout=_SECONDS, check=False)


def _chosen() -> list[str] | None:
    """What CUDA_VISIBLE_DEVICES names; None where it is not set."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return None if given is None else [word for part in given.split(",") if (word := part.strip())]


def _gpu(line: str) -> Gpu | None:
    """A line of the answer; None where it is something else."""
    uuid, *rest = (part.strip() for part in line.split(","))
    if len(rest) < 4:
        return None
    name, total, used, driver = rest[:4]
    memory = _gib(total)
    card = cards.of_driver(name, memory or 0.0)
    if len(rest) > 4 and (numbers := rest[4].split("."))[0].isdigit():
        capability: Capability | None = (int(numbers[0]), int(numbers[-1]))
    else:
        capability = card.capability if card else None
    return Gpu(name, _reported(memory, card), uuid, driver, _gib(used) or 0.0, capability)


def _gib(mib: str) -> float | None:
    """Of a number of MiB; None where there is none, as ``[N/A]`` for memory that CPU and GPU share."""
    try:
        return float(mib) / 1024
    except ValueError:
        return None


def _reported(memory: float | None, card: Card | None) -> float | None:
    """What PyTorch reports of so much memory: what the table says of this card, unless it is one of another size."""
    if memory is None:
        return None
    is_its_size = card is not None and 0.9 * memory < card.memory_gib <= memory
    return card.memory_gib if card is not None and is_its_size else _REPORTED * memory


def _divided(gpus: list[Gpu], tool: str, chosen: list[str] | None) -> list[_Divided]:
    """GPUs with their MIG slices, for which nvidia-smi is asked once more where there can be some."""
    names_one = any(word.startswith("MIG-") for word in chosen or ())
    if not names_one and not any("GeForce" not in gpu.name and gpu.has_bfloat16 for gpu in gpus):
        return [_Divided(gpu, ()) for gpu in gpus]
    try:
        listed = _answer(tool, "-L").stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        listed = []
    slices: dict[str, list[Gpu]] = {gpu.uuid: [] for gpu in gpus}
    whole = {gpu.uuid: gpu for gpu in gpus}
    on = ""
    for line in listed:
        if card := _CARD_OF_LIST.match(line):
            on = card[1]
        elif on in whole and (found := _SLICE_OF_LIST.match(line)):
            slices[on].append(_slice(whole[on], *found.groups()))
    return [_Divided(gpu, tuple(slices[gpu.uuid])) for gpu in gpus]


def _slice(of: Gpu, profile: str, uuid: str) -> Gpu:
    """A MIG slice, whose memory is in the name of its profile, e.g. ``3g.20gb``."""
    size = _SIZE_OF_PROFILE.search(profile)
    memory = _REPORTED * int(size[1]) if size else None
    return replace(of, name=f"{of.name} MIG {profile}", memory_gib=memory, uuid=uuid, used_gib=0.0)


def _visible(gpus: list[_Divided], chosen: list[str] | None) -> tuple[Gpu, ...]:
    """Those that CUDA_VISIBLE_DEVICES names by number or UUID, up to the first that is not there, as CUDA has it."""
    if chosen is None:
        return tuple(gpu.first for gpu in gpus)
    found: list[Gpu] = []
    for word in chosen:
        if word.isdigit():
            matching = [gpu.first for gpu in gpus[int(word) : int(word) + 1]]
        elif word.startswith("MIG-"):
            matching = _slices_named(gpus, word)
        else:
            matching = [gpu.first for gpu in gpus if gpu.whole.uuid.startswith(word)][:1]
        if not matching:
            break
        found += matching
    return tuple(found)


def _slices_named(gpus: list[_Divided], word: str) -> list[Gpu]:
    """The slice of that name; where nvidia-smi lists no slices at all, one of which nothing else is known."""
    if any(gpu.slices for gpu in gpus):
        return [each for gpu in gpus for each in gpu.slices if each.uuid.startswith(word)][:1]
    return [replace(gpu.whole, name="a MIG slice", memory_gib=None, uuid=word, used_gib=0.0) for gpu in gpus[:1]]
