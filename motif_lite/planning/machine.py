"""The machine that a run has to fit into."""

from dataclasses import dataclass
from typing import Literal

MIB = 2**20

GIB = 2**30

DeviceType = Literal["cuda", "cpu"]


@dataclass(frozen=True, slots=True)
class Machine:
    """What a run has to fit into.

    Attributes:
        name: For people.
        memory_gib: What may be used, in GiB.
        is_here: Nobody had to suppose it.
        libraries: Bytes that the imported libraries take, where a run has measured it (CPU only); None: not measured.
    """

    device: DeviceType
    memory_gib: float
    name: str
    is_here: bool = True
    libraries: int | None = None
