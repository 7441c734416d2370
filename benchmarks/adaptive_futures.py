"""What adaptive futures are worth: the error of the advantages against the tokens spent, on recorded rollouts.

    python benchmarks/adaptive_futures.py            the tables and the plot, from the recording: half a minute
    python benchmarks/adaptive_futures.py --record   repeat the recording first: ten minutes more on one core

Recorded are 16 futures of every opening, of the tiny policy at several stages of training. Futures of openings of one
group that pass on the same progress are draws from one distribution, so its mean over all of them is taken for the
truth, and rules are tried on draws from it, with replacement, each with its recorded number of tokens: the truth is
then known exactly, and what is drawn is independent. All randomness is seeded; the output is the same to the byte.
"""

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from motif_lite.rollout import allocation  # noqa: E402

RECIPE = ROOT / "recipes" / "tiny_cpu.toml"
RECORDING = ROOT / "docs" / "adaptive-futures.json.gz"
PAGE = RECORDING.with_name("adaptive-futures.md")
PLOT = RECORDING.with_name("adaptive-futures.svg")
BEGIN, END = "<!-- made by benchmarks/adaptive_futures.py -->\n", "<!-- end -->\n"

STAGES: dict[str, tuple[int, dict[str, float]]] = {
    "before training": (0, {}),
    "after 8 steps": (8, {}),
    "after 16 steps": (16, {}),
    "after 24 steps": (24, {}),
    "after 40 steps": (40, {}),
    "after 40, T = 0.8": (40, {"temperature": 0.8, "top_p": 0.95}),  # futures as motif_gsm8k.toml samples them
}
"""Steps of training, and how futures are sampled where not as in training."""

NUM_PROBLEMS = 48
NUM_RECORDED = 16
NUM_OPENINGS = 8
BUDGETS = (1, 2, 3, 4, 6, 8)
"""Futures per opening."""
REPLICATIONS = 200
RESAMPLINGS = 1000

Array = np.ndarray[Any, Any]
Tried = tuple[Array, Array]
"""What a rule finds: rewards (R, G, m), and tokens spent on each group (R, G)."""


# ---------------------------------------------------------------------------------------------------- the recording


def record() -> dict[str, Any]:
    """Train the tiny policy, and roll every stage of it out in full."""
    from motif_lite.jobs import checking
    from motif_lite.paths import cache_folder
    from motif_lite.policies import backends
    from motif_lite.tasks import tiny_model

    recipe = checking.check(RECIPE, [])
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = _trained(Path(folder) / "run")
        model = tiny_model.prepare(
            seed=recipe.seed,
            num_rounds=recipe.rollout.num_rounds,
            max_tokens=recipe.rollout.openings.max_tokens,
            cache_folder=cache_folder(),
            on_progress=lambda done, total: None,
        )
        policy = backends.backend(recipe.model.backend).load(recipe, str(model))
        stages = {}
        for name, (steps, changes) in STAGES.items():
            print(f"{name} ...", file=sys.stderr, flush=True)
            if steps:
                policy.load_adapter(checkpoints / f"checkpoint-{steps}")
            stages[name] = _rolled_out(recipe, policy, name, changes)
    return stages


def _trained(run: Path) -> Path:
    """The checkpoints of a run of the shipped recipe, with fixed allocation, that goes on for longer."""
    changes = (
        "training.max_steps=40", "training.save_every=8", "training.keep_checkpoints=9", "evaluation.benchmarks={}",
    )  # fmt: skip
    command = [sys.executable, str(ROOT / "run.py"), "--recipe", str(RECIPE), "--out", str(run)]
    for change in changes:
        command += ["--set", change]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    return run / "checkpoints"


