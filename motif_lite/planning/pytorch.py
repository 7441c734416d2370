"""Which PyTorch is installed, and which cards it has kernels for; by its files, for importing it takes seconds."""

import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

Capability = tuple[int, int]
"""CUDA's compute capability, e.g. ``(8, 6)``."""

ARCHITECTURES: dict[str, tuple[Capability, ...]] = {
    "12.8": ((7, 0), (7, 5), (8, 0), (8, 6), (9, 0), (10, 0), (12, 0)),
    "13.0": ((7, 5), (8, 0), (8, 6), (9, 0), (10, 0), (12, 0)),
}
"""Compute capabilities that PyTorch's wheels have kernels for, by their CUDA (torch 2.10)."""

_PINNED_CUDA = "12.8"
"""Of the PyTorch in requirements.txt, for which cards are compared where no build for CUDA is installed."""


@dataclass(frozen=True, slots=True)
class Torch:
    """The installed PyTorch.

    Attributes:
        cuda: CUDA's version that it is built for, e.g. ``12.8``; None: a build for CPUs.
    """

    version: str
    cuda: str | None


def installed() -> Torch | None:
    """The installed PyTorch, by the files of its package."""
    spec = find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        return None
    about = Path(spec.submodule_search_locations[0]) / "version.py"
    text = about.read_text(encoding="utf-8") if about.exists() else ""
    number = re.search(r"^__version__ = '([^']+)'", text, re.MULTILINE)
    cuda = re.search(r"^cuda: [^=]*= '([^']+)'", text, re.MULTILINE)
    return Torch(number[1] if number else "?", cuda[1] if cuda else None)


def why_no_kernels(torch: Torch | None, capability: Capability | None) -> str:
    """Why a card cannot compute with this PyTorch, without an end; empty where it can, or nothing is known.

    Args:
        torch: Where it is none for CUDA, the pinned one counts.
    """
    known = ARCHITECTURES.get((torch and torch.cuda) or _PINNED_CUDA)
    if known is None or capability is None or runs_on(capability, known):
        return ""
    which = torch.version if torch and torch.cuda else f"for CUDA {_PINNED_CUDA}"
    number, all_known = "{}.{}".format(*capability), ", ".join(f"{major}.{minor}" for major, minor in known)
    return f"its compute capability is {number}, and PyTorch {which} has kernels for {all_known}"


def runs_on(capability: Capability, kernels: tuple[Capability, ...]) -> bool:
    """Whether one of the kernels runs: of the same first number, and no later second one."""
    return any(major == capability[0] and minor <= capability[1] for major, minor in kernels)
