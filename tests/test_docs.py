"""The documents keep up with the code."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_recipe_reference_is_what_the_code_says() -> None:
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import generate_recipe_md
    finally:
        sys.path.remove(str(ROOT / "docs"))
    assert (ROOT / "docs" / "recipe.md").read_text() == generate_recipe_md.page(), "run: make docs"


def test_the_recipe_reference_speaks_no_python() -> None:
    page = (ROOT / "docs" / "recipe.md").read_text()
    assert not [word for word in ("typing", "Annotated", "NoneType", "Literal") if word in page]


def test_every_file_that_the_readme_links_to_exists() -> None:
    readme = (ROOT / "README.md").read_text()
    links = [link for link in re.findall(r"\]\(([^)]+)\)", readme) if not link.startswith("http")]
    assert len(links) >= 8
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_module_is_in_the_readmes_map() -> None:
    readme = (ROOT / "README.md").read_text()
    modules = {path.name for path in (ROOT / "motif_lite").glob("*.py")} - {"__init__.py", "paths.py"}
    assert {name for name in modules if f"`{name}`" not in readme} == set()
