"""How the package is laid out: imports go one way, downwards, and nothing is too long to read."""

import ast
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]

FLOORS = (
    "motif_lite", "errors", "figures", "leases", "locks", "nouns", "paths", "process", "ranks", "own_code", "grading",
    "recipe", "credits", "planning", "doctor", "policies", "rollout", "tasks", "runs", "monitor", "observer", "context",
    "evaluation", "solving", "serving", "exporting", "loggers", "training", "views", "jobs", "study", "commands", "cli",
    "starting",
    "__main__",
)  # fmt: skip
"""Folders and single modules, lowest first: each imports only from itself and from those before it.

``motif_lite`` is the package's own ``__init__``, which holds the version.
"""
LONGEST_MODULE, LONGEST_FUNCTION = 320, 60


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(path): path for path in sorted((ROOT / "motif_lite").rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def _imports(name: str) -> Iterator[str]:
    """The package's own modules that a module imports: at its top, in functions, and for types alone."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: import by the full name"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                if submodule in MODULES or node.module in MODULES:
                    yield submodule if submodule in MODULES else str(node.module)


IMPORTS = {name: set(_imports(name)) - {name} for name in MODULES}


def _floor(name: str) -> str:
    return name.split(".")[1] if "." in name else name


def test_every_folder_has_its_place_in_the_order_and_is_a_package() -> None:
    assert {_floor(name) for name in MODULES} == set(FLOORS)
    folders = {path.parent for path in MODULES.values()}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_imports_go_downwards() -> None:
    upwards = [
        f"{name} imports {other}"
        for name, others in IMPORTS.items()
        for other in sorted(others)
        if FLOORS.index(_floor(other)) > FLOORS.index(_floor(name))
    ]
    assert upwards == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert len(tuple(TopologicalSorter(IMPORTS).static_order())) == len(MODULES)  # raises CycleError, which names it


def _lengths(name: str) -> dict[str, int]:
    """Lines of each function of a module."""
    functions = [node for node in ast.walk(TREES[name]) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {f"{name}.{node.name}": (node.end_lineno or 0) - node.lineno + 1 for node in functions}


def test_no_module_and_no_function_is_too_long() -> None:
    modules = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()}
    functions = {function: length for name in MODULES for function, length in _lengths(name).items()}
    too_long = {name: length for name, length in modules.items() if length > LONGEST_MODULE}
    assert too_long | {name: length for name, length in functions.items() if length > LONGEST_FUNCTION} == {}


def test_no_module_has_the_name_of_one_of_the_standard_library() -> None:
    assert [name for name in MODULES if name.rpartition(".")[2] in sys.stdlib_module_names - {"__main__"}] == []