def _rolled_out(recipe: Any, policy: Any, name: str, changes: dict[str, float]) -> list[list[dict[str, Any]]]:
    """By group and opening: which progress it passes on, and its futures' scores and tokens."""
    from motif_lite.nouns import Turn
    from motif_lite.rollout.rollouts import derive_seed
    from motif_lite.rollout.strategies import strategy_of
    from motif_lite.tasks import chain_sum

    strategy = strategy_of(recipe, recipe.rollout.strategy)
    problems = chain_sum.problems(NUM_PROBLEMS, seed=recipe.seed, split="adaptive futures")
    repeated = [problem for problem in problems for _ in range(NUM_OPENINGS)]
    prompts = [policy.render(strategy.first_messages(problem)) for problem in repeated]
    seeds = [derive_seed(recipe.seed, "openings", name, index) for index in range(len(prompts))]
    written = policy.generate(prompts, recipe.rollout.openings, seeds=seeds)
    openings = [(p, Turn(prompt, reply)) for p, prompt, reply in zip(repeated, prompts, written, strict=True)]
    futures = recipe.rollout.futures.model_copy(update=changes)
    seed = derive_seed(recipe.seed, "futures", name)
    done = strategy.continue_openings(policy, openings, NUM_RECORDED, futures, seed=seed).openings
    return [_group(done[start : start + NUM_OPENINGS]) for start in range(0, len(done), NUM_OPENINGS)]


def _group(openings: Sequence[Any]) -> list[dict[str, Any]]:
    from motif_lite.rollout.rewards import answer_score

    second = [opening.futures[0].turns[1].prompt for opening in openings]
    return [
        {
            "progress": second.index(prompt),
            "scores": "".join(f"{answer_score(each.problem.gold, each.final.text):.0f}" for each in opening.futures),
            "tokens": [sum(turn.reply.num_tokens for turn in each.turns[1:]) for each in opening.futures],
        }
        for opening, prompt in zip(openings, second, strict=True)
    ]


# ---------------------------------------------------------------------------------------------------- the population


@dataclass(frozen=True, slots=True)
class Draws:
    """Futures to draw from, R times over, for G groups of m openings that pass on at most m different texts.

    Attributes:
        of: (G, m) which progress an opening passes on.
        sharing: (G, m) how many openings pass a progress on; 0 beyond the group's last.
        values: (G, m) true mean score of a progress.
        scores: (R, G, m, N + 1) sum of the first n scores drawn.
        tokens: (R, G, m, N + 1) and of their tokens.
    """

    of: Array
    sharing: Array
    values: Array
    scores: Array
    tokens: Array

    @property
    def truth(self) -> Array:
        """True value of every opening (G, m)."""
        return np.take_along_axis(self.values, self.of, 1)

    def sums(self, counts: Array, begin: Array | int = 0) -> tuple[Array, Array]:
        """Scores and tokens of ``counts`` draws (R, G, m) after the first ``begin``."""
        first = np.broadcast_to(np.asarray(begin), counts.shape)[..., None]
        last = first + counts[..., None]
        scores, tokens = (
            (np.take_along_axis(each, last, -1) - np.take_along_axis(each, first, -1))[..., 0]
            for each in (self.scores, self.tokens)
        )
        return scores, tokens

    def everywhere(self, counts: Array) -> Array:
        """(G, m) for every replication."""
        return np.broadcast_to(counts, self.scores.shape[:3])

    def spread(self, values: Array) -> Array:
        """From progresses to the openings that pass them on."""
        return np.take_along_axis(values, np.broadcast_to(self.of, values.shape), -1)


