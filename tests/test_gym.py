"""Tasks of reasoning_gym: made by the package, judged by its verifiers in a process apart, trained on by level."""

import ast
import logging
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from motif_lite.errors import DataError, MissingHardwareError, MotifError
from motif_lite.grading import answers, gym, rule_golds
from motif_lite.grading.answers import is_beyond_judging, is_correct, ruling
from motif_lite.jobs import problems as all_problems
from motif_lite.nouns import Problem
from motif_lite.recipe.data import DataSection, SourceSection
from motif_lite.recipe.schema import Recipe
from motif_lite.runs import inputs
from motif_lite.tasks import sources
from motif_lite.tasks.sources import gym as gym_source
from motif_lite.tasks.sources import table
from tests.fakes import RecordingObserver
from tests.test_training import MakeRecipe, Training

needs_gym = pytest.mark.skipif(find_spec("reasoning_gym") is None, reason="needs the package of requirements-gym.txt")


def load(task: str, number: int = 5, *, role: sources.Role = "train", seed: int = 1, **named: Any) -> list[Problem]:
    source = SourceSection(source=f"reasoning_gym:{task}", num_problems=number, options=named.pop("options", None))
    return sources.load(source, role=role, seed=seed, **named)


def answer_of(problem: Problem) -> str:
    rule = rule_golds.rule_of(problem.gold)
    assert rule is not None
    return str(rule.facts["answer"])


def boxed(text: str) -> str:
    return f"so it is \\boxed{{{text}}}"


# ------------------------------------------------------------------------------------------------------------ problems


@needs_gym
def test_the_same_seed_role_and_options_give_the_same_problems_and_any_other_give_others() -> None:
    one = load("chain_sum", 20)
    assert one == load("chain_sum", 20)
    assert len({each.id for each in one}) == len({each.question for each in one}) == 20
    others = [load("chain_sum", 20, seed=2), load("chain_sum", 20, role="test")]
    questions = {each.question for each in one}
    assert not any(questions & {each.question for each in other} for other in others)
    harder = load("chain_sum", 20, options={"max_digits": 5})
    assert inputs.of_problems(harder) != inputs.of_problems(one), "options are part of what a run stands on"


