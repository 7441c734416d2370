"""Rewards, data sets and strategies from a file of the user's own."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from motif_lite.credits.table import credit_of
from motif_lite.errors import CodeError, DataError, MotifError, RecipeError, RunError, TrainingError
from motif_lite.jobs import checking, train_job
from motif_lite.jobs.problems import Problems
from motif_lite.nouns import Opening, Problem, Reply, Sampling, Trajectory, Turn
from motif_lite.recipe import idle_keys, own_files
from motif_lite.recipe.data import SourceSection
from motif_lite.recipe.schema import Recipe
from motif_lite.recipe.toml import apply_override
from motif_lite.rollout.rewards import earned, try_out
from motif_lite.rollout.strategies import MultiRound, strategy_of
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.folders import require_free
from motif_lite.tasks import sources
from motif_lite.tasks.sources import own_functions
from tests.fakes import RecordingObserver, ScriptedPolicy
from tests.faults.nursery import Nursery
from tests.test_training import Training

MakeRecipe = Callable[..., Recipe]

ROOT = Path(__file__).parents[1]
BASE = '[model]\nname = "some/model"\nbackend = "transformers"\n[data]\ntrain = "chain_sum"\n'
CODE = """\
def brevity(opening):
    return -opening.turn.reply.num_tokens


def rows(role, seed):
    yield {"question": f"{role} {seed}", "answer": "1"}
    yield {"question": "2 + 2", "answer": 4}
