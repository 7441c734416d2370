"""Groups without signal: others rolled out in their place, and problems left out by how they came out before."""

from collections.abc import Callable
from pathlib import Path

import pytest

from motif_lite.jobs import checking
from motif_lite.nouns import Opening, Problem, Turn
from motif_lite.recipe.schema import Recipe
from motif_lite.training.choosing import Choosing, Visits
from motif_lite.training.refilling import Group, refilled
from tests.fakes import reply
from tests.studies import TINY
from tests.test_training import Training

MakeRecipe = Callable[..., Recipe]


# -------------------------------------------------------------------------------------------------------------- refills


def group(name: str, number: int) -> Group:
    problem = Problem(f"{name}{number}", "?", "1")
    return Group([Opening(problem, Turn("?", reply("!")), ())], [number])


@pytest.mark.parametrize(
    ("signals", "further", "most", "kept", "unused", "asked"),
    [
        ("10", "1", 0, "a0 a1", "", []),
        ("11", "1", 9, "a0 a1", "", []),
        ("100", "01111", 9, "a0 b1 b2", "b0 a1 a2", [2, 1]),
        ("100", "01111", 2, "a0 b1 a2", "b0 a1", [2]),
        ("000", "00000", 4, "a0 a1 a2", "b0 b1 b2 b3", [3, 1]),
        ("000", "1", 9, "b0 a1 a2", "a0", [3, 2]),
    ],
    ids=["off", "nothing missing", "filled", "budget spent", "in vain", "no problems left"],
)
def test_as_many_groups_are_rolled_out_as_are_missing_until_the_budget_is_spent(
    signals: str, further: str, most: int, kept: str, unused: str, asked: list[int]
) -> None:
    given = [group("a", number) for number in range(len(signals))]
    left, numbers = [group("b", number) for number in range(len(further))], list[int]()
    teaches = {f"a{n}": each == "1" for n, each in enumerate(signals)}
    teaches |= {f"b{n}": each == "1" for n, each in enumerate(further)}

    def more(number: int) -> list[Group]:
        numbers.append(number)
        taken = left[:number]
        del left[:number]
        return taken

    found = refilled(given, most, more, lambda each: teaches[each.problem])
    assert [" ".join(each.problem for each in groups) for groups in found] == [kept, unused]
    assert numbers == asked


# ---------------------------------------------------------------------------------------------------------------- skips


def choosing(*changes: str, earlier: tuple[Visits, ...] = (), levels: tuple[int, ...] = (0, 0, 0, 0)) -> Choosing:
    problems = [Problem(name, "?", "1", level=level) for name, level in zip("abcd", levels, strict=True)]
    return Choosing(checking.check(TINY, list(changes)), problems, earlier)


def test_a_problem_is_left_out_after_visits_in_vain_and_asked_again_later() -> None:
    skip = "data.skip={after=2, visits=1}"
    chooses, record = choosing(skip), list[Visits]()
    asked = []
    for step in range(7):
        chosen = chooses.begin(["a"], step)
        asked.append(chosen[0] == "a")
        chooses.end({chosen[0]: chosen[0] != "a"})
        record.append(chooses.visits)
    assert asked == [True, True, False, True, False, True, False], "and again after one more in vain"
    resumed = choosing(skip, earlier=tuple(record[:4]))
    assert resumed.begin(["a"], 4) == choosing(skip, earlier=tuple(record[:4])).begin(["a"], 4) != ["a"]
    assert record[2]["a"] is None


def test_signal_sets_the_count_back() -> None:
    chooses = choosing("data.skip={after=2, visits=3}", earlier=({"a": False}, {"a": True}, {"a": False}))
    assert chooses.begin(["a", "b"], 3) == ["a", "b"]
    chooses.end({"a": False, "b": True})
    assert chooses.begin(["a", "b"], 4)[1] == "b"
    assert chooses.begin(["a", "b"], 4)[0] in ("c", "d")