@needs_gym
def test_options_decide_how_hard_problems_are() -> None:
    for each in load("chain_sum", 10, options={"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}):
        assert sum(char.isdigit() for char in each.question) == 2


@needs_gym
def test_what_is_measured_is_not_trained_on_and_no_question_comes_twice(caplog: pytest.LogCaptureFixture) -> None:
    """There are few sums of two digits, so training and test would share some."""
    few = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}
    test = load("chain_sum", 40, role="test", options=few)
    train = load("chain_sum", 40, options=few, held_out={"evaluation.benchmarks.gym": test})
    assert len({each.question for each in train} | {each.question for each in test}) == 80
    with caplog.at_level(logging.WARNING):
        all_there_are = load("chain_sum", 400, options=few)
    assert 100 < len(all_there_are) < 400
    assert f"has {len(all_there_are)} problems that differ and are not measured, fewer than 400" in caplog.text
    with pytest.raises(
        DataError, match="no problem for test is left that is not measured; set options that allow more"
    ):
        load("chain_sum", 4, role="test", options=few, held_out={"evaluation.validation": all_there_are})


@needs_gym
def test_validation_and_a_benchmark_of_one_task_have_no_problem_in_common(tiny_recipe: MakeRecipe) -> None:
    """There are about a hundred sums of two digits: two draws of forty share some, whatever the seed."""
    few = "options={min_terms=2, max_terms=2, min_digits=1, max_digits=1}"
    recipe = gym_recipe(
        tiny_recipe,
        f'evaluation.validation={{source="reasoning_gym:chain_sum", num_problems=40, {few}}}',
        f'evaluation.benchmarks.gym={{source="reasoning_gym:chain_sum", num_problems=40, {few}}}',
    )
    found = all_problems.read(recipe, RecordingObserver(), trains=True)
    measured = [*found.held_out, *found.benchmarks["gym"]]
    assert len({each.question for each in measured}) == 80
    assert not {each.question for each in measured} & {each.question for each in found.train}


@needs_gym
def test_problems_do_not_hang_on_the_order_of_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    gym_source.MAKER.close()
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    one = load("isomorphic_strings")
    gym_source.MAKER.close()
    monkeypatch.setenv("PYTHONHASHSEED", "2")
    assert load("isomorphic_strings") == one


@needs_gym
@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("chain_sun", {}, "there is no task 'chain_sun'; near: chain_sum"),
        ("zzzzzzzz", {}, "there is no task 'zzzzzzzz'; known: ab, advanced_geometry"),
        ("", {}, "there is no task ''; known: ab"),
        ("composite", {}, "there is no task 'composite' (it is made of other tasks; name one of them)"),
        ("acre", {}, "its problems depend on how many are made"),
        ("coin_flip", {}, "its verifier takes 0 for right where the answer begins with 0"),
        ("number_format", {}, "less than 0.01 off"),
        ("propositional_logic", {}, "P or Q for one of most problems"),
        ("puzzle24", {}, "its verifier does not look at the numbers"),
        ("chain_sum", {"min_term": 2}, "no option 'min_term' (did you mean 'min_terms'?); known: allow_negation"),
        ("chain_sum", {"seed": 2}, "there is no option 'seed' (the recipe's seed is taken)"),
        ("chain_sum", {"size": 2}, "there is no option 'size' (set num_problems)"),
        ("chain_sum", {"min_terms": -2}, "refuses these options (AssertionError: min_terms must be positive)"),
        ("chain_sum", {"min_terms": "two"}, "refuses these options (TypeError"),
    ],
)  # fmt: skip
def test_an_unknown_task_or_option_is_refused_with_those_that_are_known(
    task: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError) as caught:
        sources.check(SourceSection(source=f"reasoning_gym:{task}", options=options), role="train")
    assert str(caught.value).startswith(f"reasoning_gym:{task}: ")
    assert message in str(caught.value)


@needs_gym
@pytest.mark.parametrize(
    ("keys", "message"),
    [({"answer_column": "a"}, "has no columns"), ({"twins": "instead"}, "have no twins")],
)
def test_keys_that_make_no_sense_for_it_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        sources.check(SourceSection(source="reasoning_gym:chain_sum", **keys), role="test")


@pytest.mark.parametrize("source", ["chain_sum", "gsm8k", __file__])
def test_options_and_a_curriculum_are_for_nothing_else(source: str) -> None:
    with pytest.raises(DataError, match="options is for reasoning_gym:NAME only"):
        sources.check(SourceSection(source=source, options={"min_terms": 2}), role="train")
    with pytest.raises(DataError, match=r"data\.curriculum is for reasoning_gym:NAME only"):
        sources.check(SourceSection(source=source), role="train", by_level=True)


def test_a_package_that_is_not_there_is_named_with_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gym_source, "find_spec", lambda name: None)
    with pytest.raises(MissingHardwareError, match=r"reasoning_gym is not installed; .* requirements-gym\.txt"):
        sources.check(SourceSection(source="reasoning_gym:chain_sum"), role="train")


@needs_gym
def test_a_package_that_cannot_be_imported_is_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    gym_source.MAKER.close()
    monkeypatch.setattr(gym, "__file__", str(Path(__file__).with_name("no_such_file.py")))
    with pytest.raises(DataError, match="the process that makes its problems has ended"):
        sources.check(SourceSection(source="reasoning_gym:chain_sum"), role="train")


# ------------------------------------------------------------------------------------------------------------ verdicts


