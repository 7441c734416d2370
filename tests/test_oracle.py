"""Which objective each credit, loss and scaling ascends: exact gradients of a toy, through the real path.

Two steps make the argument. `coefficients` in `oracle` states the estimator; the first test holds a real training step
to it, from the policy's sampling to the gradient that the optimiser gets. The others compare its mean with the exact
gradient of what docs/method.md says is ascended.
"""

import json
import re
from copy import copy
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import torch

from motif_lite.jobs import checking
from motif_lite.policies.engine import sampler
from motif_lite.recipe.schema import Recipe
from motif_lite.runs.rollout_lines import RolloutTurn
from tests import oracle
from tests.conftest import ROOT
from tests.oracle import Array, Row, Setting, Toy, cosine, expected, factor
from tests.test_training import Training

REWARDS = ROOT / "tests" / "oracle_rewards.py"
ACCURACY, FORM = (f'"{REWARDS}:{name}"' for name in ("accuracy", "form"))
CREDITS = ["opening", "chain", "tree", "reset"]
LOSSES = ["bnpo", "dr_grpo", "grpo"]
SCALES = ["none", "group", "batch"]
GATED = {"cispo": "token", "sapo": "token", "luspo": "sequence", "vespo": "token"}
"""Losses with a gate of their own for a changed policy, and whose ratio they are defined with."""
GROUPS, M, K, TOKENS = 3, 4, 2, 3
"""Of a real step: problems, openings, futures, and tokens of a round."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = oracle.write_model(tmp_path_factory.mktemp("toy"))
    rows = [{"question": oracle.QUESTION, "answer": "0"}] * GROUPS
    (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def recipe(folder: Path, max_tokens: int, *changes: str) -> Recipe:
    """The toy's: every learned thing comes from the gradient alone, which nothing clips."""
    settings = [
        f'model.name="{folder}"', f'data.train="{folder / "problems.jsonl"}"', "lora={rank=4, alpha=4}",
        f"rewards={{{ACCURACY}=1.0}}", "rollout.num_rounds=2", f"rollout.num_openings={M}",
        f"rollout.num_futures={K}", f"rollout.openings.max_tokens={max_tokens}",
        f"rollout.futures.max_tokens={max_tokens}", f"training.problems_per_step={GROUPS}",
        "training.micro_batch_size=6", "training.max_steps=1", "training.max_grad_norm=1e6",
    ]  # fmt: skip
    return checking.check(ROOT / "recipes" / "tiny_cpu.toml", [*settings, *changes])


@pytest.fixture(scope="module")
def toys(folder: Path) -> dict[int, Toy]:
    """By the tokens of a round: with one, all replies are equally long."""
    from motif_lite.policies import backends

    made = recipe(folder, TOKENS)
    policy = backends.backend(made.model.backend).load(made, str(folder))
    oracle.shake(policy)  # type: ignore[arg-type]
    return {max_tokens: Toy(policy, max_tokens) for max_tokens in (1, TOKENS)}  # type: ignore[arg-type]


@dataclass(frozen=True)
class Update:
    """What the optimiser gets, and the adapter that it is about to change."""

    gradient: Array
    adapter: dict[str, torch.Tensor]


@pytest.fixture
def updates(monkeypatch: pytest.MonkeyPatch) -> list[Update]:
    """Of a run, one by one."""
    from motif_lite.training.callback import StepCallback

    seen: list[Update] = []
    before = StepCallback.on_pre_optimizer_step

    def watched(self: StepCallback, *arguments: Any, **named: Any) -> None:
        seen.append(Update(oracle.gradient_of(named["model"]), oracle.adapter_of(self.step.policy)))  # type: ignore[arg-type]
        before(self, *arguments, **named)

    monkeypatch.setattr(StepCallback, "on_pre_optimizer_step", watched)
    return seen


