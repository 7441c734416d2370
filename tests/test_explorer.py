"""The explorer without a browser: what is read of rollouts.jsonl, the page as a file, the server, the command."""

import base64
import http.client
import json
import os
import re
import signal
import socket
import struct
import threading
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from motif_lite import cli
from motif_lite.errors import RunError
from motif_lite.jobs import checking, reporting, view_job
from motif_lite.recipe.keys import changed
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.rollout_lines import RolloutLine
from motif_lite.runs.rollouts import RolloutsReader
from motif_lite.views.explorer.entries import entry, group_json
from motif_lite.views.explorer.server import ExplorerServer, _Handler
from tests import records
from tests.fakes import GOOD_FORM, RecordingObserver

RECIPE = checking.check(
    Path(__file__).parents[1] / "recipes" / "tiny_cpu.toml",
    ["rollout.num_openings=2", "training.micro_batch_size=2", "rewards={future_accuracy=2.0, tag_count=1.0}"],
)


def opening(step: int, problem: str = "p/1", accuracy: float = 0.5, reply: str = "reply") -> RolloutLine:
    turn = {"prompt": "shared", "reply": reply, "tokens": 3, "finish": "length"}
    return records.rollout(
        step, problem=problem, opening=turn, accuracy=accuracy,
        rewards={"future_accuracy": accuracy, "tag_count": 0.25},
        futures=({"rounds": [turn | {"finish": "stop"}], "correct": True},),
    )  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "run", RECIPE, "")


def reader(run: RunDirectory) -> RolloutsReader:
    return RolloutsReader(run.root / "rollouts.jsonl", 2)


def nothing(done: int, total: int) -> None:
    """Where a test does not look at progress."""


def test_groups_come_as_they_become_whole_and_can_be_read_again(run: RunDirectory) -> None:
    followed = reader(run)
    assert list(followed.new_groups()) == [], "no file yet"
    run.append_rollouts([opening(1), opening(1), opening(1, "p/2")])
    (first,) = followed.new_groups()
    assert (first.number, [line.problem for line in first.lines]) == (1, ["p/1", "p/1"])
    with (run.root / "rollouts.jsonl").open("a") as file:
        file.write('{"step": 1, ')  # in mid-write
    assert list(followed.new_groups()) == []
    run.forget_after(1)
    run.append_rollouts([opening(1, "p/2"), opening(2), opening(2)])
    second, third = followed.new_groups()
    assert [line.problem for line in second.lines] == ["p/2", "p/2"]
    assert followed.read(third.start, third.size, third.number) == third


def test_a_group_that_was_cut_short_ends_where_the_next_one_begins(run: RunDirectory) -> None:
    run.append_rollouts([opening(1), opening(2), opening(2), opening(3)])
    followed = reader(run)
    assert [len(group.lines) for group in followed.new_groups()] == [1, 2]
    assert [group.lines[0].step for group in followed.last_group()] == [3]


def test_a_reader_notices_that_lines_it_has_read_were_replaced(run: RunDirectory) -> None:
    run.append_rollouts(opening(step) for step in (1, 1, 2, 2))
    followed = reader(run)
    assert len(list(followed.new_groups())) == 2
    assert not followed.was_rewritten()
    run.forget_after(1)
    assert followed.was_rewritten()
    run.append_rollouts([opening(2, reply="other"), opening(2, reply="longer than before")])
    assert followed.was_rewritten()


def test_an_entry_sums_up_its_group(run: RunDirectory) -> None:
    run.append_rollouts([opening(1, accuracy=0.5, reply=GOOD_FORM.format("a")), opening(1, accuracy=1.0)])
    (group,) = reader(run).new_groups()
    found = entry(RECIPE, group)
    assert (found.accuracy, found.reward, found.spread) == (0.75, 1.75, 1.0), "weights 2 and 1"
    assert (found.has_signal, found.num_broken, found.num_cut, found.num_openings) == (True, 1, 2, 2)
    whole = json.loads(group_json(RECIPE, group))
    assert whole["prompts"] == ["shared"]
    assert [each["above"] for each in whole["openings"]] == [-0.5, 0.5]