@pytest.fixture(scope="module")
def of_all_tasks() -> list[Problem]:
    """A problem of each task that is offered, made by one process."""
    [about] = gym_source.MAKER._asked("", {"task": "", "options": {}, "by_level": False}, 1)
    found = []
    for task in about["tasks"]:
        [(index, question, answer)] = gym_source.MAKER.made(f"reasoning_gym:{task}", {}, 5, 1)
        facts = {"task": task, "options": {}, "seed": 5, "index": index, "answer": answer}
        found.append(Problem(task, question, rule_golds.written("reasoning_gym", facts)))
    return found


@needs_gym
def test_every_task_finds_its_own_answer_right_and_another_wrong(of_all_tasks: list[Problem]) -> None:
    assert len(of_all_tasks) == 99
    with_answer = [each for each in of_all_tasks if answer_of(each)]
    assert {each.id for each in of_all_tasks} - {each.id for each in with_answer} == gym.MANY_ARE_RIGHT
    answers.grade((each.gold, boxed(text)) for each in of_all_tasks for text in (answer_of(each), "no such answer"))
    wrong = [each.id for each in with_answer if not is_correct(each.gold, boxed(answer_of(each)))]
    assert wrong == ["codeio", "intermediate_integration"], "braces that are not balanced; an integral left undone"
    assert "}[}" in answer_of(next(each for each in with_answer if each.id == "codeio"))
    assert [each.id for each in of_all_tasks if is_correct(each.gold, boxed("no such answer"))] == []


@needs_gym
def test_an_integral_that_the_package_left_undone_can_be_found(of_all_tasks: list[Problem]) -> None:
    [problem] = [each for each in of_all_tasks if each.id == "intermediate_integration"]
    assert answer_of(problem) == "3*Integral(x**3*cos(3*x), x) + C"
    assert is_correct(problem.gold, boxed("x**3*sin(3*x) + x**2*cos(3*x) - 2*x*sin(3*x)/3 - 2*cos(3*x)/9 + C"))


@needs_gym
def test_no_problem_is_made_whose_answer_fits_no_box() -> None:
    assert all(is_correct(each.gold, boxed(answer_of(each))) for each in load("codeio", 5))


@needs_gym
def test_only_the_last_box_counts_and_a_font_around_it_does_not() -> None:
    [problem] = load("chain_sum", 1)
    right = answer_of(problem)
    assert is_correct(problem.gold, boxed(f"\\text{{{right}}}"))
    assert not is_correct(problem.gold, f"it is {right}")
    assert not is_correct(problem.gold, boxed(right) + boxed("no"))
    assert ruling(problem.gold, boxed(right)).rule == "right by reasoning_gym's verifier for chain_sum"


CONSTANTS = ("0", "nan", "[]")


@needs_gym
def test_no_constant_is_right_where_it_is_not_the_answer(of_all_tasks: list[Problem]) -> None:
    """GRPO finds one that is: several verifiers of the package take some."""
    tried = {each.id: [*CONSTANTS, re.sub(r"-?[0-9]+(\.[0-9]+)?", "nan", answer_of(each))] for each in of_all_tasks}
    pairs = [(each, text) for each in of_all_tasks for text in tried[each.id] if text != answer_of(each)]
    answers.grade((each.gold, boxed(text)) for each, text in pairs)
    assert [(each.id, text) for each, text in pairs if is_correct(each.gold, boxed(text))] == []


@needs_gym
@pytest.mark.parametrize(
    ("task", "wrong"),
    [
        ("complex_arithmetic", "nan+nani"), ("word_sorting", "{gold}, more"), ("letter_jumble", "{gold} more"),
        ("polynomial_equations", "{gold}, more"), ("gsm_symbolic", "-{gold}"), ("gsm_symbolic", "{gold} or 7"),
    ],
)  # fmt: skip
def test_what_a_verifier_takes_for_right_that_is_wrong_does_not_get_to_it(
    task: str, wrong: str, of_all_tasks: list[Problem]
) -> None:
    [problem] = [each for each in of_all_tasks if each.id == task]
    assert is_correct(problem.gold, boxed(answer_of(problem)))
    assert not is_correct(problem.gold, boxed(wrong.format(gold=answer_of(problem))))