"""


def write(folder: Path, **files: str) -> None:
    """``a=...`` is a recipe ``a.toml``, ``a_py=...`` a file ``a.py``."""
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        name = f"{name[:-3]}.py" if name.endswith("_py") else f"{name}.toml"
        (folder / name).write_text(text)


def checked(folder: Path, code: str, *changes: str) -> Recipe:
    write(folder, recipe=BASE, own_py=code)
    return checking.check(folder / "recipe.toml", changes)


def refusal(folder: Path, code: str, *changes: str) -> str:
    with pytest.raises(MotifError) as caught:
        checked(folder, code, *changes)
    return str(caught.value)


def opening(text: str, num_tokens: int) -> Opening:
    problem, turn = Problem("p", "1 + 1", "2"), Turn("", Reply(text, num_tokens, "stop"))
    return Opening(problem, turn, (Trajectory(problem, (turn,)),))


REWARD = 'rewards={"own.py:brevity"=1.0}'
TRAIN = 'data.train="own.py:rows"'


# --------------------------------------------------------------------------------------------- where files lie


def test_a_file_is_relative_to_the_recipe_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "base", base=BASE + '[rewards]\n"own.py:brevity" = 1.0\n', own_py=CODE)
    child = 'extends = "../base/base.toml"\n[data]\ntrain = "data.py:rows"\n[rewards]\n"own.py:brevity" = 2.0\n'
    write(tmp_path / "mine", mine=child, data_py=CODE)
    monkeypatch.chdir(tmp_path)
    recipe = checking.check(Path("mine/mine.toml"), [])
    assert recipe.rewards == {"own.py:brevity": 2.0}
    assert recipe.code == {"data.py": str(tmp_path / "mine/data.py"), "own.py": str(tmp_path / "base/own.py")}


def test_one_name_for_two_files_is_refused(tmp_path: Path) -> None:
    named = '[rewards]\n"own.py:brevity" = 1.0\n'
    write(tmp_path / "base", base=BASE + named, own_py=CODE)
    write(tmp_path / "mine", mine=f'extends = "../base/base.toml"\n{named}', own_py=CODE)
    with pytest.raises(RecipeError, match=r"own\.py is .*mine/own\.py here, and .*base/own\.py in the recipe"):
        checking.check(tmp_path / "mine/mine.toml", [])


def test_a_name_on_the_command_line_is_relative_to_the_current_folder_or_else_to_the_recipes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "mine", mine=BASE, own_py=CODE, both_py=CODE)
    write(tmp_path, both_py=CODE)
    monkeypatch.chdir(tmp_path)
    changes = ['rewards={"both.py:brevity"=1.0}', TRAIN]
    recipe = checking.check(Path("mine/mine.toml"), changes)
    assert recipe.code == {"both.py": str(tmp_path / "both.py"), "own.py": str(tmp_path / "mine/own.py")}


def test_what_the_recipe_has_found_is_not_looked_for_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "mine", mine=BASE + '[rewards]\n"own.py:brevity" = 1.0\n', own_py=CODE)
    write(tmp_path, own_py="raise ValueError")
    monkeypatch.chdir(tmp_path)
    recipe = checking.check(Path("mine/mine.toml"), ['rewards."own.py:brevity"=0.5'])
    assert (recipe.rewards, recipe.code) == ({"own.py:brevity": 0.5}, {"own.py": str(tmp_path / "mine/own.py")})


def test_only_files_that_are_used_are_kept(tmp_path: Path) -> None:
    write(tmp_path, mine=BASE.replace("chain_sum", "own.py:rows"), own_py=CODE)
    assert checking.check(tmp_path / "mine.toml", ['data.train="chain_sum"']).code == {}


def test_every_place_of_a_recipe_may_name_a_file(tmp_path: Path) -> None:
    recipe = checked(
        tmp_path, f"{CODE}\n{STRATEGY}", TRAIN, REWARD, 'rollout.strategy="own.py:mine"',
        'evaluation.strategies=["own.py:mine","single_round"]', 'evaluation.validation={source="own.py:rows"}',
        'evaluation.benchmarks.mine={source="own.py:rows"}',
    )  # fmt: skip
    assert own_files.names(recipe) == ["own.py:brevity", "own.py:rows", "own.py:mine"]
    assert own_files.files(recipe) == {"own.py": tmp_path / "own.py"}


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ('rewards."own.py:brevity"=0.5', {"rewards": {"own.py:brevity": 0.5}}),
        ("rewards . 'a b.py:f' = 1", {"rewards": {"a b.py:f": 1}}),
        ('"a.b".c."d"=[1]', {"a.b": {"c": {"d": [1]}}}),
    ],
)
def test_parts_in_quotes_are_read_as_toml_reads_them(override: str, expected: object) -> None:
    settings: dict[str, object] = {}
    apply_override(settings, override)
    assert settings == expected


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rewards.own.py:brevity=0.5", "needs quotes, e.g. --set 'rewards.\"my_rewards.py:brevity\"=0.5'"),
        ('rewards."own.py:brevity=0.5', "write key.path=value"),
        ('a."b"\nc=1', "write key.path=value"),
        ('rewards."own.py:brevity"=x', "is not a TOML value"),
    ],
)
def test_an_override_that_cannot_be_followed_is_refused(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(message)):
        apply_override({}, override)


# ------------------------------------------------------------------------------------------- mistakes in files


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x = 1\ndef brevity(:\n", "own.py: line 2: SyntaxError: invalid syntax; correct it"),
        ("\nimport no_such_one\n", "own.py: line 2: ModuleNotFoundError: No module named 'no_such_one'; install"),
        ("def f():\n    return {}['a']\nf()\n", "own.py: line 2: KeyError: 'a'; correct it"),
        ("import sys\nsys.exit(3)\n", "own.py: line 2: SystemExit: 3; correct it"),
        ("def length(opening): ...\nimport os\n", "own.py: has no 'brevity'; it defines: length"),
        ("brevity = 3\n", "own.py: brevity is a int; it must be a function or a class"),
        ("\n\ndef brevity(): ...\n", "own.py: line 3: must take brevity(opening) (too many positional arguments)"),
        ("def brevity(a, b): ...\n", "own.py: line 1: must take brevity(opening) (missing a required argument: 'b')"),
        ("\0", "own.py: "),
    ],
)  # fmt: skip
def test_a_mistake_in_a_file_is_named_by_its_line(tmp_path: Path, code: str, message: str) -> None:
    told = refusal(tmp_path, code, REWARD)
    assert told.startswith(str(tmp_path)) and message in told
    assert "\n" not in told


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    told = refusal(tmp_path, "", 'rewards={"gone.py:brevity"=1.0}')
    assert told == f"{tmp_path}/gone.py: there is no such file; its name is relative to the recipe that names it"


def test_a_name_that_is_neither_known_nor_a_file_is_told_how_to_write_one(tmp_path: Path) -> None:
    assert "and FILE.py:NAME for a reward of your own" in refusal(tmp_path, "", "rewards={brevity=1.0}")


def test_a_run_ends_with_one_message_and_no_traceback(tmp_path: Path) -> None:
    write(tmp_path, recipe=BASE, own_py="print('hello')\nimport nothing_of_the_kind\n")
    command = [sys.executable, "run.py", "--recipe", str(tmp_path / "recipe.toml"), "--check", "--set", REWARD]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "line 2: ModuleNotFoundError" in done.stderr.replace("\n", " ") and "Traceback" not in done.stderr


def test_a_check_with_own_code_prints_the_recipe_alone_and_imports_no_torch(tmp_path: Path) -> None:
    write(tmp_path, recipe=BASE, own_py=f"print('hello')\n{CODE}")
    probe = "import runpy, sys\ntry:\n    runpy.run_path('run.py', run_name='__main__')\n"
    probe += "except SystemExit as end:\n    sys.exit(end.code or ('torch' in sys.modules))\n"
    arguments = ["--recipe", str(tmp_path / "recipe.toml"), "--check", "--set", REWARD]
    command = [sys.executable, "-c", probe, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("seed = ") and f'"own.py" = "{tmp_path}/own.py"' in done.stdout
    assert not (tmp_path / "__pycache__").exists()


# ----------------------------------------------------------------------------------------------------- rewards


def test_a_reward_of_ones_own_is_earned(tmp_path: Path) -> None:
    recipe = checked(tmp_path, CODE, REWARD)
    assert earned(recipe, "own.py:brevity", opening("a", 7), where="", remedy="") == -7.0


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return {}['a']", "failed in step 3 (line 2: KeyError: 'a'); stop"),
        ("return len(opening)", "failed in step 3 (line 2: TypeError: object of type 'Opening' has no len()); stop"),
        ("return None", "failed in step 3 (TypeError: it gave None, which is not a number); stop"),
        ("return '1.0'", "failed in step 3 (TypeError: it gave '1.0', which is not a number); stop"),
        ("return float('nan')", "failed in step 3 (ValueError: it gave nan); stop"),
    ],
)
def test_a_reward_that_fails_is_named_with_its_line(tmp_path: Path, body: str, message: str) -> None:
    recipe = checked(tmp_path, f"def brevity(opening):\n    {body}\n", REWARD)
    with pytest.raises(TrainingError) as caught:
        earned(recipe, "own.py:brevity", opening("a", 7), where="in step 3", remedy="stop")
    assert str(caught.value) == f"reward own.py:brevity: {message}"


def test_a_reward_is_tried_before_a_model_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = "def brevity(opening):\n    return 1 / len(opening.turn.reply.text)\n"
    write(tmp_path, recipe=BASE, own_py=code)
    job = train_job.job(tmp_path / "recipe.toml", [REWARD], None)
    message = (
        r"own\.py:brevity: failed when tried on an empty reply to problem chain_sum/.* with 4 futures \(line 2: "
        r"ZeroDivisionError"
    )
    with pytest.raises(TrainingError, match=message):
        job.perform(RecordingObserver())
    assert not (tmp_path / "runs").exists()


SECOND = "def brevity(opening):\n    return len(opening.evidence[1].final.text)\n"
SAME = "rollout.futures={temperature=1.0, top_p=1.0}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([], None),
        (["rollout.num_futures=1"], "with one future (line 2: IndexError"),
        (
            ['training.credit="chain"', SAME],
            'with one future, as training.credit = "chain" asks about each by itself (',
        ),
        (['training.credit="tree"', SAME], 'with one future, as training.credit = "tree" asks about each by itself ('),
        (["rollout.early_finish=true"], "with one future, as rollout.early_finish ends a trajectory after round 1 ("),
        (['rollout.strategy="single_round"'], "with one future (line 2: IndexError"),
    ],
)
def test_a_reward_is_tried_with_as_many_futures_as_training_will_show_it(
    tmp_path: Path, changes: list[str], message: str | None
) -> None:
    recipe = checked(tmp_path, SECOND, REWARD, *changes)
    with nullcontext() if message is None else pytest.raises(TrainingError, match=re.escape(message)):
        try_out(recipe, Problem("p", "1 + 1", "2"))


# --------------------------------------------------------------------------------------------------- data sets


def rows_of(tmp_path: Path, code: str) -> list[Problem]:
    recipe = checked(tmp_path, code, TRAIN)
    return sources.load(recipe.data.as_source(), role="train", seed=5, code=recipe.code)


def test_a_function_gives_rows_as_a_file_has_them(tmp_path: Path) -> None:
    assert rows_of(tmp_path, CODE) == [Problem("rows/1", "train 5", "1"), Problem("rows/2", "2 + 2", "4")]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return [{'question': 'a'}]", "own.py:rows: row 1 has no column 'answer'; it has: question"),
        ("return [{'question': 'a', 'answer': 'b'}, 3]", "own.py:rows: row 2 is not an object with columns"),
        ("return []", "own.py:rows: holds no problems"),
        ("return 3", "own.py: TypeError: 'int' object is not iterable, in own.py:rows for role 'train'; correct it"),
        ("yield {}[role]", "own.py: line 2: KeyError: 'train', in own.py:rows for role 'train'; correct it"),
        ("while True: yield {}", "own.py: own.py:rows gives more than 100 rows for role 'train'; let it end"),
    ],
)
def test_rows_that_are_no_problems_are_named(
    tmp_path: Path, body: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_functions, "_MOST_ROWS", 100)
    with pytest.raises((DataError, CodeError)) as caught:
        rows_of(tmp_path, f"def rows(role, seed):\n    {body}\n")
    assert message in str(caught.value)


def test_the_problems_drawn_do_not_depend_on_where_the_file_lies(tmp_path: Path) -> None:
    code = "def rows(role, seed):\n    return [{'question': str(n), 'answer': '1'} for n in range(50)]\n"
    source = SourceSection(source="own.py:rows", num_problems=10)
    drawn = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        recipe = checked(folder, code, TRAIN)
        drawn.append(sources.load(source, role="train", seed=1, code=recipe.code))
    assert drawn[0] == drawn[1] and len(drawn[0]) == 10


# -------------------------------------------------------------------------------------------------- strategies

STRATEGY = """\
from motif_lite.rollout.strategies import MultiRound
def mine(rollout):
    return MultiRound("Be brief.", rollout.num_rounds)
