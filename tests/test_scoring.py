"""Hand-written openings: read strictly, scored as training would score them, printed as text."""

import io
import json
import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from motif_lite import cli
from motif_lite.errors import DataError, ModelError, TrainingError
from motif_lite.evaluation import intervals, openings_file, scores
from motif_lite.evaluation.scores import Answer, HandWritten, Scores
from motif_lite.jobs import checking, score_job
from motif_lite.jobs.score_job import ScoreJob
from motif_lite.recipe.keys import changed
from motif_lite.recipe.schema import Recipe
from motif_lite.rollout.rewards import REWARDS
from motif_lite.views.tables import print_scores
from tests.fakes import GOOD_FORM, RecordingObserver, ScriptedPolicy, problem
from tests.faults.nursery import Nursery
from tests.test_console import HOSTILE

ROOT = Path(__file__).parents[1]
TINY = ROOT / "recipes" / "tiny_cpu.toml"
EXAMPLE = ROOT / "recipes" / "tiny_openings.jsonl"
ROOM = {"rollout.max_prompt_tokens": 1000, "rollout.openings.max_tokens": 1000, "rollout.futures.max_tokens": 1000}
RECIPE = changed(checking.check(TINY, []), ROOM)
ONE, TWO = problem("1+1?", "2", "p/1"), problem("2+2?", "4", "p/2")


def written(text: str, of: Any = ONE, label: str = "an opening") -> HandWritten:
    return HandWritten(of, label, text)


def score(
    policy: ScriptedPolicy, *openings: HandWritten, recipe: Recipe = RECIPE, num_futures: int = 4, observer: Any = None
) -> Scores:
    return scores.score(recipe, policy, openings, num_futures, observer or RecordingObserver())


def believing(prompt: str, sampling: Any) -> str:
    """A policy that boxes what the progress says."""
    found = prompt.rpartition(': "')[2].partition('"')[0].removeprefix("\\boxed{").removesuffix("}")
    return GOOD_FORM.format(f"\\boxed{{{found}}}")


# --------------------------------------------------------------------------------------------------------- scoring


def test_all_futures_of_all_openings_are_one_wide_call_per_round() -> None:
    policy = ScriptedPolicy(believing)
    scores = score(policy, written("<answer>2</answer>"), written("<answer>3</answer>"), written("4", TWO))
    assert policy.widths == [12, 12]
    assert all(call.sampling == RECIPE.rollout.futures for call in policy.calls)
    assert 'round 1: "2"' in policy.calls[0].prompts[0]
    assert [each.accuracy for each in scores.openings] == [1.0, 0.0, 1.0]
    assert scores.num_tokens == sum(len(believing(prompt, None)) for call in policy.calls for prompt in call.prompts)


def test_an_opening_is_rewarded_as_in_training_with_the_recipes_weights() -> None:
    recipe = RECIPE.model_copy(update={"rewards": {"future_accuracy": 1.0, "tag_count": 3.0}})
    (good,) = score(ScriptedPolicy(believing), written(GOOD_FORM.format("2")), recipe=recipe).openings
    assert good.rewards == {"future_accuracy": 2.0, "tag_count": 0.5}
    assert good.total == 3.5


def test_accuracy_has_the_interval_of_its_futures_and_answers_are_counted() -> None:
    replies = iter([*["note"] * 4, "\\boxed{2}", "\\boxed{ 5 }", "nothing", "\\boxed{2}"])
    (scored,) = score(ScriptedPolicy(lambda prompt, sampling: next(replies)), written("an opening")).openings
    outcomes = {str(index): [index < 2] for index in range(4)}
    assert (scored.accuracy, scored.interval) == (0.5, intervals.interval(outcomes, 0.95))
    assert scored.answers == (Answer("2", 2, True), Answer("5", 1, False), Answer(None, 1, False))
    assert scored.rewards["future_accuracy"] == 0.5, "the right ones stand outside the answer tags"