def every_setting() -> list[Setting]:
    """Each loss and each scaling with each credit."""
    kinds = [("bnpo", "none"), ("bnpo", "group"), ("bnpo", "batch"), ("dapo", "none"), ("dr_grpo", "none"),
             ("grpo", "group")]  # fmt: skip
    plain = [Setting(credit, loss, scale) for credit in CREDITS for loss, scale in kinds]
    gated = [Setting(credit, loss, level=level) for credit in CREDITS for loss, level in GATED.items()]
    masks = [Setting(credit, loss, masks=True) for credit in CREDITS for loss in ("bnpo", "grpo")]
    return [*plain, *gated, *masks, *(Setting(credit, "bnpo", "group", apart=True) for credit in CREDITS)]


def number_of(toy: Toy, turn: RolloutTurn) -> int:
    """Of a reply that was sampled, among all there are."""
    ids = tuple(f"_?{oracle.LETTERS}".index(letter) for letter in turn.reply)
    return toy.replies.index((*ids, 0) if turn.finish == "stop" else ids)


@pytest.mark.parametrize("setting", every_setting(), ids=str)
def test_a_real_step_is_made_with_the_stated_coefficients(
    setting: Setting, folder: Path, toys: dict[int, Toy], tmp_path: Path, updates: list[Update]
) -> None:
    """Of accuracy, and of a form for which each round answers itself."""
    toy = toys[TOKENS]
    made = recipe(folder, TOKENS, *setting.changes, f"rewards={{{ACCURACY}=1.0, {FORM}=1.0}}")
    training = Training(made, folder, tmp_path)
    oracle.shake(training.policy)  # type: ignore[arg-type]
    assert training.train()
    rows = rows_of(training, setting, toy)
    of_first, of_later = np.zeros(len(toy.texts)), np.zeros((len(toy.texts),) * 2)
    for row in rows:
        of = of_later[row.prompt - 1] if row.prompt else of_first
        of[row.reply] += row.coefficient
    [found], stated = [update.gradient for update in updates], -toy.ascent(of_first, of_later)  # a loss is descended
    assert np.linalg.norm(stated) > 1e-4
    assert np.linalg.norm(found - stated) < 1e-4 * np.linalg.norm(stated)


