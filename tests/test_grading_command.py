"""`run.py grade`: the verdict and its reason in words, and files of pairs."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from motif_lite import cli
from motif_lite.evaluation.verdicts import verdict, verdicts
from motif_lite.grading.answers import ruling_on_answer
from tests.fakes import GOOD_FORM
from tests.processes import running_in
from tests.test_console import HOSTILE

ROOT = Path(__file__).parents[1]
TOWER = "\\boxed{7^{7^{7^{7}}}}"


def invoke(*arguments: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(cli.app, ["grade", *arguments], input=typed)


def said(*arguments: str, typed: str | None = None) -> list[str]:
    done = invoke(*arguments, typed=typed)
    assert (done.exit_code, done.stderr) == (0, "")
    return done.stdout.splitlines()


def rule(gold: str, answer: str) -> str:
    """What decides, in the words of the rules."""
    return ruling_on_answer(gold, answer).rule


def refused(*arguments: str) -> str:
    done = invoke(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    return done.stderr


def pairs_file(tmp_path: Path, *lines: str) -> str:
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_a_verdict_names_its_rule_the_box_and_the_score() -> None:
    assert said("42", GOOD_FORM.format("\\boxed{41}, no, \\boxed{42}")) == [
        f"right: {rule('42', '42')}",
        "answer    42",
        "from      the last of 2 boxes, characters 59 to 68",
        "score     2 of 2: the box is inside <answer>",
    ]
    assert said("42", "\\boxed{43}") == [
        f"wrong: {rule('42', '43')}",
        "answer    43",
        "from      the only box, characters 1 to 10",
        "score     0 of 2",
    ]
    assert said("x+1", "so \\boxed{1+x}")[::3] == [
        f"right: {rule('x+1', '1+x')}",
        "score     1 of 2: the box is not inside <answer>",
    ]


def test_a_reply_without_a_box_earns_nothing_and_what_it_would_be_in_one_is_told() -> None:
    assert said("1+x", "x+1") == [
        "wrong: no box, no credit",
        f"in a box  the whole reply would be right: {rule('1+x', 'x+1')}",
        "score     0 of 2",
    ]
    assert said("42", "it is " + "long " * 400)[1].startswith("in a box  the whole reply would be wrong: longer than")


def test_an_answer_without_a_verdict_says_which_limit_it_reached() -> None:
    assert said("3", TOWER)[0] == ("no verdict, counts as wrong: the comparison took more than 1.5 s of processor time")


def test_answers_may_begin_with_a_minus_and_replies_come_from_standard_input() -> None:
    assert said("-3", "-3")[1] == f"in a box  the whole reply would be right: {rule('-3', '-3')}"
    assert said("-3", "-", typed="a long reply\n\\boxed{-3}\n")[0] == f"right: {rule('-3', '-3')}"


def test_whatever_a_reply_holds_is_printed_as_text() -> None:
    text = "\n".join(said("42", "\\boxed{" + HOSTILE.replace("\ud800", "") + "}"))
    assert "[red]bold[/]" in text
    assert not set(text) & set("\x1b\x07\r\x08\x9b\u202e")


def test_a_file_of_pairs_gives_a_line_of_json_for_each(tmp_path: Path) -> None:
    rows = [
        {"gold": "42", "reply": "\\boxed{42}", "source": "mine"},
        {"gold": "1", "reply": "1"},
        {"gold": "3", "reply": TOWER},
    ]
    lines = [json.dumps(row) for row in rows]
    done = invoke("--pairs", pairs_file(tmp_path, lines[0], "", *lines[1:]))
    assert done.exit_code == 0
    assert done.stderr.endswith("3 replies: 1 right, 1 wrong, 1 without a verdict\n")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert found[0] == {
        "line": 1, "correct": True, "rule": rule("42", "42"), "undone": False, "score": 1.0, "answer": "42",
        "box": [0, 10], "num_boxes": 1, "if_boxed": None,
    }  # fmt: skip
    assert [line["line"] for line in found] == [1, 3, 4], "blank lines count"
    assert found[1]["if_boxed"] == {"correct": True, "rule": rule("1", "1")}
    assert (found[1]["correct"], found[1]["box"], found[1]["num_boxes"]) == (False, None, 0)
    assert (found[2]["correct"], found[2]["score"]) == (None, 0.0)


def test_an_answer_left_undone_is_told_apart(tmp_path: Path) -> None:
    done = invoke("--pairs", pairs_file(tmp_path, json.dumps({"gold": "72", "reply": "\\boxed{48+48/2}"})))
    found = json.loads(done.stdout)
    assert (found["correct"], found["undone"]) == (False, True)


def test_a_file_is_graded_as_each_of_its_replies_is(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [("2x", f"\\boxed{{{n}x+x}}") for n in range(4)] + [("2x", "x+x"), ("2x", "none")]
    told: list[tuple[int, int]] = []
    monkeypatch.setattr("motif_lite.evaluation.verdicts.AT_ONCE", 4)
    assert verdicts(pairs, lambda done, total: told.append((done, total))) == [verdict(*pair) for pair in pairs]
    assert told[-1] == (6, 6)
    assert told == sorted(told)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"gold": "1", "reply": "1"}', "{"], "line 2 is not JSON"),
        (["", '{"gold": "1"}'], 'line 2 must be an object {"gold": ..., "reply": ...}'),
        (['["1", "1"]'], "line 1 must be an object"),
        (['{"gold": 1, "reply": "1"}'], "with two texts"),
        ([""], "is empty"),
    ],
)
def test_a_malformed_file_is_refused_by_its_line(tmp_path: Path, lines: list[str], message: str) -> None:
    told = refused("--pairs", pairs_file(tmp_path, *lines))
    assert "pairs.jsonl: " in told
    assert message in told


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert "gone.jsonl: cannot be read (No such file or directory)" in refused("--pairs", str(tmp_path / "gone.jsonl"))
    assert "cannot be read (Is a directory)" in refused("--pairs", str(tmp_path))


def test_a_command_that_is_incomplete_says_what_it_takes(tmp_path: Path) -> None:
    for arguments in ((), ("3",), ("3", "4", "--pairs", "x")):
        assert "grade takes either GOLD and REPLY, or --pairs FILE" in refused(*arguments)
    assert "grade has no option --pair" in refused("--pair", "x")


def test_ctrl_c_ends_it_with_130_and_leaves_no_process(tmp_path: Path) -> None:
    rows = [json.dumps({"gold": "3", "reply": f"\\boxed{{{n}^{{9^{{9^9}}}}}}"}) for n in range(2, 200)]
    command = [sys.executable, "run.py", "grade", "--pairs", pairs_file(tmp_path, *rows)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        process.kill()
        pytest.skip("this system does not list children")
    deadline = time.monotonic() + 600
    while not (servers := children.read_text().split()) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.0)  # into the first comparisons
    process.send_signal(signal.SIGINT)
    out, told = process.communicate(timeout=600)
    assert (process.returncode, out) == (130, "")
    assert told.endswith("interrupted\n")
    assert "Traceback" not in told
    assert servers
    deadline = time.monotonic() + 60  # they are killed, which a busy machine takes a moment for
    while (left := [process for server in servers for process in running_in(int(server))]) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.05)
    assert not left