def test_signal_follows_the_advantages_where_rounds_were_trained(run: RunDirectory) -> None:
    line = opening(1)
    trained = [
        line.model_copy(update={"opening": line.opening.model_copy(update={"advantage": advantage})})
        for advantage in (0.0, 0.0, 0.0, 0.7)
    ]
    run.append_rollouts(trained)
    assert [entry(RECIPE, group).has_signal for group in reader(run).new_groups()] == [False, True]


def test_openings_that_were_cut_off_give_no_signal_where_they_are_not_trained(run: RunDirectory) -> None:
    run.append_rollouts([opening(1, accuracy=accuracy) for accuracy in (0.0, 1.0)])
    (group,) = reader(run).new_groups()
    assert {line.opening.finish for line in group.lines} == {"length"}
    masking = changed(RECIPE, {"training.mask_truncated_completions": True})
    assert [entry(recipe, group).has_signal for recipe in (RECIPE, masking)] == [True, False]


def test_the_file_holds_every_group_and_no_text_of_it_is_markup(run: RunDirectory) -> None:
    run.append_rollouts([opening(1, "</script><b>", reply="</script><script>alert(1)</script> \ud800")] * 2)
    file = run.root / "page.html"
    view_job.job(run.root).write(file, nothing)
    page = file.read_text(encoding="utf-8")
    assert "alert(1)" not in page and "<b>" not in page.partition("</style>")[2].partition("<script")[2]
    block = re.findall(r'id="g\d+">([^<]*)<', page)
    assert len(block) == 1
    whole = json.loads(zlib.decompress(base64.b64decode(block[0]), wbits=-zlib.MAX_WBITS))
    assert whole["openings"][1]["turn"]["reply"] == "</script><script>alert(1)</script> \ud800"
    assert re.findall(r"url\((?!data:)[^)]*\)", page.partition("<style>")[2].partition("</style>")[0]) == []
    assert "default-src 'none'" in page and "unsafe-inline" not in page and "connect-src" not in page


@pytest.fixture
def server(run: RunDirectory) -> Iterator[ExplorerServer]:
    run.append_rollouts([opening(1), opening(1)])
    with view_job.job(run.root).server(0, nothing) as made:
        threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield made
        made.shutdown()