def draw(groups: list[list[dict[str, Any]]], replications: int, *, shared: bool, seed: int) -> Draws:
    """Draw from the recorded futures of each progress.

    Args:
        shared: Whether openings with the same progress draw together; else every opening has draws of its own, from
            the same outcomes.
    """
    rng = np.random.default_rng(seed)
    most = NUM_OPENINGS * max(BUDGETS)
    shape = (len(groups), NUM_OPENINGS)
    of, sharing, values = np.zeros(shape, int), np.zeros(shape, int), np.zeros(shape)
    drawn = np.zeros((2, replications, *shape, most + 1))
    for g, group in enumerate(groups):
        for name in dict.fromkeys(opening["progress"] for opening in group):
            members = [index for index, opening in enumerate(group) if opening["progress"] == name]
            scores = np.array([float(score) for index in members for score in group[index]["scores"]])
            tokens = np.array([count for index in members for count in group[index]["tokens"]])
            for place in [members[0]] if shared else members:
                of[g, members if shared else place] = place
                sharing[g, place] = len(members) if shared else 1
                values[g, place] = scores.mean()
                which = rng.integers(len(scores), size=(replications, most))
                drawn[0, :, g, place, 1:] = scores[which].cumsum(-1)
                drawn[1, :, g, place, 1:] = tokens[which].cumsum(-1)
    return Draws(of, sharing, values, drawn[0], drawn[1])


# ---------------------------------------------------------------------------------------------------- the rules


def means(draws: Draws, counts: Array) -> Tried:
    """Every opening's reward is the mean of so many draws of its progress (G, m) or (R, G, m)."""
    counts = draws.everywhere(counts)
    scores, tokens = draws.sums(counts)
    return draws.spread(scores / np.maximum(counts, 1)), tokens.sum(-1)


def each(draws: Draws, budget: int) -> Tried:
    """Equally many for every opening: the paper's rule where nothing is shared."""
    return means(draws, draws.sharing * budget)


def adaptive(draws: Draws, budget: int) -> Tried:
    """The rule that ships."""
    counts = np.zeros_like(draws.sharing)
    for g, progress in enumerate(draws.of):
        np.add.at(counts[g], progress, allocation.adaptive([str(each) for each in progress], budget))
    return means(draws, counts)


def waves(draws: Draws, budget: int, *, unbiased: bool = True, stop: bool = False) -> Tried:
    """Two for every progress; then the rest, at least one each, to those whose Beta posteriors are widest.

    A group of one progress gets no second wave.

    Unbiased: the mean of each wave, weighted by its share of the budget, which is fixed. Else the mean of all draws.
    Stop: a group whose first futures all have the same score gets no more.
    """
    first = draws.everywhere(2 * (draws.sharing > 0))
    left = np.maximum(0, _budget(draws, budget) - first.sum(-1))
    scores, tokens = draws.sums(first)
    a, b = 0.5 + scores / 2, 0.5 + first - scores / 2  # Jeffreys' prior; a score is 2 or 0
    variance = a * b / ((a + b) * (a + b + 1))
    more = _allotted(draws, _weights(draws) * variance, np.minimum(first, 1), left)
    if stop:
        alike = draws.spread(scores)
        more = more * (alike != alike[..., :1]).any(-1, keepdims=True)
    rest, rest_tokens = draws.sums(more, begin=first)
    both = (scores + rest) / np.maximum(first + more, 1)
    if unbiased:
        weight = (first.sum(-1) / (first.sum(-1) + left))[..., None]
        weighted = weight * scores / np.maximum(first, 1) + (1 - weight) * rest / np.maximum(more, 1)
        both = np.where(more > 0, weighted, both)
    return draws.spread(both), (tokens + rest_tokens).sum(-1)


def all_or_two(draws: Draws, budget: int) -> Tried:
    """Two for every opening; a group whose futures all have the same score stops there, any other uses the budget."""
    two = draws.everywhere(2 * draws.sharing)
    scores, _ = draws.sums(two)
    alike = draws.spread(scores / np.maximum(two, 1))
    goes_on = (alike != alike[..., :1]).any(-1, keepdims=True)
    return means(draws, np.where(goes_on, draws.sharing * max(budget, 2), two))


def clairvoyant(draws: Draws, budget: int) -> Tried:
    """The best allocation (Neyman's) for those who know every value beforehand: no rule can have it."""
    share = draws.values / 2
    weights = draws.everywhere(_weights(draws) * share * (1 - share) + 1e-9 * (draws.sharing > 0))
    least = draws.everywhere(np.minimum(draws.sharing, 1))
    return means(draws, _allotted(draws, weights, least, np.maximum(_budget(draws, budget), least.sum(-1))))


