"""The machine that a run has to fit into."""

import re
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
        remark: What people should know about it, without an end; empty where nothing.
        libraries: Bytes that the imported libraries take, where a run has measured it (CPU only); None: not measured.
    """

    device: DeviceType
    memory_gib: float
    name: str
    is_here: bool = True
    libraries: int | None = None
    remark: str = ""


_NO_ALLOCATION = re.compile(r"(?i)can't allocate memory|bad_alloc|could not create a primitive(?! descriptor)")
"""The last is oneDNN's; a primitive descriptor is what it cannot do at all."""

_NO_MEMORY = re.compile(r"(?i)cannot allocate memory|failed to map segment|can't start new thread|unable to mmap")


def says_that_an_allocation_failed(error: BaseException) -> bool:
    """Whether a library had no memory for what it computes, so that less at a time may do."""
    return _NO_ALLOCATION.search(str(error)) is not None


def lacks_memory(error: BaseException) -> bool:
    """Whether the operating system gave no memory: each library has a class and words of its own for it.

    Some say only that an import failed, and what it failed of is the cause.
    """
    causes = (each for each in (error.__cause__, error.__context__) if each is not None)
    said = says_that_an_allocation_failed(error) or _NO_MEMORY.search(str(error)) is not None
    return isinstance(error, MemoryError) or said or any(map(lacks_memory, causes))
