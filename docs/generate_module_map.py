"""Write the list of modules in docs/contributing.md from their docstrings: ``python docs/generate_module_map.py``."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "contributing.md"
BEGIN = "<!-- modules: written by docs/generate_module_map.py -->\n"
END = "<!-- end -->\n"


def page() -> str:
    """The page with its list as the code is now."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + "\n".join(_lines()) + "\n" + END + after


def modules() -> list[Path]:
    """Every module of the package, folder by folder; folders' own ``__init__.py`` left out."""
    found = (path for path in (ROOT / "motif_lite").rglob("*.py") if not path.name.startswith("__"))
    return sorted(found, key=lambda path: (path.parent, path.name))


def _lines() -> Iterator[str]:
    yield "| module | what it does |"
    yield "|---|---|"
    for path in modules():
        place = path.relative_to(ROOT / "motif_lite").as_posix()
        yield f"| [`{place}`](../motif_lite/{place}) | {_summary(path)} |"


def _summary(path: Path) -> str:
    """The first paragraph of a module's docstring on a line."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.partition("\n\n")[0].split()).replace("``", "`").replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
