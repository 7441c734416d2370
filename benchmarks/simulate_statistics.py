"""How often intervals hold the truth and tests are wrong: the project's own functions on simulated measurements.

    python benchmarks/simulate_statistics.py             all tables of docs/statistics.md, about ten minutes
    python benchmarks/simulate_statistics.py --draws 50  the same, fast and rough, printed only

In every world the truth is known: problems have a chance of being solved that is drawn from a beta distribution,
samples are right with that chance, seeds have accuracies of their own. All randomness is seeded, each table by itself.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from motif_lite.evaluation import differences, intervals  # noqa: E402
from motif_lite.evaluation.best_mark import best_mark  # noqa: E402
from motif_lite.evaluation.intervals import Outcomes  # noqa: E402
from motif_lite.runs.records import Mark  # noqa: E402
from motif_lite.study.catching_up import Json, catching_up  # noqa: E402
from motif_lite.study.curves import Curve  # noqa: E402

PAGE = ROOT / "docs" / "statistics.md"
BEGIN, END = "<!-- made by benchmarks/simulate_statistics.py -->\n", "<!-- end -->\n"
CONFIDENCE, WRONG = 0.95, 0.05
DRAWS = 500

Floats = np.ndarray
Draw = Callable[[np.random.Generator, int], Floats]
"""Accuracies of so many seeds."""


def plain_t(values: Floats) -> tuple[float, float]:
    """The t interval of a mean as it stands in textbooks, for comparison; without spread it has no width."""
    from scipy import stats

    reach = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - reach), float(values.mean() + reach)


def holds(interval: Sequence[float] | None, truth: float) -> bool:
    """Whether an interval holds the truth; none is taken for one that does not."""
    return interval is not None and interval[0] - 1e-9 <= truth <= interval[1] + 1e-9


def solved(rng: np.random.Generator, chances: Floats, num_samples: int, name: str = "") -> Outcomes:
    """Outcomes of problems with these chances."""
    rows = (rng.random((len(chances), num_samples)) < chances[:, None]).tolist()
    return {f"{name}{number}": row for number, row in enumerate(rows)}


def chances(quantiles: Floats, mean: float, spread: float) -> Floats:
    """Of problems, as hard as their quantiles say: beta with this mean and ``a + b = 1 / spread``, or all alike."""
    if not spread or mean in (0.0, 1.0):
        return np.full(len(quantiles), mean)
    return np.asarray(np.interp(quantiles, _GRID, _quantiles(mean, spread)))


_GRID = (np.arange(100_000) + 0.5) / 100_000


@cache
def _quantiles(mean: float, spread: float) -> Floats:
    from scipy import stats

    return np.asarray(stats.beta.ppf(_GRID, mean / spread, (1 - mean) / spread))


def shares(found: Sequence[Sequence[bool | float]]) -> list[str]:
    """Means of columns of truths, in percent."""
    return [f"{100 * share:.1f}" for share in np.mean(np.array(found, dtype=float), axis=0)]


# ------------------------------------------------------------------------------------------------- tables


def accuracies(draws: int) -> Iterator[list[str]]:
    """One accuracy: Wilson's interval on effective samples."""
    yield ["problems", "samples", "accuracy", "problems differ", "covered, %"]
    rng = np.random.default_rng(1)
    for size, samples, mean, spread in (
        *((size, 1, mean, 1.0) for size in (30, 400) for mean in (0.5, 0.97)),
        *((size, 4, mean, spread) for size in (48, 400) for mean in (0.5, 0.9, 0.97, 0.99) for spread in (0.0, 0.5, 2)),
    ):
        found = []
        for _ in range(draws):
            outcomes = solved(rng, chances(rng.random(size), mean, spread), samples)
            found.append([holds(intervals.interval(outcomes, CONFIDENCE), mean)])
        yield [str(size), str(samples), f"{100 * mean:g} %", _spread(spread), *shares(found)]


def _spread(spread: float) -> str:
    return {0.0: "not", 0.5: "somewhat"}.get(spread, "much")