def _budget(draws: Draws, budget: int) -> Array:
    """Of a group (G,): nothing beyond the least where there is one progress, and so no signal."""
    return np.where((draws.sharing == NUM_OPENINGS).any(-1), 0, NUM_OPENINGS * budget)


def _weights(draws: Draws) -> Array:
    """What a progress's variance counts for in the error of the advantages (G, m)."""
    weights: Array = draws.sharing * (NUM_OPENINGS - draws.sharing)
    return weights


def _allotted(draws: Draws, weights: Array, least: Array, budget: Array) -> Array:
    """Deal the budget (R, G) out one by one, to where ``weights / n`` falls most; ``least`` (R, G, m) come first."""
    counts = np.minimum(least, budget[..., None] > 0).astype(int)
    for _ in range(int(budget.max())):
        gain = np.where(draws.sharing > 0, weights / (np.maximum(counts, 1) * (counts + 1)), -1)
        best = gain.argmax(-1)[..., None]
        is_left = (counts.sum(-1) < budget)[..., None]
        np.put_along_axis(counts, best, np.take_along_axis(counts, best, -1) + is_left, -1)
    return counts


# ---------------------------------------------------------------------------------------------------- what they cost


@dataclass(frozen=True, slots=True)
class Outcome:
    """A rule at one budget, by group of one stage.

    Attributes:
        squares: (G, 2) mean squared error of the advantages, plain and scaled by the group's standard deviation.
        tokens: (G,) mean tokens of an opening's futures.
        bias: (G,) mean squared bias of the plain advantages, less what chance alone would show.
    """

    squares: Array
    tokens: Array
    bias: Array


def advantages(rewards: Array) -> Array:
    """As GRPO computes them (..., m, 2): less the group's mean; and divided by its standard deviation, too."""
    plain = rewards - rewards.mean(-1, keepdims=True)
    return np.stack([plain, plain / (rewards.std(-1, ddof=1, keepdims=True) + 1e-4)], -1)


def outcome(draws: Draws, tried: Tried) -> Outcome:
    """How far a rule's advantages are from the true ones."""
    rewards, tokens = tried
    errors = advantages(rewards) - advantages(draws.truth)
    plain = errors[..., 0]
    bias = plain.mean(0) ** 2 - plain.var(0, ddof=1) / len(plain)
    return Outcome((errors**2).mean((0, 2)), tokens.mean(0) / NUM_OPENINGS, bias.mean(-1))


Curve = list[Outcome]
"""A rule over budgets, of one stage."""


def error_at(tokens: Array, curve: Sequence[tuple[Array, Array]]) -> Array:
    """Root mean squared error (2,) at so many tokens, on a line through (tokens, squares) in log-log."""
    spent = np.log([float(t) for t, _ in curve])
    logs = np.array([np.log(squares) / 2 for _, squares in curve])
    return np.exp([np.interp(np.log(tokens), spent, column) for column in logs.T])


def points(stages: Sequence[Curve], weights: Sequence[Array]) -> list[tuple[Array, Array]]:
    """(tokens, squares) by budget, averaged over groups with weights (G,) and over stages alike."""
    return [
        (
            np.mean([np.average(o.tokens, weights=w) for o, w in zip(outcomes, weights, strict=True)]),
            np.mean([np.average(o.squares, axis=0, weights=w) for o, w in zip(outcomes, weights, strict=True)], 0),
        )
        for outcomes in zip(*stages, strict=True)
    ]


def ratio(rule: Sequence[Curve], fixed: Sequence[Curve], weights: Sequence[Array], budget: int | None = 4) -> Array:
    """Error of a rule to that of fixed allocation at equal tokens (2,).

    Args:
        budget: Both at the tokens of so many fixed futures, between budgets of the rule; None: at the tokens that the
            rule spends, which then has one budget only, between budgets of fixed allocation.
    """
    theirs, ours = points(fixed, weights), points(rule, weights)
    if budget is None:
        [(tokens, squares)] = ours
        return np.sqrt(squares) / error_at(tokens, theirs)
    tokens, squares = theirs[BUDGETS.index(budget)]
    return error_at(tokens, ours) / np.sqrt(squares)