def test_one_that_is_asked_all_the_same_and_has_signal_is_left_out_no_longer() -> None:
    chooses = choosing("data.skip={after=1, visits=2}", earlier=(dict.fromkeys("abcd", False),))
    assert chooses.begin(["a"], 1) == ["a"], "all are left out"
    chooses.end({"a": True})
    assert chooses.begin(["b"], 2) == ["a"]


def test_others_are_of_the_same_level_and_neither_left_out_nor_asked_already() -> None:
    dry = tuple({"c": False} for _ in range(2))
    chooses = choosing("data.skip={after=2, visits=3}", earlier=dry, levels=(1, 1, 1, 0))
    chooses.begin(["a"], 0)
    assert [problem.id for problem in chooses.further(9)] == ["b"]
    assert chooses.begin(["c", "a", "b"], 0) == ["c", "a", "b"], "better than none"


def test_the_order_of_others_is_that_of_the_step() -> None:
    orders = []
    for step in (0, 0, 1, 2, 3):
        chooses = choosing()
        chooses.begin(["a"], step)
        orders.append([problem.id for problem in chooses.further(3)])
    assert orders[0] == orders[1]
    assert len({tuple(order) for order in orders}) > 1


# -------------------------------------------------------------------------------------------------- on the tiny model

SETTINGS = [
    "rewards={future_accuracy=1.0}", "rollout.num_futures=1", "training.max_steps=4", "data.num_problems=12",
    "data.refill=3", "data.skip={after=1, visits=1}",
]  # fmt: skip


@pytest.mark.parametrize("credit", ["opening", "reset"])
def test_what_is_refilled_and_left_out_is_counted_and_the_same_after_a_resume(
    credit: str, tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe(*SETTINGS, f'training.credit="{credit}"')
    whole = Training(recipe, tiny_folder, tmp_path / "whole")
    assert whole.train()
    whole.require_same_when_resumed(tmp_path / "stopped", 2)

    metrics, rows = whole.run.metrics(), whole.run.rollouts()
    size, problems = recipe.rollout.num_openings, recipe.training.problems_per_step
    assert 0 < sum(line.groups_refilled for line in metrics) <= 3 * len(metrics)
    latest: dict[str, bool | None] = {}
    for line in metrics:
        for problem, outcome in (line.visits or {}).items():
            assert (outcome is None) <= (latest.get(problem) is False), "left out after a visit in vain alone"
            latest[problem] = outcome
        mine = [row for row in rows if row.step == line.step]
        assert len(mine) == size * problems, "as many as without"
        assert line.prompts["openings"] == size * (problems + line.groups_refilled)
        assert sum(line.tokens.values()) == line.unused_tokens + sum(
            turn.tokens for row in mine for turn in row.turns()
        )
        outcomes = [each for each in (line.visits or {}).values() if each is not None]
        assert len(outcomes) == problems + line.groups_refilled
        with_signal = min(problems, sum(outcomes))
        assert line.groups_without_signal == 1 - with_signal / problems
        if line.groups_refilled < 3:
            assert with_signal == problems


def test_a_group_of_which_nothing_is_trained_is_refilled_and_left_out(
    tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path
) -> None:
    """All openings are cut off; they differ in their form."""
    cut = ["training.mask_truncated_completions=true", "rollout.openings.max_tokens=16", "training.max_steps=1"]
    recipe = tiny_recipe(*SETTINGS[1:], *cut, "rewards={tag_count=1.0}")
    training = Training(recipe, tiny_folder, tmp_path)
    assert training.train()
    (line,), rows = training.run.metrics(), training.run.rollouts()
    assert {row.opening.finish for row in rows} == {"length"}
    assert len({row.rewards["tag_count"] for row in rows if row.problem == rows[0].problem}) > 1
    assert (line.groups_without_signal, line.groups_refilled, line.trained_tokens) == (1.0, 3, 0)
    assert not any((line.visits or {}).values())
