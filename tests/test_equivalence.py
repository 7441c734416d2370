"""The process behind the judge: what it says, that it comes back, and that it can be shared."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from motif_lite.grading.server import EquivalenceServer


@pytest.fixture(scope="module")
def server() -> Iterator[EquivalenceServer]:
    server = EquivalenceServer()
    yield server
    server.close()


def pid(server: EquivalenceServer) -> int:
    assert server._process is not None
    return server._process.pid


def wait_until_it_answers(server: EquivalenceServer) -> None:
    """A server that was replaced takes a second to start; until then there is no verdict, and never a wrong one."""
    deadline = time.monotonic() + 60
    while (verdict := server.equivalent("2\\sqrt{3}", "\\sqrt{12}")) is None and time.monotonic() < deadline:
        pass
    assert verdict


def test_it_says_whether_two_answers_mean_the_same(server: EquivalenceServer) -> None:
    assert server.equivalent("(x+1)^2", "x^2+2x+1")
    assert server.equivalent("(x+1)^2", "x^2+2x") is False


def test_nothing_runs_before_it_is_asked() -> None:
    assert EquivalenceServer()._process is None


def test_a_comparison_that_overruns_has_no_verdict_and_leaves_the_server_alive(server: EquivalenceServer) -> None:
    server.equivalent("1", "x")
    before = pid(server)
    started = time.perf_counter()
    assert server.equivalent("3", "9^{9^{9^9}}") is None
    assert time.perf_counter() - started <= 2.0
    assert server.equivalent("2\\sqrt{3}", "\\sqrt{12}")
    assert pid(server) == before


def test_a_comparison_that_takes_too_much_memory_has_no_verdict(server: EquivalenceServer) -> None:
    assert server.equivalent("3", "10^{10^{9}}") is None
    assert server.equivalent("2\\sqrt{3}", "\\sqrt{12}")


def test_no_process_outlives_its_comparison(server: EquivalenceServer) -> None:
    server.equivalent("3", "9^{9^{9^9}}")
    children = Path(f"/proc/{pid(server)}/task/{pid(server)}/children")
    if not children.exists():
        pytest.skip("this kernel does not list children")
    assert children.read_text() == ""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_it_is_started_again_after_it_was_killed(server: EquivalenceServer, how: signal.Signals) -> None:
    server.equivalent("1", "x")
    killed = pid(server)
    os.kill(killed, how)
    wait_until_it_answers(server)
    assert pid(server) != killed


def test_it_is_started_again_after_it_was_closed(server: EquivalenceServer) -> None:
    server.close()
    assert server.equivalent("2\\sqrt{3}", "\\sqrt{12}")


def test_a_stopped_server_is_replaced_and_costs_one_answer(server: EquivalenceServer) -> None:
    server.equivalent("1", "x")
    stopped = pid(server)
    os.kill(stopped, signal.SIGSTOP)
    started = time.perf_counter()
    assert server.equivalent("2\\sqrt{3}", "\\sqrt{12}") is None
    assert time.perf_counter() - started <= 2.0
    wait_until_it_answers(server)
    assert pid(server) != stopped


def test_a_server_that_is_being_replaced_is_not_waited_for_beyond_the_deadline(
    server: EquivalenceServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.equivalent("1", "x")
    monkeypatch.setattr(sys, "executable", shutil.which("cat"))  # it reads, and never says that it is ready
    os.kill(pid(server), signal.SIGKILL)
    for _ in range(3):
        started = time.perf_counter()
        assert server.equivalent("2\\sqrt{3}", "\\sqrt{12}") is None
        assert time.perf_counter() - started <= 2.0
    monkeypatch.undo()
    monkeypatch.setattr("motif_lite.grading.server.START_SECONDS", 0.0)  # now it has had its time
    server.equivalent("1", "x")
    monkeypatch.undo()
    wait_until_it_answers(server)


def test_threads_may_share_it_and_each_gets_its_own_answer(server: EquivalenceServer) -> None:
    pairs = [(f"{n}x+{n}x", f"{2 * n + n % 2}x") for n in range(1, 25)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda pair: server.equivalent(*pair), pairs))
    assert answers == [n % 2 == 0 for n in range(1, 25)]


@pytest.mark.parametrize("text", ["", " ", "\n", "\r\n1", "\x00", "\ud800", "\\", "}{", '"', "1\n1\n1", "é" * 900])
def test_any_text_can_be_asked_about_and_does_not_shift_the_answers(server: EquivalenceServer, text: str) -> None:
    server.equivalent("x+1", text)
    server.equivalent(text, "x+1")
    assert server.equivalent("x+1", "1+x")
    assert not server.equivalent("x+1", "2+x")


def test_a_folder_with_modules_of_the_standard_librarys_names_does_not_confuse_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise RuntimeError")
    monkeypatch.chdir(tmp_path)
    elsewhere = EquivalenceServer()
    assert elsewhere.equivalent("x+1", "1+x")
    elsewhere.close()


def test_an_interruption_in_mid_comparison_does_not_shift_the_answers(server: EquivalenceServer) -> None:
    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    server.equivalent("1", "2")
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(KeyboardInterrupt):
            server.equivalent("7", "9^{9^{9^9}}+x")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert not server.equivalent("2x", "x+2")
    assert server.equivalent("y+2", "2+y")