@needs_gym
@pytest.mark.parametrize("task", ["simple_integration", "intermediate_integration"])
def test_an_integral_is_not_found_by_writing_it_down_again(task: str, of_all_tasks: list[Problem]) -> None:
    [problem] = [each for each in of_all_tasks if each.id == task]
    integrand = problem.question.partition("∫ ")[2].partition(" dx")[0]
    variable = "X" if "X" in integrand else "x"
    assert variable in integrand
    for wrong in (f"Integral({integrand}, {variable})", f"Integral({integrand}, {variable}) + C", f"O({variable}**9)"):
        assert not is_correct(problem.gold, boxed(wrong)), wrong


HOSTILE = [
    "__import__('pathlib').Path('{file}').touch()", "open('{file}','w')", "exec('open(\"{file}\",\"w\")')",
    "(lambda: open('{file}', 'w'))()", "[open('{file}','w') for x in (1,)]", "x.__class__", "Symbol('x').func",
    "getattr(x, 'y')", "S('1').__class__", "f'{{open(\"{file}\",\"w\")}}'",
]  # fmt: skip


@needs_gym
@pytest.mark.parametrize("hostile", HOSTILE)
def test_an_answer_that_is_code_is_not_run(of_all_tasks: list[Problem], hostile: str, tmp_path: Path) -> None:
    file = tmp_path / "written"
    answer = hostile.format(file=file)
    verdicts = [is_correct(each.gold, boxed(answer)) for each in of_all_tasks if each.id in gym.FORMS]
    assert verdicts == [False] * len(gym.FORMS)
    assert not file.exists()


@needs_gym
def test_an_answer_that_takes_too_long_has_no_verdict_and_does_no_harm(of_all_tasks: list[Problem]) -> None:
    problems = {each.id: each for each in of_all_tasks}
    assert is_beyond_judging(problems["countdown"].gold, boxed("9**9**9**9"))
    countdown = problems["countdown"]
    assert is_correct(countdown.gold, boxed(answer_of(countdown)))


@needs_gym
def test_every_verifier_that_evaluates_answers_has_a_form_for_them() -> None:
    """By the source of the pinned version: a new version may evaluate more."""
    spec = find_spec("reasoning_gym")
    assert spec is not None and spec.origin is not None
    evaluating = set()
    for path in Path(spec.origin).parent.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {
            node.targets[0].id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, ast.Constant)
        }
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            calls = {
                ast.unparse(node.func).rpartition(".")[2] for node in ast.walk(function) if isinstance(node, ast.Call)
            }
            if function.name == "score_answer" and calls & {"eval", "exec", "parse_expr", "sympify", "parse_latex"}:
                evaluating.add(names["DATASET_NAME"])
    own_answer_only = {"number_sorting"}
    assert evaluating - own_answer_only - set(gym.NOT_OFFERED) == set(gym.FORMS)


def test_a_rule_that_is_none_is_never_right() -> None:
    for gold in ("verify:nobody {}", "verify:countdown", "verify:countdown []", 'verify:reasoning_gym {"task":"ab"}'):
        assert ruling(gold, boxed("1")).correct is False
        assert "the gold answer is no rule" in ruling(gold, boxed("1")).rule


# ---------------------------------------------------------------------------------------------------------- curriculum


def tables_of(task: str) -> list[dict[str, Any]]:
    source = SourceSection(source=f"reasoning_gym:{task}", num_problems=22)
    problems = sources.load(source, role="train", seed=1, by_level=True)
    found: dict[int, dict[str, Any]] = {}
    for each in problems:
        rule = rule_golds.rule_of(each.gold)
        assert rule is not None
        assert found.setdefault(each.level, rule.facts["options"]) == rule.facts["options"]
    return list(found.values())


@needs_gym
def test_a_curriculum_has_the_packages_levels_from_the_easiest() -> None:
    levels = tables_of("chain_sum")
    assert len(levels) == 11
    assert [level["max_terms"] for level in levels] == sorted(level["max_terms"] for level in levels)
    assert levels[0]["max_terms"] < levels[-1]["max_terms"]


