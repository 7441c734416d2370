"""`run.py solve`: text as it is written, rounds, votes by meaning, what Ctrl-C ends, and a prompt to type at."""

import io
import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from typer.testing import CliRunner, Result

from motif_lite import cli
from motif_lite.commands import solve as solve_command
from motif_lite.commands.chat import Chat
from motif_lite.errors import DataError, RecipeError
from motif_lite.evaluation.voting import Vote, votes
from motif_lite.jobs import checking, questions
from motif_lite.jobs.answering import answer
from motif_lite.jobs.interrupting import AnswerEnded
from motif_lite.nouns import Reply, Sampling, TokenProgress
from motif_lite.policies.local import LocalPolicy
from motif_lite.recipe.keys import changed
from motif_lite.recipe.schema import Recipe
from motif_lite.solving.solver import Effort, Solution, Solver
from motif_lite.views.solving import SolutionView
from motif_lite.views.wrapping import Wrapping
from tests.fakes import GOOD_FORM, RecordingObserver, ScriptedPolicy, reply, trajectory
from tests.random_models import write_random
from tests.test_console import HOSTILE
from tests.test_policies import load, rendered

ROOT = Path(__file__).parents[1]
TINY = ROOT / "recipes" / "tiny_cpu.toml"
ROOM = {"rollout.openings.max_tokens": 1000, "rollout.futures.max_tokens": 1000}
RECIPE = changed(checking.check(TINY, []), ROOM)
MakeRecipe = Callable[..., Recipe]