"""
ROUNDS = 'rollout.strategy="own.py:mine"'


def test_a_strategy_of_ones_own_gets_the_recipes_settings(tmp_path: Path) -> None:
    recipe = checked(tmp_path, STRATEGY, ROUNDS, "rollout.num_rounds=4")
    mine, problem = strategy_of(recipe, "own.py:mine"), Problem("p", "1 + 1", "2")
    assert mine.num_rounds == 4
    assert mine.first_messages(problem) == MultiRound("Be brief.", 4).first_messages(problem)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 3", "in the strategy own.py:mine: what it makes has no num_rounds, first_messages, continue_openings"),
        ("return MultiRound('', 9)", "its num_rounds is 9, and must be between 1 and rollout.num_rounds = 3"),
        ("return rollout.none", "line 3: AttributeError: 'RolloutSection' object has no attribute 'none'"),
    ],
)  # fmt: skip
def test_a_strategy_that_is_none_is_named(tmp_path: Path, body: str, message: str) -> None:
    lines = STRATEGY.splitlines()
    assert message in refusal(tmp_path, "\n".join([*lines[:2], f"    {body}"]), ROUNDS)


@pytest.mark.parametrize(
    "given", ["problem.question", "[]", "[problem.question]", "[dict(role='user')]", "[dict(role='user', content=3)]"]
)
def test_first_messages_that_are_none_are_refused_before_a_model_is_loaded(tmp_path: Path, given: str) -> None:
    code = f"""\