def gains(draws: int) -> Iterator[list[str]]:
    """The gain of one run, paired by problem."""
    yield ["problems", "samples", "before, after", "covered, %", "by a plain t, %", "width, points", "p < 0.05, %"]
    rng = np.random.default_rng(2)
    for size in (48, 400):
        for samples in (1, 4):
            for before, after in ((0.3, 0.3), (0.3, 0.5), (0.9, 0.97), (0.97, 1.0)):
                found = []
                for _ in range(draws):
                    where = rng.random(size)
                    pair = [solved(rng, chances(where, mean, 0.5), samples) for mean in (before, after)]
                    found.append(_judged([(pair[0], pair[1])], after - before))
                *covered, width, wrong = shares(found)
                cells = [str(size), str(samples), f"{100 * before:g} %, {100 * after:g} %"]
                yield [*cells, *covered, width, wrong if before == after else "-"]


def _judged(pairs: list[tuple[Outcomes, Outcomes]], truth: float) -> list[float]:
    """Whether it is covered, whether by a plain t over pairs of problem and seed, the width, and whether p < 0.05."""
    found = differences.same_problems(pairs, CONFIDENCE)
    assert found is not None
    each = np.concatenate([_means(after) - _means(before) for before, after in pairs])
    low, high = found.interval
    return [holds((low, high), truth), holds(plain_t(each), truth), high - low, found.p_value < WRONG]


def _means(outcomes: Outcomes) -> Floats:
    return np.asarray(np.mean(list(outcomes.values()), axis=1))


def seeds_and_problems(draws: int) -> Iterator[list[str]]:
    """Two variants on problems: the same on every seed, others on each, or drawn from a pool by each."""
    yield ["problems", "seeds", "difference", "covered, %", "by a plain t, %", "p < 0.05, %"]
    rng = np.random.default_rng(3)
    for size, pool, num_seeds in (
        *((200, pool, num_seeds) for pool in (200, None) for num_seeds in (3, 5)),
        *((size, pool, 5) for size, pool in ((200, 1319), (100, 500), (50, 100))),
    ):
        for truth in (0.0, 0.05):
            found = []
            for _ in range(draws):
                covered, by_t, _, wrong = _judged(_on_problems(rng, size, pool, num_seeds, truth), truth)
                found.append([covered, by_t, wrong])
            which = {size: "the same", None: "others on each"}.get(pool, f"of {pool} on each")
            covered_, by_t_, wrong_ = shares(found)
            yield [f"{size}, {which}", str(num_seeds), f"{100 * truth:g}", covered_, by_t_, "-" if truth else wrong_]


def _on_problems(
    rng: np.random.Generator, size: int, pool: int | None, num_seeds: int, gain: float
) -> list[tuple[Outcomes, Outcomes]]:
    """Of each seed, outcomes of two variants on so many of the pool's problems, or on problems of its own."""
    shared, pairs = _two_variants(rng, pool or size, gain), []
    for seed in range(num_seeds):
        both = shared if pool else _two_variants(rng, size, gain)
        chosen = rng.choice(len(both[0]), size, replace=False) if pool and pool > size else np.arange(size)
        first, second = (solved(rng, each[chosen], 1, "" if pool else f"{seed}/") for each in both)
        if pool:
            first, second = (dict(zip(map(str, chosen), each.values(), strict=True)) for each in (first, second))
        pairs.append((first, second))
    return pairs


def _two_variants(rng: np.random.Generator, size: int, gain: float) -> tuple[Floats, Floats]:
    """Chances of two variants, each better on some problems; the mean gain over all problems there are is known."""
    where = rng.random(size)
    first = 0.25 + 0.5 * where
    return first, first + gain + rng.choice([-0.2, 0.2], size)


def skewed(draws: int) -> Iterator[list[str]]:
    """Equal means, where most problems gain a little and few lose much."""
    from scipy.stats import binomtest

    yield ["problems", "samples", "seeds", "p < 0.05, %", "by a sign test, %"]
    rng = np.random.default_rng(4)
    for size, num_seeds in ((50, 1), (500, 1), (500, 5)):
        found = []
        for _ in range(draws):
            pairs = []
            for seed in range(num_seeds):
                change = np.where(rng.random(size) < 0.9, 0.04, -0.36)
                pair = [solved(rng, each, 8, f"{seed}/") for each in (np.full(size, 0.5), 0.5 + change)]
                pairs.append((pair[0], pair[1]))
            one = differences.same_problems(pairs, CONFIDENCE)
            assert one is not None
            won, lost = one.num_better, one.num_worse
            found.append([one.p_value < WRONG, won + lost > 0 and binomtest(won, won + lost).pvalue < WRONG])
        yield [str(size), "8", str(num_seeds), *shares(found)]


