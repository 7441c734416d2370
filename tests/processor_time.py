"""Processor time, which a loaded machine hardly changes."""

import os
import time
from pathlib import Path

from motif_lite.grading import answers


def seconds() -> float:
    """Taken so far by this process, and by the judge's comparisons that have ended (on Linux)."""
    process = answers._judge._process
    if process is None or not Path(f"/proc/{process.pid}/stat").exists():
        return time.process_time()
    of_its_children = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[13:15]
    return time.process_time() + sum(map(int, of_its_children)) / os.sysconf("SC_CLK_TCK")