class mine:
    def __init__(self, rollout): self.num_rounds = 2
    def first_messages(self, problem): return {given}
    def continue_openings(self, *arguments, **named): ...
"""
    assert "its first_messages gives " in (told := refusal(tmp_path, code, ROUNDS))
    assert "must give a list of messages, each with a role and a content" in told


def test_keys_that_a_class_of_its_own_may_not_read_are_told(tmp_path: Path) -> None:
    recipe = checked(tmp_path, STRATEGY, ROUNDS, 'rollout.allocation="adaptive"', "rollout.early_finish=true")
    [told] = idle_keys.remarks(recipe, credit_of(recipe))
    assert told.startswith("rollout.allocation, rollout.early_finish do only what a MultiRound that ")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise KeyError('progress')", "line 4: KeyError: 'progress'"),
        ("sys.exit(0)", "line 4: SystemExit: 0"),
        ("return 3", "its continue_openings gives int, and must give Rollouts"),
        ("return Rollouts(())", "it gives 0 openings for 1"),
        ("return Rollouts((Opening(*openings[0], ()),))", "an opening has futures of [] rounds"),
    ],
)
def test_what_goes_wrong_in_a_strategys_rollouts_is_named(tmp_path: Path, body: str, message: str) -> None:
    code = f"""\
class mine:
    def __init__(self, rollout): self.num_rounds, self.first_messages = 2, asked
    def continue_openings(self, policy, openings, num_futures, sampling, *, seed, start=0, on_round=None):
        {body}