def with_interval(rule: Sequence[Curve], fixed: Sequence[Curve], budget: int | None = 4) -> list[str]:
    """The two ratios, each with a 95 % interval from resampling the problems."""
    rng = np.random.default_rng(0)
    sizes = [len(curve[0].tokens) for curve in fixed]
    found = ratio(rule, fixed, [np.ones(size) for size in sizes], budget)
    again = [
        ratio(rule, fixed, [rng.multinomial(size, np.ones(size) / size) for size in sizes], budget)
        for _ in range(RESAMPLINGS)
    ]
    low, high = np.quantile(again, [0.025, 0.975], axis=0)
    return [f"{r:.2f} [{lo:.2f}, {hi:.2f}]" for r, lo, hi in zip(found, low, high, strict=True)]


# ---------------------------------------------------------------------------------------------------- the page


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage's population, with shared draws and without, and the curves that most is compared with."""

    together: Draws
    alone: Draws
    fixed: Curve
    adaptive: Curve


def stage(groups: list[list[dict[str, Any]]], replications: int) -> Stage:
    """Draw, and try fixed and adaptive at every budget."""
    together = draw(groups, replications, shared=True, seed=1)
    alone = draw(groups, replications, shared=False, seed=2)
    return Stage(
        together,
        alone,
        [outcome(alone, each(alone, budget)) for budget in BUDGETS],
        [outcome(together, adaptive(together, budget)) for budget in BUDGETS[1:]],  # of one there is nothing to deal
    )


def by_stage(stages: dict[str, Stage]) -> Iterator[str]:
    """A line per stage, and one for all: the population, and what adaptive does to the error."""
    yield (
        "| policy | accuracy | distinct progress, of 8 | groups of one progress | 2 futures each all equal "
        "| error, fixed k=4 | scaled | adaptive / fixed at equal tokens | scaled |"
    )
    yield "|---|" + "---|" * 8
    for name, one in (stages | {"all, weighted equally": None}).items():
        chosen = list(stages.values()) if one is None else [one]
        squares = np.mean([np.mean(s.fixed[BUDGETS.index(4)].squares, 0) for s in chosen], 0)
        cells = [
            f"{100 * np.mean([s.alone.truth.mean() / 2 for s in chosen]):.0f} %",
            f"{np.mean([(s.together.sharing > 0).sum(-1).mean() for s in chosen]):.1f}",
            f"{100 * np.mean([(s.together.sharing == NUM_OPENINGS).any(-1).mean() for s in chosen]):.0f} %",
            f"{100 * np.mean([_alike(s.alone) for s in chosen]):.0f} %",
            *(f"{error:.3f}" for error in np.sqrt(squares)),
            *with_interval([s.adaptive for s in chosen], [s.fixed for s in chosen]),
        ]
        yield f"| {name} | {' | '.join(cells)} |"


def _alike(draws: Draws) -> float:
    scores, _ = draws.sums(draws.everywhere(2 * draws.sharing))
    return float((scores == scores[..., :1]).all(-1).mean())


Rule = Callable[[Draws, int], Tried]

SHARED: dict[str, Rule] = {
    "shared, equally many each": each,
    "**adaptive**": adaptive,
    "two waves by Beta posterior": waves,
    "two waves, stopping where the first are all equal": lambda d, k: waves(d, k, stop=True),
    "two waves, mean of all draws (biased)": lambda d, k: waves(d, k, unbiased=False),
    "clairvoyant": clairvoyant,
}
"""Rules for which openings with the same progress share their futures."""

