"""benchmarks/simulate_statistics.py: worlds whose truth is known, and tables of what is found in them."""

from itertools import islice
from math import sqrt

import numpy as np
import pytest

from benchmarks import simulate_statistics as benchmark

FEW = 100
"""Draws, where the page has `DRAWS` or more."""


def rows_of(text: str) -> list[list[str]]:
    """All rows of a table in Markdown, its head included."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line]


def rows_on_page(name: str) -> list[list[str]]:
    page = benchmark.PAGE.read_text(encoding="utf-8")
    return rows_of(page.partition(f"### {name}\n")[2].partition("###")[0])


def chance(share: float) -> float:
    """By how much a share of few draws may differ from that of the page: four standard errors, and its rounding."""
    likely = (share * benchmark.DRAWS + 1) / (benchmark.DRAWS + 2)
    return 4 * sqrt(likely * (1 - likely) * (1 / FEW + 1 / benchmark.DRAWS)) + 0.0005


def test_a_world_has_the_mean_that_the_tables_call_the_truth() -> None:
    rng = np.random.default_rng(1)
    for mean in (0.3, 0.97, 1.0):
        assert benchmark.chances(rng.random(20_000), mean, 0.5).mean() == pytest.approx(mean, abs=0.01)
    for world in benchmark.WORLDS:
        assert world.draw(rng, 50_000).mean() == pytest.approx(world.mean, abs=0.005), world.name
    first, second = benchmark._two_variants(rng, 50_000, 0.05)
    assert (second - first).mean() == pytest.approx(0.05, abs=0.005)


def test_an_interval_holds_what_lies_in_it_and_none_holds_nothing() -> None:
    assert benchmark.holds((0.1, 0.3), 0.3)
    assert not benchmark.holds((0.1, 0.3), 0.31)
    assert not benchmark.holds(None, 0.0)
    assert benchmark.plain_t(np.array([0.1, 0.2, 0.3])) == pytest.approx((-0.0484, 0.4484), abs=1e-4)


@pytest.mark.parametrize("name", ["Tokens to the reference's end", "Equal means, skewed changes"])
def test_a_table_is_the_same_each_time_and_stands_on_the_page(name: str) -> None:
    made = benchmark.table(name, 2)
    assert made == benchmark.table(name, 2)
    places = slice(0, 3)  # of a row: what was simulated, which does not depend on the number of draws
    assert [row[places] for row in rows_of(made)] == [row[places] for row in rows_on_page(name)]


@pytest.mark.parametrize("name", benchmark.TABLES)
def test_the_page_has_the_figures_that_the_functions_give(name: str) -> None:
    """The first two rows of each table, with fewer draws: as near as chance allows."""
    head, *made = islice(benchmark.TABLES[name](FEW), 3)
    compared = 0
    for row, on_page in zip(made, rows_on_page(name)[2:4], strict=True):
        for what, figure, shown in zip(head, row, on_page, strict=True):
            if what.endswith(", %") and not what.startswith("median") and "-" not in (figure, shown):
                assert float(figure) / 100 == pytest.approx(float(shown) / 100, abs=chance(float(shown) / 100)), what
                compared += 1
    assert compared >= 2
