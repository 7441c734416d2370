"""The report and the comparison in a real browser: at any width, in the dark, on paper, without a script."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from motif_lite.runs.directory import RunDirectory
from motif_lite.views import comparison, report
from tests import browser, records
from tests.test_compare import a_run, compared
from tests.test_report import HOSTILE, RECIPE, train

WIDEST = (
    "Math.max(...[...document.body.querySelectorAll('*')].filter(e => !e.closest('.scroll') && !e.closest('svg'))"
    ".map(e => e.getBoundingClientRect().right))"
)


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Tab]:
    with browser.opened(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture
def page(tmp_path: Path) -> str:
    run = RunDirectory.create(tmp_path / ("a-run-with-a-long-name-" * 4), RECIPE, "")
    train(run, HOSTILE + "w" * 3000, steps=12)
    run.write_evaluation(records.evaluation())
    for step in (0, 6, 12):
        run.append_mark(records.mark(step, 0.3 + step / 100, outcomes="01" * 25))
    report.write(RECIPE, run)
    return f"file://{run.report}"


def test_it_fits_a_telephone_and_follows_the_colours_of_the_system(tab: browser.Tab, page: str) -> None:
    tab.size(390, 844, dark=True)
    tab.go(page)
    tab.wait("document.querySelectorAll('svg').length == 8")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    assert tab.evaluate(WIDEST) <= 390
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 25, 30)"
    dark_line = tab.evaluate("getComputedStyle(document.querySelector('.line')).stroke")
    tab.size(390, 844)
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.evaluate("getComputedStyle(document.querySelector('.line')).stroke") != dark_line
    assert tab.evaluate("document.title").endswith("motif_lite")
    assert tab.events("Runtime.exceptionThrown") == []


def test_pointing_at_a_chart_finds_the_title_with_the_values_there(tab: browser.Tab, page: str) -> None:
    tab.size(1200, 900)
    tab.go(page)
    tab.wait("document.querySelectorAll('svg').length == 8")
    found = tab.evaluate(
        "(() => {const svg = document.querySelectorAll('svg')[2]; svg.scrollIntoView();"
        "const box = svg.getBoundingClientRect();"
        "const hit = document.elementFromPoint(box.x + box.width * .6, box.y + box.height / 2);"
        "return hit.querySelector('title').textContent})()"
    )
    assert re.match(r"step \d+\ntotal: [\d.]+\nfuture_accuracy: ", found)


def test_on_paper_every_opening_is_unfolded(tab: browser.Tab, page: str) -> None:
    tab.size(1200, 900, dark=True)
    tab.go(page)
    tab.wait("document.querySelectorAll('details').length > 1")
    tab.call("Emulation.setEmulatedMedia", media="print")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    pre = "[...document.querySelectorAll('details:not([open]) pre')].every(e => e.getBoundingClientRect().height > 0)"
    assert tab.evaluate(pre)
    printed = base64.b64decode(tab.call("Page.printToPDF")["data"])
    assert printed.startswith(b"%PDF")
    tab.call("Emulation.setEmulatedMedia", media="")


def test_the_comparison_puts_answers_side_by_side_where_there_is_room(tab: browser.Tab, tmp_path: Path) -> None:
    found = compared(a_run(tmp_path / "a", "0011"), a_run(tmp_path / "b", "0110"))
    comparison.write_page(found, tmp_path / "page.html")
    sides = "[...document.querySelectorAll('details[open] .sides > div')].map(e => e.getBoundingClientRect().top)"
    for width, are_level in ((1200, True), (390, False)):
        tab.size(width, 844)
        tab.go(f"file://{tmp_path / 'page.html'}")
        tab.wait("document.querySelectorAll('.sides').length == 4")
        first, second = tab.evaluate(sides)
        assert (first == second) is are_level
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
