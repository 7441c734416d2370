"""Data sets of the hub by name: rows with their columns, written by hand, come out as problems with gold answers."""

import logging
from pathlib import Path
from typing import Any

import pytest

from motif_lite.errors import DataError
from motif_lite.grading.answers import is_correct, ruling
from motif_lite.nouns import Problem
from motif_lite.recipe.data import SourceSection
from motif_lite.tasks import sources
from motif_lite.tasks.sources.hub import DATASETS
from tests.test_training import MakeRecipe, Training

ROWS: dict[str, list[dict[str, Any]]] = {
    "math": [{
        "problem": "What is $1+1$?", "level": "Level 1", "type": "Algebra",
        "solution": "First \\boxed{1} and \\boxed{1}, so $1+1=\\boxed{2}$.",
    }],
    "dapo17k": [{"prompt": "What is $1+1$?", "solution": "2", "data_source": "math_dapo"}],
    "deepscaler": [{"problem": "What is $1+1$?", "answer": "2", "solution": ""}],
    "aime25": [{"problem": "What is $1+1$?", "answer": "2", "id": "0"}],
    "hmmt25": [{"problem_idx": 1, "problem": "What is $1+1$?", "answer": "2", "problem_type": ["Algebra"]}],
}  # fmt: skip


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the hub has, by name; what was asked for is in ``asked``."""
    import datasets

    hub: dict[str, Any] = {"asked": []}

    def load_dataset(name: str, configuration: str, *, split: str) -> datasets.Dataset:
        hub["asked"].append((name, configuration, split))
        return datasets.Dataset.from_list(hub[name])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return hub


def load(name: str, role: sources.Role, **keys: Any) -> list[Problem]:
    return sources.load(SourceSection(source=name, **keys), role=role, seed=1)


@pytest.mark.parametrize("name", ROWS)
def test_rows_become_problems(served: dict[str, Any], name: str) -> None:
    hub, _ = DATASETS[name].hub
    served[hub] = ROWS[name]
    for role, split in DATASETS[name].splits.items():
        [problem] = load(name, role)
        assert (problem.id, problem.question, problem.gold) == (f"{name}/1", "What is $1+1$?", "2")
        assert served["asked"][-1] == (*DATASETS[name].hub, split)


def test_countdown_has_a_rule_for_its_answer_and_apart_splits(served: dict[str, Any]) -> None:
    served["Jiayi-Pan/Countdown-Tasks-3to4"] = [{"target": 98, "nums": [44, 19, 35]}]
    for role in ("train", "test"):
        [problem] = load("countdown", role)
        assert "each of the numbers 44, 19, 35 exactly once" in problem.question
        assert problem.gold == 'verify:countdown {"numbers":[44,19,35],"target":98}'
        assert is_correct(problem.gold, "\\boxed{(44 + 35) + 19}")
        assert not is_correct(problem.gold, "\\boxed{98}")
    assert [split for *_, split in served["asked"]] == ["train[:327680]", "train[327680:328704]"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"target": 98}, "row 1 has no column 'question'; it has: target"),
        ({"target": 98, "nums": []}, "needs 'numbers', a list of 1 to 20 positive whole numbers"),
        ({"target": 98, "nums": [0, 1]}, "needs 'numbers'"),
        ({"target": None, "nums": [1, 2]}, "needs 'target', a whole number"),
    ],
)
def test_a_data_set_of_malformed_rows_names_the_first(
    served: dict[str, Any], row: dict[str, Any], message: str
) -> None:
    served["Jiayi-Pan/Countdown-Tasks-3to4"] = [row, row]
    with pytest.raises(DataError) as caught:
        load("countdown", "train")
    assert str(caught.value).startswith("countdown: row 1")
    assert message in str(caught.value)


def test_malformed_rows_that_no_user_could_fix_are_left_out_and_counted(
    served: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    good = {"problem": "What is 1+1?", "answer": "2", "solution": ""}
    served["agentica-org/DeepScaleR-Preview-Dataset"] = [good, good | {"answer": " "}, good | {"answer": "\\frac{1}{"}]
    with caplog.at_level(logging.WARNING):
        assert [each.id for each in load("deepscaler", "train")] == ["deepscaler/1"]
    assert "2 of 3 rows are left out, the first: deepscaler: row 2" in caplog.text


def test_other_columns_can_be_named(served: dict[str, Any]) -> None:
    served["agentica-org/DeepScaleR-Preview-Dataset"] = [{"problem": "no", "answer": "no", "q": "1+1?", "a": "2"}]
    [problem] = load("deepscaler", "train", question_column="q", answer_column="a")
    assert (problem.question, problem.gold) == ("1+1?", "2")


@pytest.mark.parametrize(
    ("name", "role", "message"),
    [
        ("aime25", "train", "aime25: is for the final evaluation only; here take gsm8k, math, dapo17k, deepscaler"),
        ("deepscaler", "test", "deepscaler: is trained on only; here take gsm8k, countdown, math500, aime24, aime25"),
    ],
)
def test_a_role_that_a_data_set_may_not_play_is_refused_with_those_that_may(
    name: str, role: sources.Role, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        load(name, role)


RULE = 'verify:countdown {"numbers":[3,8,8,3],"target":24}'


@pytest.mark.parametrize(
    ("answer", "correct", "reason"),
    [
        ("3 * 8 * (8 - 3) ", False, "does not reach the target"),
        ("(8-3)*8-3", False, "does not reach the target"),
        ("3\\cdot 8 \\div (3 \\div (8-5))", False, "does not use each"),
        ("24", False, "does not use each"),
        ("3!+8+8+3", False, "is not one of the numbers"),
        ("3^{8}", False, "is not one of the numbers"),
        ("\\sqrt{8}", False, "is not one of the numbers"),
        ("x", False, "is not one of the numbers"),
        ("__import__('os').system('true')", False, "no expression"),
        ("8/0", False, "does not use each"),
        ("8/(3-3)+8", False, "does not reach the target"),
        ("3*8*(3-8)=24", False, "does not reach the target"),
        ("8*3=25", False, "what stands after = is not the target"),
        ("(" * 300 + "8" + ")" * 300, False, "no expression"),
    ],
)
def test_a_wrong_expression_is_told_why(answer: str, correct: bool, reason: str) -> None:
    found = ruling(RULE, f"\\boxed{{{answer}}}")
    assert found.correct is correct
    assert reason in found.rule


@pytest.mark.parametrize(
    "answer",
    [
        "3*8*(8-7)",
        "(8-7)*8*3",
        "\\frac{3\\cdot 8}{8-7}",
        "3 \\times 8 \\div (8 - 7)",
        "\\text{3*8/(8-7)}",
        "-(7-8)*8*3=24",
    ],
)
def test_any_expression_that_keeps_the_rules_is_right(answer: str) -> None:
    assert is_correct('verify:countdown {"numbers":[3,8,8,7],"target":24}', f"\\boxed{{{answer}}}")


def test_a_file_of_ones_own_may_have_rules(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    row = '{"question": "Make 98.", "answer": "verify:countdown {\\"numbers\\":[44,19,35],\\"target\\":98}"}\n'
    path.write_text(row + row.replace("verify:countdown", "verify:nobody"))
    with pytest.raises(
        DataError, match=r"row 2: the final answer is no rule: there is no verifier 'nobody'; known: count"
    ):
        load(str(path), "train")
    path.write_text(row)
    [problem] = load(str(path), "train")
    assert is_correct(problem.gold, "\\boxed{44+19+35}")


def test_the_tiny_model_is_trained_and_measured_on_countdown(
    served: dict[str, Any], tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path
) -> None:
    """It solves none: what counts is that each reply has a verdict by the rule."""
    rows = [{"target": 10 + number, "nums": [number, 7, 3]} for number in range(1, 9)]
    served["Jiayi-Pan/Countdown-Tasks-3to4"] = rows
    recipe = tiny_recipe(
        'data.train="countdown"', "data.num_problems=4", "rollout.max_prompt_tokens=200", "model.max_seq_length=512",
        "rollout.num_openings=2", "rollout.num_futures=1", "training.max_steps=1",
    )  # fmt: skip
    training = Training(recipe, tiny_folder, tmp_path / "run")
    assert training.train()
    [metrics] = training.run.metrics()
    assert (metrics.grader_failures, metrics.grader_losses) == (0, 0)
    assert {line.gold.partition(" ")[0] for line in training.run.rollouts()} == {"verify:countdown"}
    assert {line.problem for line in training.run.rollouts()} <= {f"countdown/{number}" for number in range(1, 9)}
