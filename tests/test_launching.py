"""How processes of one run are started and seen through, and what is said about them; the processes here are shells."""

import re
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest

from motif_lite.errors import RecipeError, RunError
from motif_lite.jobs import checking, launching, stopping

TINY = Path("recipes/tiny_cpu.toml")

SOON = 20
"""Seconds from Ctrl-C to the end of all, as docs/processes.md says."""


def launched(monkeypatch: pytest.MonkeyPatch, *programs: str) -> int:
    """The exit code of a run whose processes are these programs of the shell."""

    def started(number: int, variables: dict[str, str]) -> launching.Process:
        return subprocess.Popen(["sh", "-c", programs[number]], env=variables, start_new_session=True)

    monkeypatch.setattr(launching, "_started", started)
    return launching.launch(len(programs))


def test_helpers_of_a_main_process_that_waited_for_them_to_its_last_second_end_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun = time.monotonic()
    assert launched(monkeypatch, "exit 130", "exec sleep 60") == 130
    assert time.monotonic() - begun < 10
    assert stopping.FIRST_SECONDS + launching.HELPERS_SECONDS < SOON


@pytest.mark.parametrize("number", ["INT", "TERM"])
def test_a_stop_before_the_main_process_can_heed_it_is_one(monkeypatch: pytest.MonkeyPatch, number: str) -> None:
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        launched(monkeypatch, f"kill -{number} $PPID; exec sleep 60", "exec sleep 60")
    assert time.monotonic() - begun < 5


def test_a_request_that_comes_both_ways_is_one_and_a_second_of_either_is_another() -> None:
    def requests(*numbers: int) -> int:
        counted = stopping._Counted()
        return sum(counted.is_new(number) for number in numbers)

    term, passed_on = signal.SIGTERM, stopping.FROM_LAUNCHER
    assert requests(term, passed_on) == requests(passed_on, term) == 1, "to all processes"
    assert requests(term, passed_on, passed_on, term) == requests(term, term, passed_on, passed_on) == 2
    assert requests(passed_on, passed_on) == requests(term, signal.SIGINT) == 2, "two Ctrl-C; and of one process"


def test_a_kill_after_a_stop_was_asked_for_is_still_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, "FOLLOWING_SECONDS", 0.5)
    with pytest.raises(RunError, match=r"process 1 of 2 was killed \(SIGKILL\)"):
        launched(monkeypatch, "trap '' USR1; kill -INT $PPID; sleep 0.3; kill -KILL $$", "exec sleep 60")


@pytest.mark.parametrize("end", ["exit 2", "exec sleep 60"], ids=["told", "deaf"])
def test_a_helper_that_was_killed_is_named_also_where_the_main_process_has_told_of_its_own_end(
    monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr(launching, "FOLLOWING_SECONDS", 0.5)
    with pytest.raises(RunError, match=r"process 2 of 3 was killed \(SIGKILL\).*for want of memory"):
        launched(monkeypatch, f"sleep 0.2; {end}", "kill -KILL $$", "sleep 0.3; exit 2")


def test_a_helper_that_was_killed_after_the_end_of_the_run_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    assert launched(monkeypatch, "exit 0", "sleep 0.3; kill -KILL $$") == 0
    assert launched(monkeypatch, "sleep 0.2; exit 2", "exit 2") == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["training.problems_per_step=4", "training.micro_batch_size=32"],
         "take --processes 1 or 2 or 4, or --set training.problems_per_step=6 --set training.micro_batch_size=24"),
        (["training.problems_per_step=4", "training.micro_batch_size=16"],
         "take --processes 1 or 2 or 4, or --set training.problems_per_step=6"),
        (['training.credit="chain"', "rollout.num_futures=1", "rewards={future_accuracy=1.0}"],
         "or --set training.problems_per_step=9"),
    ],
)  # fmt: skip
def test_a_step_that_can_be_shared_is_a_recipe_and_a_resumed_run_gets_a_number_of_processes(
    changes: list[str], message: str
) -> None:
    recipe = checking.check(TINY, changes)
    with pytest.raises(RecipeError) as refused:
        launching.require_shareable(recipe, 3, trains=True)
    assert message in str(refused.value)
    wanted = [word for word in shlex.split(str(refused.value)) if word.startswith("training.") and "=" in word]
    launching.require_shareable(checking.check(TINY, [*changes, *wanted]), 3, trains=True)

    with pytest.raises(RecipeError) as refused:
        launching.require_shareable(recipe, 3, trains=True, resumes=True)
    [fitting] = re.findall(r"take --processes ([\d or]+)$", str(refused.value))
    for count in fitting.split(" or "):
        launching.require_shareable(recipe, int(count), trains=True, resumes=True)


def test_no_step_of_more_problems_than_there_are_is_advised() -> None:
    recipe = checking.check(TINY, ["data.num_problems=8", "training.problems_per_step=8"])
    with pytest.raises(RecipeError, match=r"take --processes 1 or 2 or 4 or 8$"):
        launching.require_shareable(recipe, 3, trains=True)


def test_a_resumed_run_is_not_told_to_become_another_one() -> None:
    recipe = checking.check(TINY, ['model.device="cuda:1"'])
    with pytest.raises(RecipeError, match=r"names one GPU; leave --processes out$"):
        launching.require_shareable(recipe, 2, trains=True, resumes=True)