class Recorder:
    """Implements `Watcher`; ``events`` holds what it was told, pieces of text joined."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.texts: list[str] = []

    def round(self, number: int, num_rounds: int, width: int) -> None:
        self.events.append(("round", number, num_rounds, width))
        self.texts.append("")

    def text(self, piece: str | None) -> None:
        self.texts[-1] += piece or ""

    def generating(self, progress: TokenProgress) -> None:
        pass

    def written(self, reply: Reply) -> None:
        assert self.texts[-1] == reply.text

    def passed_on(self, progress: str) -> None:
        self.events.append(("passed on", progress))

    def voting(self, done: int, total: int) -> None:
        pass


def counting_up(prompt: str, sampling: Any) -> str:
    """A policy that adds one to the progress in each round."""
    found = re.search(r'Progress in round \d+: "\\boxed{(\d+)}"', prompt)
    return GOOD_FORM.format(f"\\boxed{{{int(found[1]) + 1 if found else 1}}}")


def solve(policy: ScriptedPolicy, effort: Effort = Effort(), *, recipe: Recipe = RECIPE) -> tuple[Solution, Recorder]:  # noqa: B008
    watcher = Recorder()
    return Solver(recipe, policy).solve("1+1?", effort, watcher, number=1), watcher


# ------------------------------------------------------------------------------------------------ text as it is written


def followed(policy: LocalPolicy, sampling: Sampling, num_prompts: int = 5) -> None:
    """Asserts that the pieces are the replies, and come before these end."""
    pieces: dict[int, list[str | None]] = {}
    prompts = rendered(policy, num_prompts)

    def on_text(index: int, piece: str | None) -> None:
        pieces.setdefault(index, []).append(piece)

    replies = policy.generate(prompts, sampling, seeds=range(num_prompts), on_text=on_text)
    assert replies == policy.generate(prompts, sampling, seeds=range(num_prompts)), "listening changes nothing"
    for index, written in enumerate(replies):
        assert pieces[index][-1] is None
        assert "".join(filter(None, pieces[index])) == written.text
    assert max(map(len, pieces.values())) > 5


@pytest.mark.parametrize("sampling", [Sampling(max_tokens=24), Sampling(max_tokens=24, stop=["3\n"])])
@pytest.mark.parametrize("has_engine", [True, False])
def test_the_pieces_of_a_reply_are_its_text(
    tiny_folder: Path, tiny_recipe: MakeRecipe, sampling: Sampling, has_engine: bool
) -> None:
    policy = load(tiny_folder, tiny_recipe())
    policy.max_width = 3  # some wait for the row of another
    if not has_engine:
        policy.engine = None
    followed(policy, sampling)


def test_bytes_that_are_no_text_come_as_they_come_in_the_reply(tmp_path: Path, tiny_recipe: MakeRecipe) -> None:
    folder = write_random(tmp_path, "llama")
    followed(load(folder, tiny_recipe("lora.rank=4")), Sampling(max_tokens=60, temperature=1.5))


def test_a_real_chat_models_pieces_are_its_text(smollm2: Path, tiny_recipe: MakeRecipe) -> None:
    recipe = tiny_recipe("model.max_seq_length=512", "lora.rank=4")
    followed(load(smollm2, recipe), Sampling(max_tokens=24, temperature=1.5), num_prompts=2)


def test_replies_written_again_after_running_out_of_memory_say_nothing_twice(
    tiny_folder: Path, tiny_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = load(tiny_folder, tiny_recipe())
    sequences, attempts = policy._sequences, []

    def failing(requests: Any, *arguments: Any) -> Iterator[Any]:
        attempts.append(len(requests))
        for number, found in enumerate(sequences(requests, *arguments)):
            if len(attempts) == 1 and number == 2:
                raise RuntimeError("can't allocate memory")
            yield found

    monkeypatch.setattr(policy, "_sequences", failing)
    followed(policy, Sampling(max_tokens=24))
    assert attempts[:2] == [5, 3]


# ------------------------------------------------------------------------------------------------------------- rounds


def test_a_question_goes_through_the_recipes_rounds_and_what_is_passed_on_is_told() -> None:
    found, watcher = solve(ScriptedPolicy(counting_up))
    assert found.answer == "3"
    assert watcher.events == [
        ("round", 1, 3, 1), ("passed on", "\\boxed{1}"), ("round", 2, 3, 1), ("passed on", "\\boxed{2}"),
        ("round", 3, 3, 1),
    ]  # fmt: skip
    assert (found.share, found.num_cut) == (1.0, 0)


def test_drafts_are_sampled_where_one_answer_is_asked_for() -> None:
    """Greedily all of them would be the same."""
    policy = ScriptedPolicy(counting_up)
    drafts = changed(RECIPE, {"rollout.strategy": "parallel", "rollout.num_rounds": 4, "evaluation.temperature": 0.7})
    solve(policy, recipe=drafts)
    assert {call.sampling.temperature for call in policy.calls} == {0.7}
    asked = ScriptedPolicy(counting_up)
    solve(asked, Effort(temperature=0.0), recipe=drafts)
    assert {call.sampling.temperature for call in asked.calls} == {0.0}


def test_more_rounds_than_were_trained_are_told_to_the_model() -> None:
    policy = ScriptedPolicy(counting_up)
    found, _ = solve(policy, Effort(num_rounds=5))
    assert found.answer == "5"
    assert "final (fifth) round" in policy.calls[-1].prompts[0]
    solver = Solver(RECIPE, policy)
    assert solver.remark(Effort(num_rounds=5)) == "5 rounds; the recipe has 3"
    assert solver.remark(Effort(num_rounds=3)) is None


def test_progress_that_was_cut_to_fit_the_context_is_shown_as_it_was_passed_on() -> None:
    long = "".join(f"<{number}>" for number in range(400))
    policy = ScriptedPolicy(lambda prompt, sampling: f"<answer>{long}</answer>"[:1000], context_tokens=1500)
    found, watcher = solve(policy)
    passed_on = [event[1] for event in watcher.events if event[0] == "passed on"]
    assert found.num_cut == 2
    assert all(f': "{each}"' in call.prompts[0] for each, call in zip(passed_on, policy.calls[1:], strict=True))


def test_one_sample_is_greedy_and_several_are_sampled_as_in_evaluation() -> None:
    recipe = changed(RECIPE, {"evaluation.temperature": 0.7, "evaluation.top_p": 0.9})
    for effort, expected in (
        (Effort(), (0.0, 1.0)), (Effort(num_samples=2), (0.7, 0.9)), (Effort(temperature=0.3), (0.3, 0.9)),
        (Effort(num_samples=2, temperature=0.0), (0.0, 1.0)),
    ):  # fmt: skip
        policy = ScriptedPolicy(counting_up)
        solve(policy, effort, recipe=recipe)
        assert {(call.sampling.temperature, call.sampling.top_p) for call in policy.calls} == {expected}


def test_a_question_asked_again_gets_other_samples_and_a_session_repeats() -> None:
    policy = ScriptedPolicy(counting_up)
    for number in (1, 2, 1):
        Solver(RECIPE, policy).solve("1+1?", Effort(), Recorder(), number=number)
    first, again, repeated = (tuple(call.seeds for call in policy.calls[start : start + 3]) for start in (0, 3, 6))
    assert first == repeated
    assert first != again


@pytest.mark.parametrize("text", ["1 + \udcff?", "\ud800"])
def test_what_a_tokenizer_does_not_take_as_text_is_refused(
    tiny_folder: Path, tiny_recipe: MakeRecipe, text: str
) -> None:
    solver = Solver(tiny_recipe(), load(tiny_folder, tiny_recipe()))
    with pytest.raises(TypeError):
        solver.policy.count_tokens(text)
    with pytest.raises(DataError, match=r"bytes that are not UTF-8, or half of a character"):
        solver.check(text, Effort())


def test_questions_that_cannot_be_answered_are_refused_before_anything_is_written() -> None:
    policy = ScriptedPolicy(counting_up, context_tokens=1100)
    solver = Solver(RECIPE, policy)
    with pytest.raises(DataError, match=r"leaves room for 68; shorten it, or raise model.max_seq_length"):
        solver.check("x" * 100, Effort())
    with pytest.raises(DataError, match="is empty"):
        solver.check(" ", Effort())
    with pytest.raises(RecipeError, match="has one round"):
        Solver(changed(RECIPE, {"rollout.strategy": "single_round"}), policy).check("1?", Effort(num_rounds=3))
    with pytest.raises(RecipeError, match="ask for at least 4 rounds"):
        Solver(changed(RECIPE, {"rollout.strategy": "parallel"}), policy).check("1?", Effort(num_rounds=2))
    assert policy.calls == []


# -------------------------------------------------------------------------------------------------------------- votes


def test_votes_are_counted_by_meaning_and_shown_in_the_most_common_spelling() -> None:
    texts = ["0.5", "\\frac{1}{2}", "3", "\\frac12", "\\frac{1}{2}", "3"]
    found = votes([*(f"\\boxed{{{text}}}" for text in texts), "no box", "\\boxed{}"])
    assert found == [Vote("\\frac{1}{2}", (0, 1, 3, 4)), Vote("3", (2, 5))]


def test_an_answer_that_is_left_undone_votes_for_what_it_equals() -> None:
    assert votes(["\\boxed{48+24}", "\\boxed{5}", "\\boxed{72}"])[0] == Vote("72", (0, 2))


def test_of_equally_many_votes_the_answer_that_was_given_first_wins() -> None:
    found = votes(["none", "\\boxed{7}", "\\boxed{4}", "\\boxed{4}", "\\boxed{7}"])
    assert [vote.answer for vote in found] == ["7", "4"]
    assert votes(["none"]) == []


def test_samples_vote() -> None:
    replies = iter(["a", "b", "c", "a", "b", "c", "\\boxed{1}", "none", "\\boxed{1.0}"])
    found, _ = solve(ScriptedPolicy(lambda prompt, sampling: next(replies)), Effort(num_samples=3))
    assert found.answer == "1"
    assert found.share == pytest.approx(2 / 3)


# -------------------------------------------------------------------------------------------------- what people see


@pytest.mark.parametrize("width", [20, 80, 120])
@given(pieces=st.lists(st.text(alphabet="ab \n数", max_size=30), max_size=12))
def test_lines_are_broken_between_words_wherever_pieces_end(width: int, pieces: list[str]) -> None:
    wrapping, whole = Wrapping(width), Wrapping(width)
    written = "".join(map(wrapping.add, pieces)) + wrapping.rest()
    assert written == whole.add("".join(pieces)) + whole.rest(), "pieces do not matter"
    assert "".join(written.split()) == "".join("".join(pieces).split()), "nothing is lost"
    assert max(map(cell_len, written.split("\n"))) <= width
    assert "".join(map(Wrapping(None).add, pieces)) == "".join(pieces)


def shown(script: Any, *, width: int = 80, effort: Effort = Effort(), thinks: bool = True) -> str:  # noqa: B008
    file = io.StringIO()
    view = SolutionView(Console(file=file, width=width, force_terminal=True), shows_thinking=thinks)
    view.question("1+1?")
    view.solution(Solver(RECIPE, ScriptedPolicy(script)).solve("1+1?", effort, view, number=1))
    return file.getvalue()


@pytest.mark.parametrize("thinks", [True, False])
@pytest.mark.parametrize("width", [80, 120])
def test_no_control_code_of_a_reply_reaches_the_terminal(width: int, thinks: bool) -> None:
    text = shown(
        lambda prompt, sampling: f"<answer>{HOSTILE} \\boxed{{{HOSTILE}}}</answer>",
        width=width, thinks=thinks, effort=Effort(num_samples=2),
    )  # fmt: skip
    assert "[red]bold[/]" in text
    assert not any(code in text for code in ("\x1b[2J", "\x1b]0", "\x07", "a\rb", "\x08", "\x9b", "\u202e", "\ud800"))


def test_an_answer_is_shown_by_rounds_with_its_votes() -> None:
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown(counting_up, effort=Effort(num_samples=4))).splitlines()
    assert lines[:2] == ["question  1+1?", "── round 1 of 3, 4 samples, one of them shown ──"]
    assert lines[2] == "<reasoning>"
    assert "passed on to the third round: \\boxed{2}" in lines
    assert "answer    3" in lines
    assert "votes     4 of 4 (100.0 %); 3 x4" in lines


def test_hidden_replies_leave_what_is_passed_on() -> None:
    text = shown(counting_up, thinks=False)
    assert "thought" not in text
    assert "passed on to the second round: " in text


# ------------------------------------------------------------------------------------------------------------- Ctrl-C


class Interrupting(Recorder):
    """Presses Ctrl-C at a piece of text."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def text(self, piece: str | None) -> None:
        for _ in range(self.times):
            os.kill(os.getpid(), signal.SIGINT)
        super().text(piece)


