"""What the environment consists of, and how large it is."""

import hashlib
import platform
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

REQUIREMENTS = {
    "cpu": ("requirements-cpu.txt",),
    "dev": (
        "requirements-dev.txt", "requirements-cpu.txt", "requirements-logging.txt", "requirements-serve.txt",
        "requirements-gym.txt",
    ),
}  # fmt: skip
"""Files by part, the one to install first: it names the others."""

_UNSLOTH_WITHOUT_GPU = "2026.10.9"
"""The first version whose CPU backend our tests pass with; it does not resolve with the rest."""

SIZES = {"CPU": (440, 2000), "CUDA": (2980, 5800)}
"""MB to fetch and MB on disk of part ``cpu`` by PyTorch's build: Linux on x86-64, measured with Python 3.11 to 3.13."""
DEV_SIZE = (112, 415)
"""The same of what ``dev`` adds."""
UNSLOTH_SIZE = (390, 1100)
"""The same of what ``unsloth`` adds."""


def pin(package: str, file: str = "requirements.txt") -> str:
    """The version of a package that a requirements file pins, e.g. ``2.13.0``."""
    found = re.search(rf"^{package}==(\S+)", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
    assert found, f"{file} does not pin {package}"
    return found[1]


def unsloth_packages() -> dict[str, list[str]]:
    """Both versions of Unsloth that tests use, by folder; each has one of its own, for their needs exclude each other.

    One is the version that requirements.txt pins, with a Triton whose interpreter knows NumPy 2.4; the other has a CPU
    backend.
    """
    pinned = [f"{name}=={pin(name)}" for name in ("unsloth", "unsloth_zoo")]
    on_cpu = [f"{name}=={_UNSLOTH_WITHOUT_GPU}" for name in ("unsloth", "unsloth_zoo")]
    return {"unsloth-pinned": [*pinned, "triton==3.9.0"], "unsloth-on-cpu": on_cpu}


def digest(part: str) -> str:
    """Names what a part is made from: changes when its requirements do."""
    if part in REQUIREMENTS:
        content = "".join((ROOT / file).read_text(encoding="utf-8") for file in REQUIREMENTS[part])
    else:
        content = " ".join(unsloth_packages()[part])
    return hashlib.sha256(content.encode()).hexdigest()


def sizes(part: str, build: str) -> tuple[int, int] | None:
    """MB to fetch and MB on disk of ``cpu`` or ``dev`` from nothing; None where it has not been measured."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return None
    fetched, on_disk = SIZES[build]
    more = DEV_SIZE if part == "dev" else (0, 0)
    return fetched + more[0], on_disk + more[1]


def readable(megabytes: float) -> str:
    """``440 MB``, ``2.1 GB``."""
    return f"{megabytes / 1000:.1f} GB" if megabytes >= 1000 else f"{megabytes:.0f} MB"