import sys
from motif_lite.nouns import Opening
from motif_lite.rollout.rollouts import Rollouts
def asked(problem): return [dict(role="user", content=problem.question)]
"""
    mine = strategy_of(checked(tmp_path, code, ROUNDS), "own.py:mine")
    openings = [(Problem("p", "1 + 1", "2"), Turn("", Reply("3", 1, "stop")))]
    with pytest.raises(CodeError, match=re.escape(message)):
        mine.continue_openings(ScriptedPolicy(lambda prompt, sampling: ""), openings, 1, Sampling(), seed=1)


@pytest.mark.parametrize(("given", "parts_early"), [("branches", False), ("[1]", True)])
def test_futures_that_part_before_their_branch_are_refused(given: str, parts_early: bool, tmp_path: Path) -> None:
    code = f"""\
from motif_lite.rollout.strategies import MultiRound
class mine(MultiRound):
    def __init__(self, rollout): super().__init__("", 3)
    def continue_openings(self, policy, openings, *arguments, branches, **named):
        return super().continue_openings(policy, openings, *arguments, branches={given}, **named)
"""
    mine = strategy_of(checked(tmp_path, code, ROUNDS), "own.py:mine")
    openings = [(Problem("p", "1 + 1", "2"), Turn("", Reply("3", 1, "stop")))]
    policy = ScriptedPolicy(lambda prompt, sampling: "4")
    message = "an opening has futures that part before the end of round 2, which its branch is; give"
    with pytest.raises(CodeError, match=message) if parts_early else nullcontext():
        mine.continue_openings(policy, openings, 2, Sampling(), seed=1, branches=[2])


def test_a_strategy_of_ones_own_has_later_rounds_in_the_memory_plan(tmp_path: Path) -> None:
    tiny = (ROOT / "recipes/tiny_cpu.toml").read_text()
    write(tmp_path, recipe=tiny, own_py=STRATEGY)
    plan = checking.memory_plan(tmp_path / "recipe.toml", [ROUNDS], 8.0)
    assert (
        plan.estimate.phases.keys()
        == checking.memory_plan(ROOT / "recipes/tiny_cpu.toml", [], 8.0).estimate.phases.keys()
    )


# --------------------------------------------------------------------------------------------- run directories


@pytest.fixture
def run(tmp_path: Path) -> Path:
    recipe = checked(tmp_path / "mine", CODE, REWARD)
    return RunDirectory.create(tmp_path / "run", recipe, BASE).root


def test_a_run_keeps_its_files_with_their_hashes(run: Path, tmp_path: Path) -> None:
    assert (run / "own_code/own.py").read_text() == CODE
    assert list(json.loads((run / "own_code.json").read_text())) == ["own.py"]


def test_a_run_is_resumed_from_any_folder(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    job = train_job.job(None, [], run, resume=True)
    assert job.recipe.code == {"own.py": str(tmp_path / "mine/own.py")}


@pytest.mark.parametrize("mode", ["resume", "evaluate_only"])
@pytest.mark.parametrize(
    ("content", "message"), [("x", "own.py: has changed since the run"), (None, "own.py: is gone")]
)
def test_a_run_does_not_go_on_with_another_file(
    run: Path, tmp_path: Path, mode: str, content: str | None, message: str
) -> None:
    path = tmp_path / "mine/own.py"
    path.unlink()
    if content:
        path.write_text(content)
    with pytest.raises(RunError, match=message) as caught:
        train_job.job(None, [], run, resume=mode == "resume", evaluate_only=mode == "evaluate_only")
    assert str(run / "own_code/own.py") in str(caught.value)


def test_a_run_goes_on_with_the_same_files_at_another_place(run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").rename(tmp_path / "moved")
    job = train_job.job(tmp_path / "moved/recipe.toml", [REWARD], run, resume=True)
    assert job.recipe.code == {"own.py": str(tmp_path / "moved/own.py")}


def test_what_is_measured_later_with_another_file_is_recorded_too(run: Path, tmp_path: Path) -> None:
    write(tmp_path / "mine", rounds_py=STRATEGY)
    changes = [f'evaluation.strategies=["{tmp_path}/mine/rounds.py:mine"]', "training.max_steps=400"]
    job = train_job.job(None, changes, run, evaluate_only=True)
    job._run_directory(job.recipe, Problems([], [], {}), {})
    assert len(json.loads((run / "own_code.json").read_text())) == 2
    assert (run / "own_code/own.py").read_text() == CODE
    (tmp_path / "mine/rounds.py").write_text(STRATEGY + "\n")
    with pytest.raises(RunError, match=r"rounds\.py: has changed"):
        train_job.job(None, changes, run, evaluate_only=True)


def test_a_damaged_record_is_named(run: Path) -> None:
    (run / "own_code.json").write_text("[]")
    with pytest.raises(RunError, match=r"own_code\.json: cannot be read"):
        train_job.job(None, [], run, resume=True)


def test_a_folder_where_such_a_run_was_only_about_to_begin_is_free(run: Path) -> None:
    (run / "resolved.json").unlink()
    require_free(run)


# ------------------------------------------------------------------------------------------- the worked example

PAGE = (ROOT / "docs" / "extending.md").read_text()


def block(mark: str) -> str:
    """The code block of the page after a mark."""
    found = re.search(rf"<!-- {re.escape(mark)} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    assert found
    return found[1]


@pytest.mark.parametrize("name", ["examples/own_task/my_task.py", "examples/own_task/recipe.toml"])
def test_the_page_shows_the_files_of_the_example(name: str) -> None:
    assert block(name) == (ROOT / name).read_text()


def test_the_commands_of_the_page_train_with_the_example(tmp_path: Path, nursery: Nursery) -> None:
    found = re.search(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    assert found
    check, train = found[1].splitlines()
    for command in (check, f"{train} --out {tmp_path / 'run'}"):
        words = shlex.split(command)
        assert words[:2] == ["python", "run.py"]
        done = nursery.run(*words[2:])
        assert done.returncode == 0, done.stderr
    run = RunDirectory(tmp_path / "run")
    assert [list(line.rewards) for line in run.metrics()] == [["future_accuracy", "my_task.py:brevity"]] * 2
    assert all(0 < line.rewards["my_task.py:brevity"] < 1 for line in run.metrics())
    assert {line.problem.partition("/")[0] for line in run.rollouts()} == {"sums"}
    assert "my_task.py:brevity" in run.report.read_text()


def test_the_strategy_of_the_page_is_one(tmp_path: Path) -> None:
    write(tmp_path, recipe=BASE, my_rounds_py=block("strategy"))
    recipe = checking.check(tmp_path / "recipe.toml", ['rollout.strategy="my_rounds.py:terse"'])
    made = strategy_of(recipe, recipe.rollout.strategy)
    assert made.first_messages(Problem("", "1 + 1", "2"))[0]["content"].endswith("Think in as few words as you can.")


def test_the_whole_strategy_of_the_page_is_trained(tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path) -> None:
    """With futures that part after any round."""
    code = block("whole strategy")
    assert len(code.splitlines()) <= 30
    write(tmp_path, my_rounds_py=code)
    recipe = tiny_recipe(
        f'rollout.strategy="{tmp_path}/my_rounds.py:doubt"', 'training.credit="reset"',
        "rollout.openings.max_tokens=16", "rollout.futures.max_tokens=16", "training.max_steps=2",
    )  # fmt: skip
    training = Training(recipe, tiny_folder, tmp_path / "run")
    assert training.train()
    later = [turn.prompt for line in training.run.rollouts() for future in line.futures for turn in future.rounds]
    assert len(training.run.metrics()) == 2
    assert later
    assert all(re.search(r'= Somebody says: "[^"]*". Check this, then solve it yourself\.', each) for each in later)


def test_the_whole_strategy_of_the_page_passes_on_the_answer(tmp_path: Path) -> None:
    write(tmp_path, recipe=BASE, my_rounds_py=block("whole strategy"))
    recipe = checking.check(tmp_path / "recipe.toml", ['rollout.strategy="my_rounds.py:doubt"'])
    made, policy = strategy_of(recipe, recipe.rollout.strategy), ScriptedPolicy(lambda prompt, sampling: "so: I agree")
    first = Turn("", Reply("\\boxed{1}, or \\boxed{2}", 1, "stop"))
    [opening] = made.continue_openings(policy, [(Problem("", "1+1?", "2"), first)], 1, Sampling(), seed=1).openings
    [_, second, third] = opening.futures[0].turns
    assert second.prompt.endswith('[user]1+1? Somebody says: "2". Check this, then solve it yourself.[assistant]')
    assert third.prompt.endswith('[user]1+1? Somebody says: "nothing". Check this, then solve it yourself.[assistant]')