@dataclass(frozen=True, slots=True)
class World:
    """Where accuracies of seeds come from."""

    name: str
    draw: Draw
    mean: float


def _collapsing(share: float) -> Draw:
    return lambda rng, size: np.where(rng.random(size) < share, rng.beta(1, 19, size), rng.beta(14, 6, size))


WORLDS = (
    World("around 60 %", lambda rng, size: rng.beta(0.6 * 48, 0.4 * 48, size), 0.6),
    World("near 97 %", lambda rng, size: rng.beta(0.97 * 60, 0.03 * 60, size), 0.97),
    World("near 99 %", lambda rng, size: rng.beta(0.99 * 60, 0.01 * 60, size), 0.99),
    World("near 4 %", lambda rng, size: rng.beta(0.4, 9.6, size), 0.04),
    *(
        World(f"70 %, {100 * share:g} % of runs collapse", _collapsing(share), 0.7 - 0.65 * share)
        for share in (0.1, 0.3)
    ),
)


def over_seeds(draws: int) -> Iterator[list[str]]:
    """A method's accuracy, and its difference from a steady reference and from its own like."""
    yield ["seeds", "accuracies", "accuracy covered, %", "by a plain t, %", "difference covered, %", "p < 0.05, %"]
    rng = np.random.default_rng(5)
    for num_seeds in (3, 5, 10):
        for world in WORLDS:
            found = []
            for _ in range(2 * draws):
                own, like = (rng.binomial(400, world.draw(rng, num_seeds)) / 400 for _ in range(2))
                steady = rng.binomial(400, rng.beta(0.6 * 48, 0.4 * 48, num_seeds)) / 400
                less = (own - steady).tolist()
                null = differences.over_seeds((own - like).tolist(), CONFIDENCE).p_value
                found.append([
                    holds(differences.accuracy_over_seeds(own.tolist(), CONFIDENCE).interval, world.mean),
                    holds(plain_t(own), world.mean),
                    holds(differences.over_seeds(less, CONFIDENCE).interval, world.mean - 0.6),
                    null is not None and null < WRONG,
                ])  # fmt: skip
            yield [str(num_seeds), world.name, *shares(found)]


def reaching(draws: int) -> Iterator[list[str]]:
    """Tokens to the reference's end."""
    yield ["variant", "seeds", "problems", "no goal, %", "not on every seed, %", "median share, %", "covered, %"]
    rng = np.random.default_rng(6)
    cases = ("a twin", 0.7, 1.0, 1.0), ("twice as fast", 0.7, 2.0, 0.5), ("neither learns", 0.35, 1.0, None)
    for name, end, speed, truth in cases:
        for num_seeds in (3, 5):
            for size in (48, 400):
                found = [_reach(rng, num_seeds, size, end, speed) for _ in range(draws)]
                asked = [each for each in found if not each["num_in_noise"]]
                there = [each for each in asked if "share" in each]
                median = f"{100 * float(np.median([each['share'] for each in there])):.0f}" if len(there) > 20 else "-"
                bounds = [(each["interval"][0], each["interval"][1] or np.inf) for each in there]
                covered = "-"
                if truth and len(there) > 20:
                    covered = f"{100 * float(np.mean([holds(bound, truth) for bound in bounds])):.1f}"
                missing = f"{100 * (1 - len(there) / len(asked)):.0f}" if len(asked) > 20 else "-"
                refused = f"{100 * (1 - len(asked) / len(found)):.0f}"
                yield [name, str(num_seeds), str(size), refused, missing, median, covered]


