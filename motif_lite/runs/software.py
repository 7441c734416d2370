"""Which versions a run was made with, as the run itself wrote them down."""

import platform
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from motif_lite import __version__
from motif_lite.runs.files import as_line, each_record, write_whole
from motif_lite.runs.records import Versioned

_PACKAGES = (
    "torch", "transformers", "trl", "peft", "unsloth", "unsloth_zoo", "vllm", "bitsandbytes", "reasoning_gym",
    "math-verify", "latex2sympy2_extended", "sympy",
)  # fmt: skip
"""Those whose version may change a figure, where they are installed."""


class Software(Versioned):
    """A line of software.jsonl: versions by name, with Python's."""

    packages: dict[str, str]


def note(root: Path) -> None:
    """Write down what this process works with, unless the run's last line says the same."""
    now = Software(packages={"motif_lite": __version__, "python": platform.python_version()} | installed())
    earlier = recorded(root)
    if earlier[-1:] != [now]:
        write_whole(_path(root), map(as_line, [*earlier, now]))


def recorded(root: Path) -> list[Software]:
    """What a run was made with: more than one where it went on with other versions, none where it noted none."""
    return list(each_record(_path(root), Software))


def _path(root: Path) -> Path:
    return root / "software.jsonl"


def installed() -> dict[str, str]:
    """The versions of those packages here, by name."""
    found = {}
    for name in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
