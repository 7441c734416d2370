"""The judge's process: what it says, that nothing but the pair decides it, and that nothing is left of it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from motif_lite.grading import judge as judging
from motif_lite.grading import server
from motif_lite.grading.judge import LOST, Judge
from tests.processes import is_running

ROOT = Path(__file__).parents[1]
TOWER = "9^{9^{9^9}}"
TOO_LONG = f"the comparison took more than {server.CPU_SECONDS:g} s of processor time"

needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="this system does not list children")


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    judge = Judge()
    yield judge
    judge.close()


def equivalent(judge: Judge, gold: str, answer: str) -> bool | None:
    [ruling] = judge.judge([(gold, answer)]).rulings
    return ruling.correct


def rule(judge: Judge, gold: str, answer: str) -> str:
    [ruling] = judge.judge([(gold, answer)]).rulings
    return ruling.rule


def pid(judge: Judge) -> int:
    assert judge._process is not None
    return judge._process.pid


def forks(of: int) -> list[int]:
    """The comparisons that are under way in a server."""
    try:
        return [int(child) for child in Path(f"/proc/{of}/task/{of}/children").read_text().split()]
    except OSError:
        return []


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@contextmanager
def meanwhile(work: Callable[[], object]) -> Iterator[None]:
    """Do something in another thread; its failure is the test's."""
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(work)
        yield
        done.result()


# ------------------------------------------------------------------------------------------------------ what it says


def test_it_says_whether_two_answers_mean_the_same(judge: Judge) -> None:
    assert equivalent(judge, "(x+1)^2", "x^2+2x+1")
    assert equivalent(judge, "(x+1)^2", "x^2+2x") is False


def test_many_pairs_have_their_rulings_in_order(judge: Judge) -> None:
    pairs = [(f"{n}x+{n}x", f"{2 * n + n % 2}x") for n in range(1, 8)]
    told: list[tuple[int, int]] = []
    judged = judge.judge(pairs, lambda done, total: told.append((done, total)))
    assert [ruling.correct for ruling in judged.rulings] == [n % 2 == 0 for n in range(1, 8)]
    assert judged.num_retries == 0
    assert told[-1] == (7, 7)
    assert told == sorted(told)


def test_nothing_runs_before_it_is_asked() -> None:
    judge = Judge()
    assert judge.judge([]).rulings == []
    assert judge._process is None


def test_a_comparison_that_overruns_has_no_verdict_and_leaves_the_process_alive(judge: Judge) -> None:
    equivalent(judge, "1", "x")
    before = pid(judge)
    judged = judge.judge([("3", TOWER)])
    assert [(ruling.correct, ruling.rule) for ruling in judged.rulings] == [(None, TOO_LONG)]
    assert judged.num_retries == 0
    assert equivalent(judge, "2\\sqrt{3}", "\\sqrt{12}")
    assert pid(judge) == before


def test_a_comparison_that_takes_too_much_memory_has_no_verdict(judge: Judge) -> None:
    [ruling] = judge.judge([("3", "10^{10^{9}}")]).rulings
    assert ruling.correct is None
    assert ruling != LOST
    assert equivalent(judge, "2\\sqrt{3}", "\\sqrt{12}")


def test_threads_may_share_it_and_each_gets_its_own_answer(judge: Judge) -> None:
    pairs = [(f"{n}x+{n}x", f"{2 * n + n % 2}x") for n in range(1, 8)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda pair: equivalent(judge, *pair), pairs))
    assert answers == [n % 2 == 0 for n in range(1, 8)]


def test_any_text_can_be_asked_about_and_does_not_shift_the_answers(judge: Judge) -> None:
    texts = ["", " ", "\n", "\r\n1", "\x00", "\ud800", "\\", "}{", '"', "1\n1\n1", "é" * 900]
    odd = [pair for text in texts for pair in (("x+1", text), (text, "x+1"), ("x+1", "1+x"))]
    assert [ruling.correct for ruling in judge.judge(odd).rulings[2::3]] == [True] * len(texts)


def test_a_folder_with_modules_of_the_standard_librarys_names_does_not_confuse_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise RuntimeError")
    monkeypatch.chdir(tmp_path)
    elsewhere = Judge()
    assert equivalent(elsewhere, "x+1", "1+x")
    elsewhere.close()