def _reach(rng: np.random.Generator, num_seeds: int, size: int, end: float, speed: float) -> Json:
    own = {str(seed): _curve(rng, size, end, speed) for seed in range(num_seeds)}
    reference = {str(seed): _curve(rng, size, end, 1.0) for seed in range(num_seeds)}
    found: Json = catching_up(own, reference, size, CONFIDENCE)["reach"]
    return found


def _curve(rng: np.random.Generator, size: int, end: float, speed: float = 1.0) -> Curve:
    """Nine marks of a run that rises from 35 % and flattens; its course wanders, and marks are drawn apart."""
    costs = np.arange(9) / 8
    course = 0.35 + (end - 0.35) * (1 - np.exp(-4 * speed * costs)) + 0.008 * np.append(0, rng.normal(size=8).cumsum())
    return list(zip(costs.tolist(), (rng.binomial(size, course.clip(0, 1)) / size).tolist(), strict=True))


def false_alarms(draws: int) -> Iterator[list[str]]:
    """What should hardly ever be said where nothing is."""
    yield ["claim", "said wrongly, %"]
    rng = np.random.default_rng(7)
    for size in (48, 400):
        for accuracy in (0.7, 0.95, 0.99):
            found = [_ends_below_its_best(rng, size, accuracy) for _ in range(2 * draws)]
            claim = f"one of eight marks of a model that is {100 * accuracy:g} % right on {size} problems is better"
            yield [f"{claim} than its last one", f"{100 * np.mean(found):.1f}"]
    found = [_differ_over_seeds(_on_problems(rng, 200, 200, 5, 0.0)) for _ in range(2 * draws)]
    claim = "over five seeds with the same 200 problems, two variants that are equal on all problems there are differ"
    yield [claim, f"{100 * np.mean(found):.1f}"]
    number = 23  # as many as tiny_credit's table has
    least = [min(p or 0.0 for p in differences.holm(rng.random(number).tolist())) for _ in range(draws)]
    claim = f"one of {number} tests without an effect is below 0.05 after Holm's correction"
    yield [claim, f"{100 * np.mean(np.array(least) < WRONG):.1f}"]


def _differ_over_seeds(pairs: Sequence[tuple[Outcomes, Outcomes]]) -> bool:
    gains = [intervals.accuracy(after) - intervals.accuracy(before) for before, after in pairs]
    p_value = differences.over_seeds(gains, CONFIDENCE).p_value
    return p_value is not None and p_value < WRONG


def _ends_below_its_best(rng: np.random.Generator, size: int, accuracy: float) -> bool:
    """Whether that is said of eight marks on the same problems, between which nothing changes."""
    right = rng.random((8, size)) < chances(rng.random(size), accuracy, 0.5)
    marks = [
        Mark(
            step=step, tokens=step, seconds=step, num_problems=size, num_samples=size, num_correct=int(row.sum()),
            accuracy=float(row.mean()), interval=(0.0, 1.0), prompts=size, generated_tokens=size,
            evaluation_seconds=0.0, outcomes="".join("01"[each] for each in row.astype(int)),
        )
        for step, row in enumerate(right)
    ]  # fmt: skip
    best = best_mark(marks, CONFIDENCE)
    return best is not None and best.is_better


TABLES: dict[str, Callable[[int], Iterator[list[str]]]] = {
    "One accuracy": accuracies,
    "The gain of a run": gains,
    "Two variants on the same problems": seeds_and_problems,
    "Equal means, skewed changes": skewed,
    "Over seeds": over_seeds,
    "Tokens to the reference's end": reaching,
    "False alarms": false_alarms,
}


def table(name: str, draws: int) -> str:
    """One of them, in Markdown, told row by row on stderr."""
    lines = [f"### {name}\n"]
    for number, cells in enumerate(TABLES[name](draws)):
        lines.append(f"| {' | '.join(cells)} |")
        if number == 0:
            lines.append("|---" + "|--:" * (len(cells) - 1) + "|")
        print(f"{name}: row {number}", file=sys.stderr)
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Make all tables, and put them onto the page, or print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=DRAWS, help="fewer are faster, and are printed instead of written")
    draws = parser.parse_args(arguments).draws
    made = "\n".join(table(name, draws) for name in TABLES)
    if draws != DRAWS:
        print(made)
        return
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{made}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
