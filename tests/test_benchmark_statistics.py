"""benchmarks/simulate_statistics.py: worlds whose truth is known, and tables of what is found in them."""

import numpy as np
import pytest

from benchmarks import simulate_statistics as benchmark


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
    shown = benchmark.PAGE.read_text(encoding="utf-8").partition(f"### {name}\n")[2].partition("###")[0]
    places = slice(0, 3)  # of a row: what was simulated, which does not depend on the number of draws
    rows, on_page = (
        [line.split("|")[1:][places] for line in text.splitlines() if "|" in line] for text in (made, shown)
    )
    assert rows == on_page
