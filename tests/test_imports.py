"""A check answers at once: without torch and its like, whose imports take seconds."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "recipes").glob("*.toml"))
HEAVY = ("torch", "transformers", "trl", "datasets", "peft", "accelerate", "unsloth", "math_verify", "scipy")

PROBE = """
import contextlib, io, json, runpy, sys
for recipe in sys.argv[1:]:
    sys.argv = ["run.py", "--recipe", recipe, "--check"]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        try:
            runpy.run_path("run.py", run_name="__main__")
        except SystemExit as end:
            code = end.code
    print(json.dumps([code, sorted(sys.modules), printed.getvalue()]))
"""


@pytest.fixture(scope="module")
def checked() -> dict[Path, tuple[int, list[str], str]]:
    """Exit code, imported modules and what was printed, by recipe: one after the other, in one process."""
    command = [sys.executable, "-c", PROBE, *map(str, RECIPES)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return dict(zip(RECIPES, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_check_imports_nothing_heavy(recipe: Path, checked: dict[Path, tuple[int, list[str], str]]) -> None:
    code, modules, printed = checked[recipe]
    assert code == 0
    assert [name for name in HEAVY if name in modules] == []
    assert 'strategy = "' in printed, "the resolved recipe is printed"


def test_only_policies_training_exporting_loggers_the_tiny_model_and_metering_may_import_torch() -> None:
    heavy = ("policies", "training", "exporting")
    modules = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / "motif_lite").rglob("*.py")]
    light = [
        ".".join(module.parts)
        for module in modules
        if module.name not in {"__main__", "tiny_model", "metering"}
        and not set(heavy) & set(module.parts)
        and not module.name.endswith("_logger")  # each needs a package of its own
    ]
    assert len(light) > 40
    probe = f"import importlib, sys\nfor name in {light!r}: importlib.import_module(name)\n"
    probe += "sys.exit(sorted({'torch', 'transformers', 'trl', 'datasets'} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr == ""