def test_ctrl_c_ends_the_answer_between_two_steps_and_leaves_the_model_as_it_was(
    tiny_folder: Path, tiny_recipe: MakeRecipe
) -> None:
    policy = load(tiny_folder, tiny_recipe())
    solver, observer = Solver(tiny_recipe(), policy), RecordingObserver()
    before = answer(solver, "a1b2c3=", Effort(), Recorder(), observer, number=1)
    handler = signal.getsignal(signal.SIGINT)
    watcher = Interrupting(times=1)
    with pytest.raises(AnswerEnded):
        answer(solver, "a1b2c3=", Effort(), watcher, observer, number=1)
    assert [event[:2] for event in watcher.events] == [("round", 1)]
    assert len(watcher.texts[0]) < len(before.trajectories[0].turns[0].reply.text)
    assert signal.getsignal(signal.SIGINT) is handler
    assert answer(solver, "a1b2c3=", Effort(), Recorder(), observer, number=1).trajectories == before.trajectories


def test_a_second_ctrl_c_leaves_the_program() -> None:
    solver = Solver(RECIPE, ScriptedPolicy(counting_up))
    with pytest.raises(KeyboardInterrupt):
        answer(solver, "1?", Effort(), Interrupting(times=2), RecordingObserver(), number=1)


@pytest.mark.parametrize(("wrong", "expected"), [(2, KeyboardInterrupt), (0, DataError)])
@pytest.mark.parametrize("is_typed", [True, False])
def test_however_an_answer_ends_the_terminal_gets_its_cursor_back(
    monkeypatch: pytest.MonkeyPatch, is_typed: bool, wrong: int, expected: type[BaseException]
) -> None:
    def script(prompt: str, sampling: Any) -> str:
        for _ in range(wrong):
            os.kill(os.getpid(), signal.SIGINT)
        raise DataError("a later prompt does not fit")

    terminal = Console(file=(file := io.StringIO()), width=80, force_terminal=True)
    view, solver = SolutionView(terminal, shows_thinking=False), Solver(RECIPE, ScriptedPolicy(script))
    monkeypatch.setattr("sys.stdin", io.StringIO("1+1?\n"))
    said = is_typed and expected is DataError
    with nullcontext() if said else pytest.raises(expected):
        if is_typed:
            Chat(solver, Effort(), terminal, view, RecordingObserver()).run()
        else:
            solve_command._answered(solver, "1+1?", Effort(), view, RecordingObserver(), 1)
    hidden, shown = file.getvalue().rindex("\x1b[?25l"), file.getvalue().rindex("\x1b[?25h")
    assert hidden < shown
    assert not said or shown < file.getvalue().index("error: a later prompt")


