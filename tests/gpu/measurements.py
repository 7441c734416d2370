"""What the tests on a GPU measured: a JSON file that grows with each of them, and its rows for docs/measurements.md.

python -m tests.gpu.measurements runs/gpu/measurements.json
"""

import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks import provenance
from tests.gpu.bench import Settings

PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "bitsandbytes", "unsloth", "unsloth_zoo",
            "xformers", "triton")  # fmt: skip

_ASK_DRIVER = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]

Entry = dict[str, Any]
"""A row: ``status`` (passed, failed or skipped), ``summary``, ``figures``, ``seconds``, and where it comes from."""


class OtherSettingsError(Exception):
    """The file holds measurements of other settings; a table of both would say nothing."""


class Measurements:
    """The file and its rows, each under its test's name in words.

    Raises:
        OtherSettingsError: The file was made with other settings.
    """

    def __init__(self, path: Path, settings: Settings) -> None:
        self.path = path
        self._content = read(path) if path.exists() else {"settings": asdict(settings), "rows": {}}
        if self._content["settings"] != asdict(settings):
            raise OtherSettingsError(
                f"{path}: holds measurements of other settings ({self._content['settings']}); choose another --gpu-out"
            )

    @property
    def rows(self) -> dict[str, Entry]:
        """What has been measured so far."""
        rows: dict[str, Entry] = self._content["rows"]
        return rows

    def is_done(self, title: str) -> bool:
        """Whether nothing is left to measure: it has passed, or there is nothing to measure with these settings."""
        return title in self.rows and self.rows[title]["status"] != "failed"

    def add(self, title: str, entry: Entry) -> None:
        """Write a row; a process that is cut off leaves the old file or the new one."""
        self.rows[title] = entry | _origin()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_name(self.path.name + ".unfinished")
        unfinished.write_text(json.dumps(self._content, indent=2) + "\n", encoding="utf-8")
        unfinished.replace(self.path)


def read(path: Path) -> dict[str, Any]:
    """The file's content: ``settings``, and ``rows`` by title."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def markdown(rows: Mapping[str, Entry]) -> str:
    """Rows as they stand in docs/measurements.md."""
    return "\n".join(f"| {title} | {_found(entry)} | {entry['date'][:10]} |" for title, entry in rows.items())


def _found(entry: Entry) -> str:
    summary = " ".join(entry["summary"].split()).replace("|", "\\|")
    return summary if entry["status"] == "passed" else f"{entry['status']}: {summary}"


def _origin() -> Entry:
    """When, by which command and where: rows of one file may come from several calls."""
    return {"date": datetime.now(UTC).isoformat(timespec="seconds"), "command": shlex.join(sys.orig_argv)} | _place()


@cache
def _place() -> Entry:
    return {
        "commit": provenance.commit(),
        "machine": {
            "gpu": provenance.answer(
                ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
            ),
            "cpu": provenance.processor(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
            "system": platform.platform(),
        },
        "versions": provenance.versions(PACKAGES),
    }


if __name__ == "__main__":
    print(markdown(read(Path(sys.argv[1]))["rows"]))