def asked(server: ExplorerServer, path: str, host: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.request("GET", path, headers={"Host": host or f"localhost:{server.server_port}"})
    answer = connection.getresponse()
    found = answer.status, answer.read().decode()
    connection.close()
    return found


def test_the_server_answers_its_own_address_only(server: ExplorerServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert asked(server, "/")[0] == 200
    for host in ("evil.example", f"evil.example:{server.server_port}", "localhost:1", "localhost"):
        assert asked(server, "/list?from=0", host)[0] == 403


def test_the_server_follows_a_run_and_gives_groups(server: ExplorerServer, run: RunDirectory) -> None:
    assert json.loads(asked(server, "/list?from=0")[1])["rows"][0][:2] == [1, "p/1"]
    run.append_rollouts([opening(2), opening(2)])
    found = json.loads(asked(server, "/list?from=1")[1])
    assert (found["generation"], [row[0] for row in found["rows"]]) == (0, [2])
    assert json.loads(asked(server, "/group?index=1")[1])["step"] == 2
    run.forget_after(1)
    found = json.loads(asked(server, "/list?from=0")[1])
    assert (found["generation"], [row[0] for row in found["rows"]]) == (1, [1])


@pytest.mark.parametrize(
    "path",
    [
        "/group?index=9",
        "/group?index=-1",
        "/group?index=x",
        "/group",
        "/../recipe.toml",
        "/x",
        "http://[",
        "/group?index=" + "9" * 5000,
    ],
)
def test_whatever_else_is_asked_for_is_not_there(server: ExplorerServer, path: str) -> None:
    assert asked(server, path)[0] == 404


def test_a_line_that_is_damaged_later_is_named_in_the_page(server: ExplorerServer, run: RunDirectory) -> None:
    with (run.root / "rollouts.jsonl").open("a") as file:
        file.write("{}\n")
    status, text = asked(server, "/list?from=0")
    assert status == 500
    assert "rollouts.jsonl: line 3 is damaged" in json.loads(text)["error"]


def test_a_group_whose_file_is_gone_is_said_in_the_page(server: ExplorerServer, run: RunDirectory) -> None:
    (run.root / "rollouts.jsonl").unlink()
    status, text = asked(server, "/group?index=0")
    assert (status, json.loads(text)["error"]) == (500, "rollouts.jsonl cannot be read (No such file or directory)")


def test_clients_that_leave_or_are_silent_cost_neither_a_line_nor_a_thread(
    server: ExplorerServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 0 < _Handler.timeout < 60
    monkeypatch.setattr(_Handler, "timeout", 0.2)
    begun, ended = threading.Event(), threading.Event()

    def slow(first: int) -> str:
        begun.set()
        assert ended.wait(20)
        return "x" * 10_000_000

    monkeypatch.setattr(server.followed, "list_json", slow)
    with socket.create_connection(("127.0.0.1", server.server_port)) as leaving:
        leaving.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closed by a reset
        leaving.sendall(f"GET /list?from=0 HTTP/1.0\r\nHost: localhost:{server.server_port}\r\n\r\n".encode())
        assert begun.wait(20)
    ended.set()
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as silent:
        assert silent.recv(1) == b"", "closed by the server"
    assert asked(server, "/")[0] == 200
    assert capsys.readouterr() == ("", "")


def test_the_browser_is_opened_while_the_server_answers(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    run.append_rollouts([opening(1), opening(1)])
    seen = list[int]()

    def browse(url: str) -> None:
        with urllib.request.urlopen(url, timeout=20) as answer:  # as a browser of the terminal's, it waits
            seen.append(answer.status)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("webbrowser.open", browse)
    result = CliRunner().invoke(cli.app, ["view", str(run.root)])
    assert (result.exit_code, seen) == (0, [200]), result.output


def refusal(*words: str) -> str:
    result = CliRunner().invoke(cli.app, ["view", *words])
    assert result.exit_code == 2, result.output
    return " ".join(result.stderr.split())


def test_the_command_refuses_what_has_no_rollouts(run: RunDirectory, tmp_path: Path) -> None:
    page = str(tmp_path / "page.html")
    assert "holds no run (no resolved.json); give a run directory" in refusal(str(tmp_path / "nothing"))
    assert "has no rollouts yet; wait until its first step is done" in refusal(str(run.root), "--html", page)
    run.append_rollouts([opening(1), opening(1)])
    assert "no/page.html: cannot be written" in refusal(str(run.root), "--html", str(tmp_path / "no" / "page.html"))
    (run.root / "rollouts.jsonl").write_text("[]\n")
    assert "rollouts.jsonl: line 1 is damaged" in refusal(str(run.root), "--html", page)
    assert "rollouts.jsonl: line 1 is damaged" in refusal(str(run.root), "--no-browser")
    assert not Path(page).exists()


def test_the_command_refuses_a_run_that_only_evaluates(tmp_path: Path) -> None:
    evaluated = RunDirectory.create(tmp_path / "run", RECIPE, "", trains=False)
    assert "has no rollouts, because this run only evaluates" in refusal(str(evaluated.root))


def test_a_port_in_use_is_refused(server: ExplorerServer, run: RunDirectory) -> None:
    with pytest.raises(RunError, match=f"port {server.server_port} cannot be used .*choose another --port"):
        view_job.job(run.root).server(server.server_port, nothing)


def test_the_command_writes_a_page(run: RunDirectory, tmp_path: Path) -> None:
    run.append_rollouts([opening(1), opening(1)])
    result = CliRunner().invoke(cli.app, ["view", str(run.root), "--html", str(tmp_path / "page.html")])
    assert result.exit_code == 0, result.output
    assert 'id="g0"' in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("line", "largest", "told"), [("", 10**6, ""), ("[]\n", 10**6, "was not written"), ("", 1, "run.py view")]
)
def test_a_run_ends_with_the_page_or_with_a_word_about_it(
    line: str, largest: int, told: str, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.append_rollouts([opening(1), opening(1)])
    page = run.root / "rollouts.html"
    page.write_text("an earlier one")
    with (run.root / "rollouts.jsonl").open("a") as file:
        file.write(line)
    monkeypatch.setattr(reporting, "_LARGEST_ROLLOUTS", largest)
    observer = RecordingObserver()
    reporting._show_rollouts(RECIPE, run, observer)
    assert page.exists() == (not told)
    assert told in " ".join(observer.notes)
