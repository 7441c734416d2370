"""Which versions a run was made with."""

import json
import platform
from pathlib import Path

import pytest

from motif_lite import __version__
from motif_lite.runs import software


def test_a_run_notes_what_it_works_with_once(tmp_path: Path) -> None:
    software.note(tmp_path)
    software.note(tmp_path)
    [noted] = software.recorded(tmp_path)
    assert noted.packages["motif_lite"] == __version__
    assert noted.packages["python"] == platform.python_version()
    assert {"torch", "transformers", "trl", "peft"} <= set(noted.packages)


def test_a_run_that_goes_on_with_other_versions_keeps_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    software.note(tmp_path)
    monkeypatch.setattr(platform, "python_version", lambda: "9.9.9")
    software.note(tmp_path)
    earlier, now = software.recorded(tmp_path)
    assert earlier.packages["python"] != now.packages["python"] == "9.9.9"
    lines = (tmp_path / "software.jsonl").read_text().splitlines()
    assert [json.loads(line)["version"] for line in lines] == [2, 2]


def test_a_run_that_noted_nothing_has_no_versions(tmp_path: Path) -> None:
    assert software.recorded(tmp_path) == []