def test_openings_are_ranked_by_total_within_their_problem() -> None:
    bad, plain, good = written("3"), written("2"), written(GOOD_FORM.format("2"))
    ranked = score(ScriptedPolicy(believing), bad, written("4", TWO), plain, good).ranked()
    assert [each.written for each in ranked[ONE]] == [good, plain, bad]
    assert list(ranked) == [ONE, TWO]


def test_what_is_random_hangs_on_the_recipes_seed_and_the_openings_number() -> None:
    one, more, other = ScriptedPolicy(believing), ScriptedPolicy(believing), ScriptedPolicy(believing)
    score(one, written("2"))
    score(more, written("2"), written("3"))
    score(other, written("2"), recipe=changed(RECIPE, {"seed": 2}))
    assert more.calls[0].seeds[:4] == one.calls[0].seeds, "an opening that is added at the end changes no other"
    assert not set(one.calls[0].seeds) & set(other.calls[0].seeds)


def test_a_question_that_training_would_leave_out_is_refused() -> None:
    with pytest.raises(DataError, match=r"p/1: its prompt has .* rollout\.max_prompt_tokens = 5"):
        score(ScriptedPolicy(believing), written("2"), recipe=changed(RECIPE, {"rollout.max_prompt_tokens": 5}))


def test_openings_that_the_policy_could_not_write_are_scored_and_told() -> None:
    observer = RecordingObserver()
    recipe = changed(RECIPE, {"rollout.openings.max_tokens": 3})
    scores = score(ScriptedPolicy(believing), written("2222"), written("2"), recipe=recipe, observer=observer)
    assert scores.openings[1].accuracy == 1.0
    assert observer.notes == [
        "note: 1 of 2 openings are longer than rollout.openings.max_tokens = 3: the policy could not write them in a "
        "round (p/1, an opening: 4 tokens)"
    ]


@pytest.mark.parametrize("value", [math.nan, "text", ZeroDivisionError("why")])
def test_a_reward_that_fails_is_named_with_the_opening(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def reward(opening: object) -> Any:
        if isinstance(value, Exception):
            raise value
        return value

    monkeypatch.setitem(REWARDS, "tag_count", reward)
    with pytest.raises(TrainingError, match=r"reward tag_count: failed on p/1, an opening"):
        score(ScriptedPolicy(believing), written("2"))


# --------------------------------------------------------------------------------------------------------- reading


def read(path: Path, *rows: object, recipe: Recipe = RECIPE) -> list[HandWritten]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return openings_file.read(path, recipe)


def test_an_opening_is_a_text_or_an_object_and_is_kept_as_it_is(tmp_path: Path) -> None:
    openings = [" a\n", {"text": "", "label": " empty "}, {"text": "b", "label": None}]
    found = read(tmp_path / "mine.jsonl", {"question": "q", "answer": "so\n#### 4", "openings": openings})
    assert [(each.label, each.text) for each in found] == [("opening 1", " a\n"), ("empty", ""), ("opening 3", "b")]
    assert {each.problem for each in found} == {problem("q", "4", "mine/1")}


def test_the_columns_are_those_of_the_recipes_training_data(tmp_path: Path) -> None:
    recipe = changed(RECIPE, {"data.question_column": "q", "data.num_problems": 1})
    rows = [{"q": f"q{number}", "answer": 4, "openings": ["x"]} for number in range(3)]
    assert [each.problem.question for each in read(tmp_path / "a.jsonl", *rows, recipe=recipe)] == ["q0", "q1", "q2"]


def test_openings_of_a_file_are_no_groups_that_share_futures() -> None:
    changes = ['rollout.allocation="adaptive"']
    job = score_job.job(TINY, changes, EXAMPLE, num_futures=None, adapter=None)
    assert job.recipe.rollout.allocation == "fixed"


@pytest.mark.parametrize(("k", "asked", "wanted"), [(4, None, 32), (64, None, 64), (4, 5, 5)])
def test_futures_are_those_of_training_but_enough_for_an_interval(k: int, asked: int | None, wanted: int) -> None:
    job = score_job.job(TINY, [f"rollout.num_futures={k}"], EXAMPLE, num_futures=asked, adapter=None)
    assert job.num_futures == wanted


# --------------------------------------------------------------------------------------------------- command line


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, list(arguments))