# ---------------------------------------------------------------------------------------- what else happens to it


@needs_proc
def test_as_many_comparisons_run_at_a_time_as_there_are_processors(judge: Judge) -> None:
    equivalent(judge, "1", "x")
    usable = min(len(os.sched_getaffinity(0)), judging.MOST_FORKS)
    with meanwhile(lambda: judge.judge([("3", f"{n}^{TOWER}") for n in range(2, 3 + usable)])):
        wait_for(lambda: len(forks(pid(judge))) == usable)
    assert forks(pid(judge)) == []


def test_a_process_that_is_killed_is_replaced_and_asked_again(judge: Judge) -> None:
    equivalent(judge, "1", "x")
    killed = pid(judge)
    os.kill(killed, signal.SIGTERM)
    judged = judge.judge([("2\\sqrt{3}", "\\sqrt{12}")])
    assert [ruling.correct for ruling in judged.rulings] == [True]
    assert judged.num_retries == 1
    assert pid(judge) != killed


@needs_proc
def test_a_comparison_that_is_killed_is_made_again(judge: Judge) -> None:
    equivalent(judge, "1", "x")
    before = pid(judge)

    def kill() -> None:
        wait_for(lambda: forks(before))
        os.kill(forks(before)[0], signal.SIGKILL)

    with meanwhile(kill):
        judged = judge.judge([("3", TOWER)])
    assert [ruling.rule for ruling in judged.rulings] == [TOO_LONG]
    assert judged.num_retries == 1
    assert pid(judge) == before


@needs_proc
@pytest.mark.parametrize("which", ["server", "comparison"])
def test_what_is_stopped_is_continued(judge: Judge, which: str) -> None:
    equivalent(judge, "1", "x")
    before = pid(judge)

    def stop() -> None:
        wait_for(lambda: forks(before))
        os.kill(before if which == "server" else forks(before)[0], signal.SIGSTOP)

    with meanwhile(stop):
        assert rule(judge, "3", TOWER) == TOO_LONG
    assert pid(judge) == before


