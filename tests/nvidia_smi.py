"""An nvidia-smi for tests: a real program on the PATH, which answers as the driver's own does."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

RTX_3090 = "GPU-a1, NVIDIA GeForce RTX 3090, 24576, 0, 570.86.15, 8.6"
T4 = "GPU-b2, Tesla T4, 15360, 0, 570.86.15, 7.5"
P40 = "GPU-c3, Tesla P40, 22919, 0, 570.86.15, 6.1"
A100 = "GPU-d4, NVIDIA A100-SXM4-40GB, 40960, 0, 570.86.15, 8.0"

Install = Callable[..., None]


def installer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Returns a function that puts the program on the PATH.

    Its arguments: lines of the answer, which have the fields that are asked for; ``knows_capability``: whether this
    driver knows the field compute_cap; ``fails``: what it says as it ends with code 9; ``lists``: lines of its answer
    to -L, which has MIG slices.
    """

    def install(*lines: str, knows_capability: bool = True, fails: str = "", lists: Sequence[str] = ()) -> None:
        tool = folder / "nvidia-smi"
        answer = "\n".join(f"echo '{line}'" for line in lines) or "true"
        listing = "; ".join(f"echo '{line}'" for line in lists) or "true"
        old = (
            'case "$*" in *compute_cap*) echo "Field \\"compute_cap\\" is not a valid field to query."; exit 2;; esac\n'
        )
        failing = f"echo '{fails}'; exit 9\n" if fails else ""
        tool.write_text(
            f"#!/bin/sh\n{'' if knows_capability else old}{failing}"
            f'case "$*" in -L) {listing}; exit 0;; esac\n{answer}\n'
        )
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return install