def refused(*arguments: str) -> str:
    """The one message with which a command line ends."""
    done = invoke(*arguments)
    assert done.exit_code == 2, (done.exit_code, done.stderr, done.exception)
    assert isinstance(done.exception, SystemExit)
    assert done.stderr.lower().count("error: ") == 1
    assert all(char == "\n" or char.isprintable() for char in done.stderr)
    assert len(done.stderr) < 1000
    return done.stderr


def row(*openings: Any, **more: Any) -> str:
    return json.dumps({"question": "q", "answer": "1", "openings": list(openings)} | more) + "\n"


FILES: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "openings.jsonl: holds no problems"),
    "no JSON": (row("x") + "{", "openings.jsonl: line 2 is not JSON"),
    "Latin-1": (b'{"question": "\xe9"}', "openings.jsonl: line 1 cannot be read"),
    "no object": ("[1]", "row 1 is not an object"),
    "no answer": ('{"question": "q", "openings": ["x"]}', "row 1 has no column 'answer'"),
    "no openings": ('{"question": "q", "answer": "1"}', "row 1: column 'openings' must hold a list"),
    "openings are null": (row(openings=None), "row 1: column 'openings' must hold a list"),
    "an empty list": (row("x") + row(), "row 2: column 'openings' must hold a list of at least one"),
    "one text": (row(openings="x"), "row 1: column 'openings' must hold a list"),
    "a number": (row("x", 3), "row 1, opening 2: must be a text, or an object"),
    "null": (row(None), "row 1, opening 1: must be a text, or an object"),
    "no text": (row({"label": "x"}), "row 1, opening 1: must be a text, or an object"),
    "a number as text": (row({"text": 3}), "row 1, opening 1: must be a text, or an object"),
    "a misspelled key": (row({"text": "x", "lable\x1b[2J": "x"}), "row 1, opening 1: has an unknown key 'lable"),
    "a long key": (row({"text": "x", "k" * 9000: "x"}), "row 1, opening 1: has an unknown key 'kkk"),
    "a number as label": (row({"text": "x", "label": 3}), "row 1, opening 1: its label must be a short text"),
    "an empty label": (row({"text": "x", "label": " "}), "row 1, opening 1: its label must be a short text"),
    "a long label": (row({"text": "x", "label": "l" * 41}), "row 1, opening 1: its label must be a short text"),
    "half a character": (row("x", {"text": "\ud800"}), "row 1, opening 2: contains half of a character"),
    "half a character as label": (
        row({"text": "", "label": "\udc00"}),
        "row 1, opening 1: contains half of a character",
    ),
    "two megabytes": (row("x" * 2_000_000), "row 1, opening 1: has 2,000,000 characters"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_malformed_file_of_openings_is_refused_at_its_row(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content, message = FILES[name]
    Path("openings.jsonl").write_bytes(content if isinstance(content, bytes) else content.encode())
    told = refused("score", "--recipe", str(TINY), "--openings", "openings.jsonl")
    assert told.startswith("error: openings.jsonl")
    assert message in told


GIVEN = ["--recipe", str(TINY), "--openings", str(EXAMPLE)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score"], "--openings"),
        (["score", "--openings", str(EXAMPLE)], "no recipe given; use --recipe FILE"),
        (["score", "--recipe", "gone.toml", "--openings", str(EXAMPLE)], "gone.toml: there is no such recipe"),
        (["score", "--recipe", str(TINY), "--openings", "gone.jsonl"], "gone.jsonl: cannot be read (No such file"),
        (["score", "--recipe", str(TINY), "--openings", "."], ".: cannot be read (Is a directory)"),
        (["score", "--recipe", str(TINY), "--openings", "a\0b"], "null"),
        (["score", "--recipe", str(TINY), "--openings", "\udcff.jsonl"], "cannot be read (No such file"),
        (["score", "--recipe", str(TINY), "--openings", "a" * 300], "cannot be read (File name too long)"),
        (["score", "--recipe", str(TINY), "--openings", "gsm8k"], "gsm8k: is a data set without openings"),
        (["score", "--recipe", str(TINY), "--openings", "chain_sum"], "chain_sum: is a data set without openings"),
        (["score", *GIVEN, "--set", "seed=x"], "--set seed=x"),
        (["score", *GIVEN, "--futures", "0"], "--futures"),
        (["score", *GIVEN, "--futures", "many"], "--futures"),
        (["score", *GIVEN, "--set", 'rollout.strategy="single_round"'], "has no futures to score it by"),
        (["score", *GIVEN, "--adapter", "gone"], "gone: there is no such folder; give that of an adapter"),
        (["score", *GIVEN, "--adapter", "a" * 300], "there is no such folder"),
        (["score", *GIVEN, "--adapter", "a\0b"], "there is no such folder"),
        (["score", *GIVEN, "--json", "gone/scores.json"], "cannot be written; choose a file in an existing folder"),
        (["score", *GIVEN, "--json", "."], "cannot be written"),
        (["score", *GIVEN, "--json", "a\0b"], "null"),
        (["score", *GIVEN, "--json", str(EXAMPLE)], "is an input of this command"),
        (["score", *GIVEN, "--json", str(TINY)], "is an input of this command"),
        (["score", *GIVEN, "--check"], "--check"),
        (["score", *GIVEN, "more"], "more"),
        (["--recipe", str(TINY), "score", "--openings", str(EXAMPLE)], "options of score go after its name"),
        (["scores"], "scores"),
    ],
    ids=lambda value: ascii(value)[-30:],
)
def test_a_command_line_that_cannot_be_followed_is_refused(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = EXAMPLE.read_bytes(), TINY.read_bytes()
    assert message in refused(*arguments)
    assert (EXAMPLE.read_bytes(), TINY.read_bytes()) == before


def test_help_names_the_command_and_its_options() -> None:
    assert "score" in invoke("--help").stdout
    told = invoke("score", "--help").stdout
    for option in ("--recipe", "--openings", "--futures", "--set", "--adapter", "--json"):
        assert option in told


# -------------------------------------------------------------------------------------------------------- printing


def printed(scores: Scores, recipe: Recipe = RECIPE, width: int = 80) -> str:
    file = io.StringIO()
    print_scores(Console(file=file, width=width), recipe, scores)
    return file.getvalue()


def test_openings_with_equal_totals_share_their_rank() -> None:
    policy = ScriptedPolicy(believing)
    table = printed(score(policy, written("3", label="one"), written("2", label="two"), written("5", label="three")))
    ranks = [line.split()[:2] for line in table.splitlines() if line.endswith((" 2.00 ", " 0.00 "))]
    assert ranks == [["1", "two"], ["2", "one"], ["2", "three"]]


def test_weights_are_told_and_many_answers_are_summed_up_in_80_columns() -> None:
    recipe = RECIPE.model_copy(update={"rewards": {"future_accuracy": 1.0, "soft_format": 0.5}})
    numbers = iter(range(20))
    policy = ScriptedPolicy(lambda prompt, sampling: f"\\boxed{{{next(numbers)}}}")
    text = printed(score(policy, written("x", label="l" * 40), recipe=recipe, num_futures=10), recipe)
    assert "it counts 0.5 x soft_format" in text
    assert "others x6" in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("width", [80, 140])
def test_whatever_openings_and_futures_hold_is_printed_as_text(width: int) -> None:
    policy = ScriptedPolicy(lambda prompt, sampling: "\\boxed{" + HOSTILE + "}")
    opening = HandWritten(problem(HOSTILE, HOSTILE, HOSTILE), HOSTILE.replace("\ud800", "")[:40], HOSTILE)
    text = printed(score(policy, opening), width=width)
    assert "[red]bold[/]" in text
    assert not set(text) & set("\x1b\x07\r\x08\x9b\u202e\ud800")


# ------------------------------------------------------------------------------------------------ the tiny policy


def test_better_openings_come_out_higher_on_the_tiny_policy(nursery: Nursery, tmp_path: Path) -> None:
    """The shipped example, as a user runs it."""
    done = nursery.run("score", *GIVEN, "--json", str(tmp_path / "scores.json"))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "right answer 4" in done.stdout
    found = json.loads((tmp_path / "scores.json").read_text())
    assert found["futures_per_opening"] == 32
    for each in found["problems"]:
        by_label = {opening["label"]: opening for opening in each["openings"]}
        enough = {"five steps"} & by_label.keys()
        hopeless = {"one step", "five with a slip", "five, cut off"} & by_label.keys()
        for good in enough:
            assert by_label[good]["accuracy"] > 0.8
            for bad in hopeless:
                assert by_label[good]["interval"][0] > by_label[bad]["interval"][1]
                assert by_label[good]["total"] > by_label[bad]["total"]
        if "four steps" in by_label:  # enough, but how much the tiny model does then hangs on the processor's rounding
            assert all(by_label["four steps"]["total"] > by_label[bad]["total"] for bad in hopeless)
        totals = [opening["total"] for opening in each["openings"]]
        assert totals == sorted(totals, reverse=True)
        assert all(sum(answer["count"] for answer in o["answers"]) == 32 for o in each["openings"])


def test_an_adapter_is_scored_under_and_one_of_another_model_is_told(
    tiny_folder: Path, tiny_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    import torch

    from motif_lite.policies import backends
    from motif_lite.runs.directory import RunDirectory

    recipe = changed(tiny_recipe(), {"seed": 2})
    policy = backends.backend("transformers").load(recipe, str(tiny_folder))
    for name, weights in policy.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights)
    adapter = RunDirectory.create(tmp_path / "run", recipe, "").adapter
    policy.save_adapter(adapter)
    observer = RecordingObserver()
    bare, ruined = (
        score_job.job(TINY, [], EXAMPLE, num_futures=8, adapter=chosen).perform(observer)
        for chosen in (None, str(adapter))
    )
    assert bare.openings[2].accuracy > 0.5, "five steps"
    assert ruined.openings[2].accuracy < 0.5
    assert observer.notes == [f"note: {adapter} was trained with different settings for seed"]
    (adapter / "manifest.json").write_text("{}")
    with pytest.raises(ModelError, match=r"manifest\.json is damaged"):
        score_job.job(TINY, [], EXAMPLE, num_futures=8, adapter=str(adapter))


def test_ctrl_c_ends_it_with_130_and_without_a_traceback(nursery: Nursery, tmp_path: Path) -> None:
    told = tmp_path / "told"
    child = nursery.start("score", *GIVEN, "--futures", "2000", log=tmp_path / "log", errors=told)
    child.until(lambda: "scoring" in child.printed())
    child.send(signal.SIGINT)
    assert child.wait() == 130
    assert "nothing has been written; repeat the command to start over" in told.read_text()
    assert "Traceback" not in told.read_text()


def test_scores_that_cannot_be_written_at_last_have_been_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = score(ScriptedPolicy(believing), written("2"))
    monkeypatch.setattr(ScoreJob, "perform", lambda job, observer: scores)
    done = invoke("score", *GIVEN, "--json", str(tmp_path / ("n" * 250)))
    assert done.exit_code == 2
    assert "accuracy" in done.stdout
    assert "cannot be written (File name too long)" in done.stderr