# ------------------------------------------------------------------------------------------------------------- typing


def chatted(monkeypatch: pytest.MonkeyPatch, *lines: str, script: Any = counting_up) -> list[str]:
    file = io.StringIO()
    terminal = Console(file=file, width=100)
    solver = Solver(RECIPE, ScriptedPolicy(script))
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines) + "\n"))
    Chat(solver, Effort(), terminal, SolutionView(terminal, shows_thinking=False), RecordingObserver()).run()
    return file.getvalue().splitlines()


def test_commands_at_the_prompt_change_what_the_next_question_gets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    saved = tmp_path / "answers.jsonl"
    lines = chatted(
        monkeypatch, "/rounds 5", "/samples 2", "1+1?", "", "/think", "2+2?", f"/save {saved}", f"/save {saved}",
        "/help",
    )  # fmt: skip
    assert lines[1] == "from here on 5 rounds; the recipe has 3"
    assert "── round 5 of 5, 2 samples ──" in lines
    assert "votes     2 of 2 (100.0 %); 5 x2" in lines
    assert "thought" in lines, "after /think"
    rows = [json.loads(line) for line in saved.read_text().splitlines()]
    assert [(row["question"], row["answer"], row["share"]) for row in rows] == [("1+1?", "5", 1.0), ("2+2?", "5", 1.0)]
    assert [len(sample["rounds"]) for sample in rows[0]["samples"]] == [5, 5]
    assert f"error: {saved}: exists; choose another name" in lines
    assert f"2 answers in {saved}" in lines
    assert lines[-1].startswith("Ctrl-C ends an answer")