def test_a_comparison_without_processor_time_is_asked_again_with_more_patience(
    judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    equivalent(judge, "1", "x")
    monkeypatch.setattr(judging, "WALL_SECONDS", 0.4 * server.CPU_SECONDS)
    judged = judge.judge([("3", TOWER)])
    assert [ruling.rule for ruling in judged.rulings] == [TOO_LONG]
    assert judged.num_retries >= 2


def test_a_verdict_that_is_lost_each_time_is_told_apart_from_one_that_overran(
    judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "WALL_SECONDS", 0.01)
    monkeypatch.setattr(judging, "MOST_TIMES", 2)
    judged = judge.judge([("3", TOWER)])
    assert judged.rulings == [LOST]
    assert judged.num_retries == 1


def test_one_that_is_killed_while_it_starts_is_started_again() -> None:
    judge = Judge()

    def kill() -> None:
        wait_for(lambda: judge._process is not None)
        os.kill(pid(judge), signal.SIGKILL)

    with meanwhile(kill):
        assert equivalent(judge, "2\\sqrt{3}", "\\sqrt{12}")
    judge.close()


@pytest.mark.parametrize("program", ["exit 1", "exec sleep 60", None])
def test_one_that_cannot_start_raises_and_leaves_nothing(
    program: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interpreter = tmp_path / "python"
    if program is not None:
        interpreter.write_text(f"#!/bin/sh\n{program}\n")
        interpreter.chmod(0o755)
    judge = Judge()
    monkeypatch.setattr(judging, "START_SECONDS", 0.5 if program == "exec sleep 60" else 60.0)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    with pytest.raises(TimeoutError if program == "exec sleep 60" else OSError):
        judge.judge([("x+1", "1+x")])
    assert (judge._process, judge._channel) == (None, None)


def test_an_interruption_in_mid_comparison_does_not_shift_the_answers(judge: Judge) -> None:
    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    equivalent(judge, "1", "2")
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(KeyboardInterrupt):
            equivalent(judge, "7", f"{TOWER}+x")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert not equivalent(judge, "2x", "x+2")
    assert equivalent(judge, "y+2", "2+y")


# ------------------------------------------------------------------------------------------- on a machine under load

QUIET = [
    ("(x+1)^2", "x^2+2x+1", True), ("2\\sqrt{3}", "\\sqrt{12}", True), ("x^2+1", "x^2-1", False),
    ("(3,4)", "(3,\\frac{8}{2})", True), ("\\{1,2\\}", "\\{2,3\\}", False), ("\\frac{\\pi}{2}", "\\pi/2", True),
    ("6-5i", "6+5i", False), ("y=2x+1", "2x+1=y", True), ("[0,1)", "[0,1]", False), ("\\sqrt{2}", "2^{1/2}", True),
]  # fmt: skip


@contextmanager
def busy_loops(number: int) -> Iterator[None]:
    command = [sys.executable, "-c", "while True: pass"]  # in sessions of their own: Linux shares processors by session
    loops = [subprocess.Popen(command, start_new_session=True) for _ in range(number)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


class Vandal:
    """After an answer does what comes next to the server or to a comparison that is under way."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.left = [(whom, how) for how in (signal.SIGSTOP, signal.SIGKILL) for whom in ("comparison", "server")]

    def __call__(self, done: int, total: int) -> None:
        if self.left and self.judge._process is not None:  # None: it is being replaced
            whom, how = self.left[0]
            with suppress(ProcessLookupError, IndexError):  # what was under way has ended: at the next answer
                os.kill(pid(self.judge) if whom == "server" else forks(pid(self.judge))[0], how)
                del self.left[0]


@needs_proc
def test_under_six_busy_loops_and_with_processes_killed_and_stopped_verdicts_are_those_of_a_quiet_machine(
    judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "num_forks", lambda: 2)  # after an answer there is another comparison to disturb
    pairs = [("3", TOWER), *((gold, answer) for gold, answer, _ in QUIET), ("(x+2)^2", "x^2+4x+4")]
    vandal = Vandal(judge)
    with busy_loops(6):
        judged = judge.judge(pairs, vandal)
    assert [ruling.correct for ruling in judged.rulings] == [None, *(same for _, _, same in QUIET), True]
    assert judged.rulings[0].rule == TOO_LONG
    assert judged.num_retries
    assert not vandal.left, "what was to be done to it was not"


def test_a_fork_of_the_caller_has_a_process_of_its_own(judge: Judge) -> None:
    equivalent(judge, "1", "x")
    before = pid(judge)
    fork = os.fork()
    if fork == 0:
        code = 1
        try:
            right = equivalent(judge, "x+1", "1+x") and pid(judge) != before
            judge.close()
            code = 0 if right else 1
        finally:
            os._exit(code)
    assert os.waitpid(fork, 0)[1] == 0
    assert equivalent(judge, "2x+1", "1+2x")
    assert pid(judge) == before


# ------------------------------------------------------------------------------------------------- what is left of it

LEFT = """
import os, sys, threading
from motif_lite.grading.judge import Judge
judge = Judge()
judge.judge([("x+1", "1+x")])
print(judge._process.pid, flush=True)
if sys.argv[1] == "in mid-comparison":
    judge.judge([("3", "9^{9^{9^9}}"), ("3", "8^{8^{8^8}}")] * 50)
"""


@needs_proc
@pytest.mark.parametrize("end", ["by itself", "in mid-comparison"])
def test_when_its_caller_ends_or_is_killed_nothing_is_left_of_it(end: str) -> None:
    with subprocess.Popen([sys.executable, "-c", LEFT, end], cwd=ROOT, stdout=subprocess.PIPE) as caller:
        assert caller.stdout is not None
        its_server = int(caller.stdout.readline())
        under_way: list[int] = []
        if end == "in mid-comparison":
            wait_for(lambda: forks(its_server))
            under_way = forks(its_server)
            os.kill(under_way[0], signal.SIGSTOP)
            caller.kill()
        caller.wait()
    wait_for(lambda: not any(map(is_running, [its_server, *under_way])))


@needs_proc
def test_closing_it_leaves_nothing_even_of_one_that_is_stopped(judge: Judge) -> None:
    equivalent(judge, "x+1", "1+x")
    its_server = pid(judge)
    os.kill(its_server, signal.SIGSTOP)
    judge.close()
    assert not is_running(its_server)
    assert judge._process is None
