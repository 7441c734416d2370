"""The probe of memorisation: what is shown, what counts as the rest, and what a model gives away that has seen it."""

from pathlib import Path

import pytest

from motif_lite.context import RunContext
from motif_lite.errors import RecipeError
from motif_lite.evaluation import memorisation
from motif_lite.jobs import checking, train_job
from motif_lite.nouns import Problem, Sampling
from motif_lite.planning import planner, projection, shapes
from motif_lite.planning.machine import Machine
from motif_lite.planning.projection import Evaluated
from motif_lite.planning.rows import Lengths
from motif_lite.recipe.data import SourceSection
from motif_lite.recipe.keys import changed
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.files import each_record
from tests.fakes import RecordingObserver, ScriptedPolicy

TINY = Path(__file__).parents[1] / "recipes" / "tiny_cpu.toml"
RECIPE = checking.check(TINY, ["evaluation.memorisation=0.6", "rollout.max_width=8"])
NAMED = changed(RECIPE, {"evaluation.benchmarks": {"mine": SourceSection(source="mine.jsonl")}})
PROBLEMS = [
    Problem("mine/1", "Ann has two apples and buys three  more apples. How many has she?", "5"),
    Problem("mine/2", "Bob has ten coins and gives away nine of his coins. How many are left?", "1"),
]


@pytest.mark.parametrize(
    ("question", "shown", "rest"),
    [
        ("one two three four five", "one two three", "four five"),
        ("one two\nthree  four five six", "one two\nthree  four", "five six"),
        ("a0b4c5d3e9=", "a0b4c5d", "3e9="),
        ("ab", "a", "b"),
    ],
)
def test_a_question_is_divided_between_words_or_in_one_long_word(question: str, shown: str, rest: str) -> None:
    assert memorisation.divided(question, 0.6) == (shown, rest)


@pytest.mark.parametrize(
    ("written", "rest", "expected"),
    [
        ("a b c d e", "a b c d e", 1.0),
        ("a c e x y", "a b c d e", 2 * 3 / 10),
        ("", "a b c d e", 0.0),
        ("a b", "a b c d e", 2 * 2 / 7),
        ("abd", "abc", 2 * 2 / 6),
    ],
)
def test_rouge_l_is_the_f_measure_of_the_longest_common_subsequence(written: str, rest: str, expected: float) -> None:
    assert memorisation.rouge_l(written, rest, rest) == pytest.approx(expected)


def context_of(policy: ScriptedPolicy, root: Path, **changes: object) -> RunContext:
    root.mkdir(exist_ok=True)
    recipe = changed(NAMED, {key.replace("__", "."): value for key, value in changes.items()})
    return RunContext(recipe=recipe, policy=policy, run=RunDirectory(root), observer=RecordingObserver())


def knows_all(prompt: str, sampling: Sampling) -> str:
    """Goes on with the first question as it stands there, spacing aside, and answers it from its beginning."""
    assert sampling.temperature == 0
    first = PROBLEMS[0].question
    begun = memorisation.divided(first, 0.6)[0]
    if prompt == begun:
        return " " + " ".join(first[len(begun) :].split()) + " She has 5. Next question"
    return "<answer>\n\\boxed{5}\n</answer>" if begun in prompt else "What is it?"


def test_a_model_that_has_seen_a_question_gives_it_away(tmp_path: Path) -> None:
    policy = ScriptedPolicy(knows_all)
    context = context_of(policy, tmp_path / "run")
    memorisation.probe(context, {"mine": PROBLEMS})
    [found] = memorisation.kept_of(RECIPE, context.run)
    assert (found.num_problems, found.exact, found.rouge_l, found.correct) == (2, 0.5, 0.5, 0.5)
    assert not any(
        problem.question in prompt for call in policy.calls for prompt in call.prompts for problem in PROBLEMS
    )
    text = memorisation.in_words(found, 0.6)
    assert "from the first 60 % of 2 questions" in text
    assert "word for word" in text


def test_a_rest_of_few_words_is_compared_by_words_where_the_question_has_more(tmp_path: Path) -> None:
    """By characters, as much of 365 as the rest has would be 36."""
    problem = Problem("mine/3", "Ann has 12 apples, Bob 36", "48")
    policy = ScriptedPolicy(lambda prompt, sampling: " Bob 365" if prompt.endswith("apples,") else "48")
    context = context_of(policy, tmp_path / "run")
    memorisation.probe(context, {"mine": [problem]})
    [kept] = each_record(context.run.root / memorisation.FILE, memorisation.Completion)
    assert (kept.shown, kept.rest, kept.written) == ("Ann has 12 apples,", "Bob 36", "Bob 365")
    assert (kept.exact, kept.rouge_l) == (False, 0.5)