def test_what_is_wrong_at_the_prompt_is_said_and_the_session_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = [
        "/nothing",
        "/rounds",
        "/rounds 1",
        "/rounds ²",
        "/samples",
        "/samples 0",
        "/save",
        "/save /nowhere/at/all",
        "/save ~nobody-of-this-name/x",
        "/save a\0b",
        "1+\udcff?",
        "x" * 999_999,
    ]
    errors = [line for line in chatted(monkeypatch, *wrong, "1+1?") if line.startswith("error")]
    assert len(errors) == len(wrong)
    assert errors[0] == "error: there is no command /nothing; /help lists all"
    assert "error: /samples needs a number, e.g. /samples 8" in errors
    assert chatted(monkeypatch, *wrong, "1+1?")[-2] == "answer    3"


def test_ctrl_c_at_an_answer_returns_to_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def script(prompt: str, sampling: Any) -> str:
        calls.append(prompt)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return counting_up(prompt, sampling)

    lines = chatted(monkeypatch, "1+1?", "2+2?", script=script)
    assert lines[lines.index("answer ended") + 1] == "question> 2+2?"
    assert lines[-2] == "answer    3"


# ------------------------------------------------------------------------------------------------------- command line


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, ["solve", *arguments])


def test_the_tiny_models_samples_vote_for_the_right_answer_of_a_held_out_problem() -> None:
    done = invoke("--recipe", str(TINY), "--held-out", "--samples", "16", "--json")
    assert done.exit_code == 0, done.stderr
    [row] = [json.loads(line) for line in done.stdout.splitlines()]
    digits = [int(digit) for digit in re.findall(r"\d", row["question"])]
    assert row["answer"] == str(sum(digits) % 10)
    assert row["share"] == row["votes"][0]["count"] / 16
    assert row["tokens"] == sum(each["tokens"] for sample in row["samples"] for each in sample["rounds"])
    assert "solving: question 1 of 1: round 1 of 3, 16 replies" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "solve takes either --run DIR"),
        (["--run", "runs/x", "--recipe", str(TINY)], "solve takes either --run DIR"),
        (["--run", "nowhere"], "nowhere: holds no run"),
        (["--recipe", str(TINY), "--adapter", "nowhere"], "nowhere: there is no such folder"),
        (["--recipe", str(TINY), "--adapter", str(ROOT / "docs")], "contains no adapter"),
        (["--recipe", str(TINY), "--json"], "--json needs QUESTION, --file or --held-out"),
        (["--recipe", str(TINY), "1?", "--held-out"], "one of QUESTION, --file and --held-out"),
        (["--recipe", str(TINY), "--file", "nowhere.txt"], "nowhere.txt: cannot be read"),
        (["--recipe", str(TINY), " "], "the question is empty"),
        (
            ["--recipe", str(TINY.with_name("tiny_cpu_grpo.toml")), "--rounds", "4", "1?"],
            "'single_round' has one round; take a recipe of several",
        ),
        (["--recipe", str(TINY), "--rounds", "1", "1?"], "Invalid value for '--rounds'"),
    ],
)
def test_a_wrong_command_is_one_message(arguments: list[str], message: str) -> None:
    done = invoke(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("q.jsonl", '{"question": "1?"}\n{"q": 1}', "line 2 must be an object with a text"),
        ("q.jsonl", '{"question": " "}', "line 1 must be an object with a text"),
        ("q.jsonl", "{", "line 1 is not JSON"),
        ("q.txt", "\n \n", "holds no question"),
    ],
)
def test_a_malformed_file_is_refused_by_its_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=re.escape(message)):
        questions.read(tmp_path / name)


def test_questions_come_from_json_lines_or_text(tmp_path: Path) -> None:
    (tmp_path / "q.txt").write_text("one?\n\n two?\n")
    assert [(each.line, each.text) for each in questions.read(tmp_path / "q.txt")] == [(1, "one?"), (3, "two?")]
    (tmp_path / "q.jsonl").write_text('{"question": "one\\ntwo?", "answer": "3"}\n')
    assert [each.text for each in questions.read(tmp_path / "q.jsonl")] == ["one\ntwo?"]


def test_answers_without_a_box_say_so() -> None:
    view = SolutionView(Console(file=(file := io.StringIO()), width=80))
    view.solution(Solution("1?", (trajectory(reply("no box")),), (), 0, 1.0))
    assert file.getvalue().startswith("answer    none: no final reply has a \\boxed{} answer")
