"""The notebook, executed cell by cell with the tiny model on a CPU, so that no cell can rot."""

import re
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
RUN = {run!r}
EXPORT = {export!r}
REPOSITORY = ""
REQUIREMENTS = ""
"""


def printed(cell: Any) -> str:
    return "".join(output.get("text", "") for output in cell["outputs"])


def test_every_cell_runs_and_shows_what_it_says(nursery: Nursery, tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells), "it is kept without outputs"
    [parameters] = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    given = set(re.findall(r"^(\w+) = ", parameters.source, flags=re.MULTILINE))
    parameters.source = PARAMETERS.format(run=str(tmp_path / "run"), export=str(tmp_path / "export"))
    assert given == set(re.findall(r"^(\w+) = ", parameters.source, flags=re.MULTILINE))
    parameters.source += f"\nimport sys; sys.executable = {str(nursery.python)!r}\n"
    nbclient.NotebookClient(
        notebook, timeout=1200, kernel_name="python3", resources={"metadata": {"path": str(NOTEBOOK.parent)}}
    ).execute()
    cells = {cell["id"]: printed(cell) for cell in notebook.cells if cell.cell_type == "code"}
    assert "GiB" in cells["plan"]
    assert "step 1/1" in cells["train"]
    assert cells["tree"].count("opening ") == 8
    assert "└─" in cells["tree"]
    assert "round 3 of 3" in cells["solve"]
    assert "adapter_model.safetensors" in cells["export"]
