"""The notebook, executed cell by cell with the tiny model on a CPU, so that no cell can rot."""

import re
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.faults.nursery import Nursery

nbclient = pytest.importorskip("nbclient", reason="needs nbclient of requirements-dev.txt")
nbformat = pytest.importorskip("nbformat", reason="needs nbformat of requirements-dev.txt")
pytest.importorskip("ipykernel", reason="needs ipykernel of requirements-dev.txt")

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks" / "motif_lite.ipynb"

PARAMETERS = """\
RECIPE = "recipes/tiny_cpu.toml"
CHANGES = [
    "training.max_steps=1", "training.problems_per_step=2", "training.micro_batch_size=8", "rollout.num_futures=2",
    "data.num_problems=16", "evaluation.before=false", "evaluation.after=false",
]
RUN = "run"
EXPORT = "export"
DRIVE = {folder!r} + "/drive"
REPOSITORY = ""
REQUIREMENTS = {folder!r} + "/requirements.txt"
ENVIRONMENT = {folder!r} + "/environment"

import sys, types
from pathlib import Path
sys.modules["google.colab"] = colab = types.ModuleType("google.colab")  # what a kernel of Colab's has
colab.drive = types.SimpleNamespace(mount=lambda folder: (Path(folder) / "MyDrive").mkdir(parents=True))
"""


def printed(cell: Any) -> str:
    return "".join(output.get("text", "") for output in cell["outputs"])


def wheel(folder: Path) -> Path:
    """A package that pip can install without a network."""
    path = folder / "probe-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("probe.py", "")
        archive.writestr("probe-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: probe\nVersion: 1\n")
        archive.writestr("probe-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("probe-1.dist-info/RECORD", "probe.py,,\n")
    return path


def test_every_cell_runs_and_shows_what_it_says(nursery: Nursery, tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells), "it is kept without outputs"
    by_id = {cell["id"]: cell for cell in notebook.cells}
    given = set(re.findall(r"^(\w+) = ", by_id["parameters"].source, flags=re.MULTILINE))
    by_id["parameters"].source = PARAMETERS.format(folder=str(tmp_path))
    assert given == set(re.findall(r"^(\w+) = ", by_id["parameters"].source, flags=re.MULTILINE))
    (tmp_path / "requirements.txt").write_text(str(wheel(tmp_path)))
    by_id["install"].source += f"\npython = {str(nursery.python)!r}  # which has this project's packages\n"
    nbclient.NotebookClient(
        notebook, timeout=1200, kernel_name="python3", resources={"metadata": {"path": str(NOTEBOOK.parent)}}
    ).execute()
    cells = {cell["id"]: printed(cell) for cell in notebook.cells if cell.cell_type == "code"}
    assert len([*tmp_path.glob("environment/lib/python3*/site-packages/probe.py")]) == 1
    assert (tmp_path / "drive" / "MyDrive" / "motif_lite" / "run" / "adapter").exists(), "it outlives the machine"
    assert "nothing is in the way of a run" in cells["plan"]
    assert "peak memory in GiB" in cells["plan"]
    assert "step 1/1" in cells["train"]
    assert cells["tree"].count("opening ") == 8
    assert "└─" in cells["tree"]
    assert "round 3 of 3" in cells["solve"]
    assert "adapter_model.safetensors" in cells["export"]
