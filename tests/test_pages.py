"""Large pages for PyTorch's tensors: asked for before it allocates the first, and not against the user's will."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_KINDS = Path("/sys/kernel/mm/transparent_hugepage/enabled")

_ALLOCATES = """
from motif_lite.jobs import session
session.prepare_libraries()
import torch
kept = torch.ones(32 * 2**20)
print(next(line.split()[1] for line in open("/proc/self/smaps_rollup") if line.startswith("AnonHugePages")))
"""


def _large_pages_after(variables: dict[str, str]) -> int:
    """Kilobytes of them that a process has with a tensor of 128 MB."""
    clean = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
    done = subprocess.run(
        [sys.executable, "-c", _ALLOCATES], env=clean | variables, cwd=ROOT, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(not _KINDS.exists() or "[never]" in _KINDS.read_text(), reason="this system gives no large pages")
@pytest.mark.versions
def test_a_large_tensor_gets_large_pages_unless_the_user_forbids_them() -> None:
    assert _large_pages_after({}) > 64 * 1024
    if "[madvise]" in _KINDS.read_text():
        assert _large_pages_after({"THP_MEM_ALLOC_ENABLE": "0"}) < 32 * 1024