UNSHARED: dict[str, Rule] = {
    "adaptive (= fixed)": adaptive,
    "two futures, stopping where they are all equal": all_or_two,
    "two waves by Beta posterior": waves,
    "two waves, mean of all draws (biased)": lambda d, k: waves(d, k, unbiased=False),
    "clairvoyant": clairvoyant,
}
"""Rules for openings of which no two agree."""


def compared(stages: list[Stage], rules: dict[str, Rule], *, shared: bool) -> Iterator[str]:
    """A line per rule, at budgets of 4 and 8, over all stages."""
    yield (
        "| rule | tokens, k=4 | error | error / fixed at equal tokens | scaled | bias, of squared error "
        "| k=8: error / fixed | scaled |"
    )
    yield "|---|" + "---|" * 7
    for name, rule in rules.items():
        cells: list[str] = []
        for budget in (4, 8):
            found = []
            for one in stages:
                draws = one.together if shared else one.alone
                found.append(outcome(draws, rule(draws, budget)))
            curves, fixed = [[each] for each in found], [one.fixed for one in stages]
            ratios = [f"{r:.2f}" for r in ratio(curves, fixed, [np.ones(len(o.tokens)) for o in found], None)]
            squares = np.mean([each.squares[:, 0].mean() for each in found])
            if budget == 4:
                bias = max(0.0, float(np.mean([each.bias.mean() for each in found]) / squares))
                cells += [f"{np.mean([each.tokens.mean() for each in found]):.0f}", f"{np.sqrt(squares):.3f}"]
                cells += [*ratios, f"{100 * bias:.0f} %"]
            else:
                cells += ratios
        yield f"| {name} | {' | '.join(cells)} |"


def plot(stages: dict[str, Stage], path: Path) -> None:
    """Error over tokens, fixed and adaptive, a panel per stage."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "adaptive"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(9, 5), sharex=True, sharey=True, layout="constrained")
    for axis, (name, one) in zip(axes.flat, stages.items(), strict=True):
        for label, curve, color, marker in (
            ("fixed", one.fixed, "#888888", "o"), ("adaptive", one.adaptive, "#1f6f8b", "s"),
        ):  # fmt: skip
            tokens, squares = zip(*points([curve], [np.ones(NUM_PROBLEMS)]), strict=True)
            axis.loglog(tokens, [np.sqrt(each[0]) for each in squares], marker, ls="-", color=color, label=label, ms=4)
            for budget, x, y in zip(BUDGETS[-len(curve) :], tokens, squares, strict=True):
                if budget == 4:
                    axis.annotate(f"k={budget}", (x, np.sqrt(y[0])), (3, 3), textcoords="offset points", fontsize=7)
        axis.set_title(name, fontsize=9)
        axis.set_xticks([50, 100, 200, 400], ["50", "100", "200", "400"])
        axis.set_yticks([0.02, 0.05, 0.1, 0.2, 0.5], ["0.02", "0.05", "0.1", "0.2", "0.5"])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    axes[0, 0].legend(fontsize=8, frameon=False)
    figure.supxlabel("tokens of futures per opening", fontsize=9)
    figure.supylabel("RMS error of the advantages", fontsize=9)
    figure.savefig(path, metadata={"Date": None})


def figures(stages: dict[str, Stage]) -> str:
    """The tables, in Markdown."""
    listed = list(stages.values())
    return "\n".join(
        [
            "**By stage of training**\n",
            *by_stage(stages),
            "\n**Other rules, all stages**: openings with the same progress share their futures\n",
            *compared(listed, SHARED, shared=True),
            "\n**The same values, if no two openings agreed**\n",
            *compared(listed, UNSHARED, shared=False),
            "",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the recording, or make it, and put the figures onto the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="repeat the recording first")
    if parser.parse_args(arguments).record:
        RECORDING.write_bytes(gzip.compress(json.dumps(record(), separators=(",", ":")).encode(), mtime=0))
    recorded = json.loads(gzip.decompress(RECORDING.read_bytes()))
    stages = {name: stage(groups, REPLICATIONS) for name, groups in recorded.items()}
    plot(stages, PLOT)
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{figures(stages)}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