@needs_gym
@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("gsm_symbolic", {}, "the package has no curriculum for it; leave out data.curriculum, or take one of: ab"),
        ("chain_sum", {"max_terms": 9}, "max_terms: the curriculum sets it; leave it out of options"),
        ("knight_swap", {}, "refuses these options (AssertionError"),
    ],
)
def test_a_curriculum_that_cannot_be_is_refused(task: str, options: dict[str, Any], message: str) -> None:
    source = SourceSection(source=f"reasoning_gym:{task}", options=options)
    with pytest.raises(MotifError) as caught:
        sources.check(source, role="train", by_level=True)
    assert message in str(caught.value)


def test_each_step_has_the_level_of_its_number_whatever_the_epoch() -> None:
    from motif_lite.training.curriculum import plan_of
    from motif_lite.training.order import CurriculumSampler

    plan = plan_of(DataSection(train="reasoning_gym:x", curriculum=4), list)
    assert plan is not None
    levels = [0] * 6 + [1] * 5 + [3] * 4

    def steps_of(epoch: int) -> list[list[int]]:
        sampler = CurriculumSampler(list(levels), 2, 2, 1, seed=7, levels=levels, plan=plan)
        sampler.set_epoch(epoch)
        rows = list(sampler)
        assert len(rows) == len(sampler)
        assert rows[::2] == rows[1::2], "each row twice"
        return [rows[start : start + 4 : 2] for start in range(0, len(rows), 4)]

    steps = steps_of(0) + steps_of(1)
    assert [{levels[row] for row in step} for step in steps] == [{0}] * 4 + [{1}] * 4 + [{3}] * 6
    assert all(len(set(step)) == 2 for step in steps)
    assert sorted(row for step in steps[:3] for row in step) == list(range(6)), "all of a level before one comes again"
    assert steps_of(1) == steps[7:], "an epoch does not need those before it"


@needs_gym
def test_a_run_with_a_curriculum_resumed_equals_one_that_was_not(
    tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path
) -> None:
    recipe = gym_recipe(tiny_recipe, "training.max_steps=3", "data.curriculum=1", "data.num_problems=33")
    whole = CurriculumTraining(recipe, tiny_folder, tmp_path / "whole")
    assert whole.train()
    levels = [{line.problem.split("/")[3] for line in whole.run.rollouts() if line.step == step} for step in (1, 2, 3)]
    assert levels == [{"level-0"}, {"level-1"}, {"level-2"}]
    whole.require_same_when_resumed(tmp_path / "resumed", 2)


class CurriculumTraining(Training):
    def __init__(self, recipe: Recipe, folder: Path, out: Path) -> None:
        super().__init__(recipe, folder, out)
        self.problems = sources.load(recipe.data.as_source(), role="train", seed=recipe.seed, by_level=True)


def gym_recipe(tiny_recipe: MakeRecipe, *changes: str) -> Recipe:
    return tiny_recipe(
        'data.train="reasoning_gym:chain_sum"', "rollout.max_prompt_tokens=200", "model.max_seq_length=512",
        "rollout.num_openings=2", "rollout.num_futures=1", *changes,
    )  # fmt: skip


@needs_gym
def test_a_curriculum_is_not_selected_from(tiny_recipe: MakeRecipe) -> None:
    with pytest.raises(MotifError, match=r"data\.curriculum takes the problems of each level"):
        tiny_recipe("data.curriculum=1", "data.select.num_samples=2")


def test_the_kinds_of_sources_are_asked_in_order() -> None:
    names = {"reasoning_gym:x": "Gym", "gsm8k": "HubDatasets", "chain_sum": "ChainSums", "a.py:b": "OwnFunctions",
             "a.jsonl": "DataFiles", "reasoning_gymnastics.csv": "DataFiles"}  # fmt: skip
    assert {name: type(table.kind_of(name)).__name__ for name in names} == names
