"""The documents keep up with the code."""

import re
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CONTRIBUTING = ROOT / "docs" / "contributing.md"


@pytest.mark.parametrize(
    ("page", "generator"), [("recipe.md", "generate_recipe_md"), ("contributing.md", "generate_module_map")]
)
def test_what_is_generated_is_what_the_code_says(page: str, generator: str) -> None:
    assert (ROOT / "docs" / page).read_text() == _generator(generator).page(), "run: make docs"


def test_the_recipe_reference_speaks_no_python() -> None:
    page = (ROOT / "docs" / "recipe.md").read_text()
    assert not [word for word in ("typing", "Annotated", "NoneType", "Literal") if word in page]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_relative_link_and_its_anchor_resolve(page: Path) -> None:
    assert [link for link in _links(page) if not _resolves(page, link)] == []


def test_a_broken_link_or_anchor_would_be_noticed() -> None:
    page = ROOT / "README.md"
    assert _resolves(page, "docs/reliability.md#replies-are-data")
    assert not _resolves(page, "docs/reliability.md#no-such-heading")
    assert not _resolves(page, "docs/no_such_page.md")


def test_the_readme_is_short() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.split()) <= 1000
    assert len(readme.splitlines()) <= 140


def test_every_page_is_in_the_index_and_the_readme_leads_there() -> None:
    index = _targets(ROOT / "docs" / "README.md")
    pages = set((ROOT / "docs").glob("*.md")) - {ROOT / "docs" / "README.md"}
    assert pages - index == set()
    assert ROOT / "docs" / "README.md" in _targets(ROOT / "README.md")


def test_every_folder_and_module_is_found_from_the_contributors_page() -> None:
    targets = _targets(CONTRIBUTING)
    folders = {path.parent for path in (ROOT / "motif_lite").rglob("__init__.py")}
    in_table = {target for target in targets if target.is_dir()}
    assert folders - in_table == set()
    assert set(_generator("generate_module_map").modules()) - targets == set()


def test_pages_name_no_module_that_is_gone() -> None:
    """A path in code marks, as ``policies/local.py``, is a file of the repository or of the package."""
    gone = {
        f"{page.name}: {path}"
        for page in PAGES
        for path in re.findall(r"`((?:[\w.]+/)+\w+\.(?:py|toml|md))`", page.read_text())
        if not any((base / path).exists() for base in (ROOT, ROOT / "motif_lite", ROOT / "docs"))
    }
    assert gone == set()


def _generator(name: str) -> ModuleType:
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        return __import__(name)
    finally:
        sys.path.remove(str(ROOT / "docs"))


def _links(page: Path) -> list[str]:
    """Relative links of a page, those in blocks of code left out."""
    text = "\n".join(line for line in page.read_text().splitlines() if not line.startswith("    "))
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"\w+:", link)]


def _targets(page: Path) -> set[Path]:
    return {(page.parent / link.partition("#")[0]).resolve() for link in _links(page)}


def _resolves(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    return target.exists() and (not anchor or anchor in _anchors(target))


@cache
def _anchors(page: Path) -> set[str]:
    """Those that GitHub gives to headings: lower case, no punctuation, hyphens for spaces."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