def rows_of(training: Training, setting: Setting, toy: Toy) -> list[Row]:
    """Every reply of the run's only step, with the coefficient that it is stated to have in the update."""
    lines = training.run.rollouts()
    openings = np.array([number_of(toy, line.opening) for line in lines]).reshape(1, GROUPS, M)
    most = max(len(line.futures) for line in lines)  # with reset, one where the second round is trained
    all_futures = [line.futures * (most // len(line.futures)) for line in lines]
    futures = np.array([[number_of(toy, future.rounds[0]) for future in each] for each in all_futures])
    futures = futures.reshape(1, GROUPS, M, -1)
    branches = np.array([1 if line.opening.advantage is not None else 2 for line in lines]).reshape(1, GROUPS, M)
    places = (np.broadcast_to(openings[..., None], futures.shape), futures)
    ended = np.array([ids[-1] == 0 for ids in toy.replies], float)
    first, later = oracle.coefficients(
        setting,
        [(first[places], later[places]) for first, later in (accuracy(toy), form(toy))],
        (toy.lengths[openings], toy.lengths[futures]),
        TOKENS,
        (ended[openings], ended[futures]),
        branches if setting.credit == "reset" else None,
    )
    if setting.credit == "reset":
        assert set(branches.ravel()) == {1, 2}
    of_first = [Row(0, int(r), c) for r, c in zip(openings.ravel(), first.ravel(), strict=True)]
    of_later = zip(places[0].ravel() + 1, futures.ravel(), later.ravel(), strict=True)
    return of_first + [Row(int(prompt), int(reply), c) for prompt, reply, c in of_later]


def reuses() -> list[Setting]:
    """Each loss with each credit at each level it is defined for, as far as they differ in a second update."""
    kinds = [("bnpo", "token"), ("grpo", "sequence"), ("dr_grpo", "token"), *GATED.items()]
    return [Setting(credit, loss, "group", level=level) for credit in CREDITS for loss, level in kinds]


@pytest.mark.parametrize("setting", reuses(), ids=str)
def test_a_second_update_on_the_same_rollouts_has_the_stated_gradient(
    setting: Setting, folder: Path, toys: dict[int, Toy], tmp_path: Path, updates: list[Update]
) -> None:
    """At a rate so high that a good part of the tokens leave the clipping range."""
    high, clips = 1.1 if setting.loss == "cispo" else 0.1, setting.loss not in ("sapo", "vespo")
    bounds = [f"training.epsilon_high={high}"] if clips else []
    made = recipe(
        folder, TOKENS, *setting.changes, f"rewards={{{ACCURACY}=1.0, {FORM}=1.0}}", "training.num_iterations=3",
        "training.learning_rate=0.05", 'training.lr_schedule="constant"', "training.warmup_fraction=0.0",
        "training.epsilon=0.05", *bounds,
    )  # fmt: skip
    training = Training(made, folder, tmp_path)
    oracle.shake(training.policy)  # type: ignore[arg-type]
    assert training.train()
    own = replace(toys[TOKENS], policy=training.policy)  # type: ignore[arg-type]
    rows = rows_of(training, setting, own)
    clipped = []
    for update in updates:
        stated, part = oracle.reused(own, setting, rows, updates[0].adapter, update.adapter, (0.05, high))
        assert np.linalg.norm(update.gradient + stated) < 1e-4 * np.linalg.norm(stated)
        clipped.append(part)
    assert len(updates) == 3
    assert clipped[0] == 0
    if clips:
        assert clipped[2] > 0.05


SHARPNESS, CAP = 0.5, 1.05
"""What another sampler's logits are multiplied with, and a largest weight that cuts some ratios and leaves others."""

WEIGHED = [
    *(Setting(credit, "bnpo", "group") for credit in CREDITS), Setting("opening", "grpo", masks=True),
    Setting("opening", "dr_grpo"), Setting("chain", "cispo"), Setting("opening", "sapo"), Setting("tree", "vespo"),
    Setting("opening", "luspo", level="sequence"),
]  # fmt: skip
"""Each credit, and each loss."""


@pytest.mark.parametrize(
    ("setting", "packs"),
    [*((setting, True) for setting in WEIGHED), (WEIGHED[0], False), (WEIGHED[-1], False)],
    ids=str,
)
def test_replies_of_another_sampler_are_weighed_alike_in_both_updates_of_a_step(
    setting: Setting,
    packs: bool,  # where rows are not packed, TRL makes micro-batches of them
    folder: Path,
    toys: dict[int, Toy],
    tmp_path: Path,
    updates: list[Update],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each token with its ratio before the first update, some of which are cut."""
    draw_flatter(monkeypatch)
    if not packs:
        monkeypatch.setattr("motif_lite.training.grpo.can_pack", lambda policy: False)
    high = 1.1 if setting.loss == "cispo" else 0.1
    bounds = [f"training.epsilon_high={high}"] if setting.loss not in ("sapo", "vespo") else []
    made = recipe(
        folder, TOKENS, *setting.changes, f"rewards={{{ACCURACY}=1.0, {FORM}=1.0}}", "training.num_iterations=2",
        "training.learning_rate=0.05", 'training.lr_schedule="constant"', "training.warmup_fraction=0.0",
        "training.epsilon=0.05", f"training.importance_cap={CAP}", *bounds,
    )  # fmt: skip
    training = Training(made, folder, tmp_path)
    oracle.shake(training.policy)  # type: ignore[arg-type]
    assert training.train()
    own = replace(toys[TOKENS], policy=training.policy)  # type: ignore[arg-type]
    rows, first = rows_of(training, setting, own), updates[0].adapter
    for update in updates:
        stated, _ = oracle.reused(own, setting, rows, first, update.adapter, (0.05, high), (SHARPNESS, CAP))
        plain, _ = oracle.reused(own, setting, rows, first, update.adapter, (0.05, high))
        assert np.linalg.norm(update.gradient + stated) < 1e-4 * np.linalg.norm(stated)
        assert np.linalg.norm(update.gradient + plain) > 1e-2 * np.linalg.norm(stated)
    assert len(updates) == 2
    [line] = training.run.metrics()
    assert line.importance_weight is not None
    assert line.importance_cut is not None
    assert 0.3 < line.importance_weight < CAP
    assert 0 < line.importance_cut < 1


def draw_flatter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replies as of a policy whose logits are smaller; their log-probabilities are that policy's."""
    draw = sampler._draw

    def flatter(logits: torch.Tensor, *others: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return draw(SHARPNESS * logits.float(), *others)

    monkeypatch.setattr(sampler, "_draw", flatter)


def accuracy(toy: Toy) -> tuple[Array, Array]:
    """By trajectory, of first and of second rounds."""
    return toy.right, toy.right


def form(toy: Toy) -> tuple[Array, Array]:
    begins = np.array([0.5 * text.startswith("x") for text in toy.texts])
    return np.repeat(begins[:, None], len(begins), 1), np.repeat(begins[None], len(begins), 0)


@dataclass(frozen=True)
class Ascent:
    """A mean update next to the gradient that it is compared with, by round."""

    found: tuple[Array, Array]
    stated: tuple[Array, Array]
    credit: str

    @property
    def cosines(self) -> list[float]:
        """Of each trained round, then of both together."""
        pairs = list(zip(self.found, self.stated, strict=True))[: 1 if self.credit == "opening" else 2]
        whole = tuple(np.sum([pair[which] for pair in pairs], 0) for which in (0, 1))
        return [cosine(*pair) for pair in (*pairs, whole)]

    def factors(self, unit: float) -> list[float]:
        """Of each trained round, as multiples of the stated gradient per ``unit`` tokens."""
        pairs = list(zip(self.found, self.stated, strict=True))[: 1 if self.credit == "opening" else 2]
        return [factor(*pair) * unit for pair in pairs]


def by_round(toy: Toy, weights: tuple[Array, Array]) -> tuple[Array, Array]:
    first, later = weights
    return toy.ascent(first, np.zeros_like(later)), toy.ascent(np.zeros_like(first), later)


@cache
def ascent(toy: Toy, setting: Setting, *, m: int = 8, k: int = 4, groups: int = 1) -> Ascent:
    k = 1 if setting.credit == "chain" else k
    found = expected(toy, setting, [accuracy(toy)], m=m, k=k, groups=groups)
    return Ascent(by_round(toy, found), exact(toy), setting.credit)


@cache
def exact(toy: Toy) -> tuple[Array, Array]:
    """The gradient of the mean reward, by round."""
    return by_round(toy, toy.exact(toy.right))


def test_the_toy_is_enumerated_whole(toys: dict[int, Toy]) -> None:
    for toy in toys.values():
        assert toy.first.sum() == pytest.approx(1, abs=1e-6)
        assert toy.later.sum(1) == pytest.approx(1, abs=1e-6)
    assert [len(toy.texts) for toy in toys.values()] == [4, 40]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("credit", CREDITS)
def test_with_equal_lengths_every_loss_ascends_the_exact_gradient_of_the_rounds_that_are_trained(
    credit: str, loss: str, scale: str, toys: dict[int, Toy]
) -> None:
    found = ascent(toys[1], Setting(credit, loss, scale))
    assert min(found.cosines) > 0.999
    if scale == "none":
        unbiased = 1.0 if credit == "tree" else 7 / 8  # elsewhere, a mean over eight holds the sample itself
        tokens = 1 if credit == "opening" else 2  # reset trains one round in two, with twice the weight
        assert found.factors(tokens) == pytest.approx([unbiased] * (tokens), rel=0.01)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("m", [4, 8])
@pytest.mark.parametrize("k", [2, 4])
def test_first_and_later_rounds_of_a_tree_learn_at_one_rate(m: int, k: int, scale: str, toys: dict[int, Toy]) -> None:
    first, later = ascent(toys[1], Setting("tree", "bnpo", scale), m=m, k=k).factors(2)
    assert later == pytest.approx(first, rel=0.03)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("credit", CREDITS)
def test_with_unequal_lengths_one_constant_weight_ascends_it_too(credit: str, scale: str, toys: dict[int, Toy]) -> None:
    """Scaled by the group, what a credit ascends is not quite a gradient: the divisor depends on the rewards."""
    found = ascent(toys[TOKENS], Setting(credit, "dr_grpo", scale), groups=16 if scale == "batch" else 1)
    assert found.cosines[-1] > (0.995 if scale == "group" else 0.999)


@pytest.mark.parametrize("credit", CREDITS)
def test_dividing_by_the_tokens_of_a_step_is_next_to_unbiased(credit: str, toys: dict[int, Toy]) -> None:
    """Their number depends on the replies; the more openings a step has, the less."""
    toy, setting = toys[TOKENS], Setting(credit, "bnpo")
    assert ascent(toy, setting, m=4).cosines[-1] > 0.997
    assert ascent(toy, setting, m=4, groups=16).cosines[-1] > 0.999


@pytest.mark.parametrize("credit", CREDITS)
def test_with_unequal_lengths_grpo_ascends_rewards_per_token(credit: str, toys: dict[int, Toy]) -> None:
    """Each trajectory's reward, less the mean, divided by its own tokens: a long wrong one is punished less."""
    toy, k = toys[TOKENS], 4
    found = ascent(toy, Setting(credit, "grpo"), k=k)
    of_first, of_later = toy.exact(toy.right)
    per_token = 1 / (toy.lengths[:, None] + toy.lengths)
    if credit == "opening":
        stated = of_first / toy.lengths, of_later
    elif credit == "chain":
        stated = (of_later * per_token).sum(1), of_later * per_token
    elif credit == "reset":  # by the tokens of the round alone
        stated = of_first / toy.lengths, of_later / toy.lengths
    else:  # against siblings, and an opening's k futures share what it is worth
        values = (toy.later * toy.right).sum(1)
        means = (toy.later * per_token).sum(1)
        covariance = (toy.later * toy.right * per_token).sum(1) - values * means
        first = of_first * means + toy.first * covariance / k
        stated = first, toy.first[:, None] * toy.later * (toy.right - values[:, None]) * per_token
    of_stated = Ascent(found.found, by_round(toy, stated), credit).cosines[-1]
    assert of_stated > 0.999
    assert found.cosines[-1] < of_stated - 0.0005


@pytest.mark.parametrize("credit", ["chain", "tree", "reset"])
def test_each_round_ascends_the_accuracy_and_its_own_form(credit: str, toys: dict[int, Toy]) -> None:
    toy = toys[1]
    weights = expected(
        toy, Setting(credit, "dr_grpo"), [accuracy(toy), form(toy)], m=8, k=1 if credit == "chain" else 4
    )
    stated = toy.exact(toy.right + form(toy)[0])[0], toy.exact(toy.right + form(toy)[1])[1]
    assert min(Ascent(by_round(toy, weights), by_round(toy, stated), credit).cosines) > 0.999


@pytest.mark.parametrize("credit", CREDITS)
def test_weighed_updates_ascend_the_gradient_of_the_policy_that_is_trained(credit: str, toys: dict[int, Toy]) -> None:
    """That of its own tokens: the states before them, and the futures behind them, stay the sampler's."""
    toy, rounds, rng = toys[1], 1 if credit == "opening" else 2, np.random.default_rng(2)
    weights = rng.random(4) + 0.2, rng.random((4, 4)) + 0.2
    theirs = drawn_as(toy, *(each / each.sum(-1, keepdims=True) for each in weights))
    found = expected(theirs, Setting(credit, "dr_grpo"), [accuracy(toy)], m=8, k=1 if credit == "chain" else 4)
    weighed = found[0] * toy.first / theirs.first, found[1] * toy.later / theirs.later
    of_first, of_later = drawn_as(toy, toy.first, theirs.later), drawn_as(toy, theirs.first, toy.later)
    stated = of_first.exact(toy.right)[0], of_later.exact(toy.right)[1]
    unbiased = 1.0 if credit == "tree" else 7 / 8
    gradients = [by_round(toy, each)[:rounds] for each in (weighed, found, stated)]
    for with_weights, without, exact in zip(*gradients, strict=True):
        assert cosine(with_weights, exact) > 0.9999
        assert factor(with_weights, exact) * rounds == pytest.approx(unbiased, rel=0.01)
        assert cosine(without, exact) < 0.998


def drawn_as(toy: Toy, first: Array, later: Array) -> Toy:
    """Replies with other probabilities."""
    made = copy(toy)
    made.first, made.later = first, later
    return made


def worlds(toy: Toy) -> list[tuple[Array, Array]]:
    """Weights of the exact gradient in 24 of them: tables of right trajectories, drawn at random."""
    rng = np.random.default_rng(0)
    return [toy.exact(2.0 * (rng.random(toy.right.shape) < 0.4).astype(np.float64)) for _ in range(24)]


def opposed(toy: Toy) -> int:
    """In how many worlds the first round's partial gradient opposes the whole one."""
    rounds = [by_round(toy, weights) for weights in worlds(toy)]
    return sum(cosine(first, first + later) < 0 for first, later in rounds)


def by_length(toy: Toy) -> list[float]:
    """Cosines of what a chain ascends with grpo, with the exact gradient, in each world; ascending."""
    per_token = 1 / (toy.lengths[:, None] + toy.lengths)
    pairs = [(toy.ascent((later * per_token).sum(1), later * per_token), toy.ascent(first, later))
             for first, later in worlds(toy)]  # fmt: skip
    return sorted(cosine(*pair) for pair in pairs)


CASES = [("opening", 8, 4), ("chain", 8, 1), ("tree", 8, 4), ("tree", 8, 2), ("tree", 4, 2), ("reset", 8, 4)]


def table(toys: dict[int, Toy]) -> list[tuple[str, list[float]]]:
    """The rows of docs/method.md: what is set, and the figures."""
    rows = []
    for credit, m, k in CASES:
        for loss in LOSSES:
            for scale in ("none", "group"):
                setting = Setting(credit, loss, scale)
                equal, unequal = (ascent(toys[tokens], setting, m=m, k=k) for tokens in (1, TOKENS))
                factors = equal.factors(1 if credit == "opening" else 2)
                name = f"{credit} m={m}" + f" k={k}" * (credit != "chain")
                figures = [equal.cosines[-1], *factors, *[0.0] * (2 - len(factors)), unequal.cosines[-1]]
                rows.append((f"| {name} | {loss} | {scale} |", figures))
    return rows


def test_the_page_has_the_figures_of_this_table(toys: dict[int, Toy]) -> None:
    page = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
    made = table(toys)
    lines = [
        f"{name} {one:.4f} | {first:.2f} | {later:.2f} | {other:.3f} |" for name, (one, first, later, other) in made
    ]
    told = [line for line in page.splitlines() if re.match(r"\| \w+ m=\d", line)]
    assert [line.rsplit("|", 5)[0] for line in told] == [line.rsplit("|", 5)[0] for line in lines], "\n".join(lines)
    for line, (_, figures) in zip(told, made, strict=True):
        assert [float(cell) for cell in line.split("|")[4:8]] == pytest.approx(figures, abs=0.006), "\n".join(lines)
    cosines = by_length(toys[TOKENS])
    median, worst = fmean(cosines[11:13]), cosines[0]
    assert f"in {opposed(toys[1])} of 24 random worlds" in page
    assert f"median cosine {median:.3f}, lowest {worst:.2f}" in page, (median, worst)