def test_a_text_starts_as_the_model_was_trained_on_it(tmp_path: Path) -> None:
    policy = ScriptedPolicy(lambda prompt, sampling: "more")
    policy.text_start = "<s>"
    memorisation.probe(context_of(policy, tmp_path / "run"), {"mine": PROBLEMS})
    assert policy.calls[0].prompts == tuple("<s>" + memorisation.divided(each.question, 0.6)[0] for each in PROBLEMS)
    assert not any("<s>" in prompt for call in policy.calls[1:] for prompt in call.prompts)


def test_what_was_measured_is_not_measured_again_unless_the_problems_are_others(tmp_path: Path) -> None:
    policy = ScriptedPolicy(knows_all)
    context = context_of(policy, tmp_path / "run")
    memorisation.probe(context, {"mine": PROBLEMS})
    number = len(policy.calls)
    memorisation.probe(context, {"mine": PROBLEMS})
    assert len(policy.calls) == number
    memorisation.probe(context, {"mine": PROBLEMS[:1]})
    assert len(policy.calls) > number
    assert memorisation.kept_of(RECIPE, context.run)[0].num_problems == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"rollout__strategy": "single_round"},
        {"rollout__system_prompt": "Guess."},
        {"rollout__num_rounds": 2},
        {"rollout__futures__max_tokens": 7},
    ],
)
def test_what_was_asked_in_another_way_is_asked_again(changes: dict[str, object], tmp_path: Path) -> None:
    policy = ScriptedPolicy(knows_all)
    memorisation.probe(context_of(policy, tmp_path / "run"), {"mine": PROBLEMS})
    number = len(policy.calls)
    context = context_of(policy, tmp_path / "run", **changes)
    for _ in range(2):
        memorisation.probe(context, {"mine": PROBLEMS})
    again = 1 + context.recipe.rollout.num_rounds if context.recipe.rollout.strategy == "multi_round" else 2
    assert len(policy.calls) - number == again, "once: the rest of the questions, then the rounds of the answers"
    assert isinstance(context.observer, RecordingObserver)
    assert sum("all of it is measured again" in note for note in context.observer.notes) == 1


def test_the_plan_counts_the_probe() -> None:
    """Problems of the benchmark, the rounds of the answer and one for the rest of the question, once."""
    number = checking.expected_problems(RECIPE)
    without = changed(RECIPE, {"evaluation.memorisation": None})
    [probe] = set(checking.evaluated(RECIPE, number)) - set(checking.evaluated(without, number))
    assert probe == Evaluated("chain_sum, probe of memorisation", 400, 4, 1)
    plan = planner.make(RECIPE, shapes.TINY, Machine("cpu", 8.0, "a test's"))
    seconds = projection.planned(plan, [probe], Lengths.worst(RECIPE)).evaluation
    assert seconds[probe.label] > 0


def test_no_recipe_no_probe(tmp_path: Path) -> None:
    policy = ScriptedPolicy(knows_all)
    context = context_of(policy, tmp_path / "run")
    context = RunContext(changed(RECIPE, {"evaluation.memorisation": None}), policy, context.run, context.observer)
    memorisation.probe(context, {"mine": PROBLEMS})
    assert not policy.calls
    assert memorisation.kept_of(RECIPE, context.run) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["evaluation.memorisation=1.0"], "evaluation.memorisation: "),
        (["evaluation.memorisation=0.6", "evaluation.before=false"], "evaluation.before is off; set it to true"),
        (
            ["evaluation.memorisation=0.6", "model.backend='server'", "model.url='http://localhost:1/v1'"],
            "a server is asked in chats",
        ),
    ],
)
def test_a_recipe_that_cannot_be_probed_is_refused(changes: list[str], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        checking.check(TINY, changes)
    assert message in str(caught.value)


def test_the_tiny_model_has_seen_nothing(tiny_folder: Path, tmp_path: Path) -> None:
    """It cannot know digits that were not shown: a rest of nine random ones, an answer out of ten."""
    changes = [
        "evaluation.memorisation=0.6", "evaluation.greedy=true", "evaluation.num_samples=0",
        'evaluation.strategies=["single_round"]', "evaluation.benchmarks.chain_sum.num_problems=40",
    ]  # fmt: skip
    observer = RecordingObserver()
    train_job.job(TINY, changes, tmp_path / "run", evaluate_only=True).perform(observer)
    run = RunDirectory(tmp_path / "run")
    [found] = memorisation.kept_of(checking.check(TINY, changes), run)
    assert (found.benchmark, found.num_problems, found.exact) == ("chain_sum", 40, 0.0)
    assert found.correct < 0.5
    assert any("memorisation, chain_sum: from the first 60 % of 40 questions" in note for note in observer.notes)
