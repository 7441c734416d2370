"""The experiment on adaptive futures: its population, its rules and its comparison, on a recording made by hand."""

import gzip
import json
import re
from typing import Any

import numpy as np
import pytest

from benchmarks import adaptive_futures as experiment

Group = list[dict[str, Any]]


def group(progress: str, **shares: float) -> Group:
    """Openings by the progress that they pass on, each right in a share of its 16 futures of 10 tokens."""
    outcomes = {name: "2" * round(16 * share) + "0" * (16 - round(16 * share)) for name, share in shares.items()}
    return [{"progress": progress.index(name), "scores": outcomes[name], "tokens": [10] * 16} for name in progress]


MIXED = [group("aaaaaabc", a=0.75, b=0.25, c=0.5), group("abababab", a=1.0, b=0.5)]
SAME = [group("aaaaaaaa", a=0.75)]


def test_the_error_of_fixed_allocation_is_the_binomials() -> None:
    draws = experiment.draw(MIXED[:1], 2000, shared=False, seed=1)
    found = experiment.outcome(draws, experiment.each(draws, 4))
    by_hand = 4 * (6 * 0.1875 + 0.1875 + 0.25) / 4 * (1 - 1 / 8) / 8
    assert found.squares[0, 0] == pytest.approx(by_hand, rel=0.05)
    assert found.tokens.tolist() == [40.0]
    assert abs(found.bias[0]) < 0.01 * by_hand


def test_the_error_of_the_shipped_rule_is_the_one_of_its_docstring() -> None:
    draws = experiment.draw(MIXED[:1], 2000, shared=True, seed=1)
    found = experiment.outcome(draws, experiment.adaptive(draws, 4))
    by_hand = 4 * (0.1875 / 12 * 6 * (1 - 6 / 8) + (0.1875 + 0.25) / 10 * (1 - 1 / 8)) / 8
    assert found.squares[0, 0] == pytest.approx(by_hand, rel=0.05)
    assert found.tokens.tolist() == [40.0]


def test_a_group_of_one_progress_has_no_error_and_one_future_each() -> None:
    draws = experiment.draw(SAME, 50, shared=True, seed=1)
    found = experiment.outcome(draws, experiment.adaptive(draws, 4))
    assert (found.squares.tolist(), found.tokens.tolist()) == ([[0.0, 0.0]], [10.0])


@pytest.mark.parametrize("rule", [*experiment.SHARED.values(), *experiment.UNSHARED.values()])
@pytest.mark.parametrize("shared", [True, False])
def test_no_rule_spends_more_than_the_budget(rule: experiment.Rule, shared: bool) -> None:
    draws = experiment.draw(MIXED + SAME, 30, shared=shared, seed=1)
    _, tokens = rule(draws, 4)
    assert tokens.max() <= 4 * 8 * 10


def test_stopping_by_what_was_seen_is_biased_and_fixed_weights_are_not() -> None:
    draws = experiment.draw([group("abcdefgh", **dict.fromkeys("abcdefg", 1.0), h=0.75)], 4000, shared=False, seed=1)
    biased, unbiased = (experiment.outcome(draws, rule(draws, 4)) for rule in (experiment.all_or_two, experiment.waves))
    assert biased.bias[0] > 10 * abs(unbiased.bias[0])


def test_a_rule_compared_with_itself_has_a_ratio_of_one() -> None:
    draws = experiment.draw(MIXED, 50, shared=False, seed=1)
    curve = [experiment.outcome(draws, experiment.each(draws, budget)) for budget in experiment.BUDGETS]
    assert experiment.ratio([curve], [curve], [np.ones(2)]).tolist() == pytest.approx([1, 1])
    assert experiment.ratio([curve[3:4]], [curve], [np.ones(2)], None).tolist() == pytest.approx([1, 1])


def test_the_page_has_a_line_for_every_recorded_stage() -> None:
    recorded = json.loads(gzip.decompress(experiment.RECORDING.read_bytes()))
    assert list(recorded) == list(experiment.STAGES)
    assert {len(groups) for groups in recorded.values()} == {experiment.NUM_PROBLEMS}
    page = experiment.PAGE.read_text()
    assert re.findall(r"^\| (before.*?|after.*?) \|", page, re.M) == list(experiment.STAGES)
    assert experiment.PLOT.exists()
