"""Files that one process at a time holds: on one machine, and between machines that share a folder."""

import errno
import fcntl
import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from motif_lite import leases, locks
from motif_lite.errors import RunError
from motif_lite.runs import folders, lock
from tests.faults.nursery import Nursery

Machine = Callable[[str], None]

HOLDS = (
    "import sys, time; from pathlib import Path; from motif_lite import leases, locks; "
    "leases.BEAT_SECONDS = 0.02; held = locks.taken(Path({path!r})); print(held.__enter__()[1], flush=True); "
    "time.sleep(60)"
)
"""A process that takes a file and keeps it."""


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Makes this process one of another machine, as far as leases go."""

    def on(name: str) -> None:
        monkeypatch.setenv(leases.MACHINE, name)

    on("here")
    return on


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system on which every machine has `flock` to itself: this process gets what the other one has, too."""
    monkeypatch.setattr(fcntl, "flock", lambda file, how: None)


def ours(path: Path) -> bool:
    with locks.taken(path) as (_, is_ours):
        return is_ours


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def begun(nursery: Nursery, tmp_path: Path) -> Iterator[Callable[[str], int]]:
    """Starts a process on a machine of that name, which holds ``tmp_path / "file"``; gives its number."""
    children = []

    def begin(machine: str) -> int:
        log = tmp_path.with_name(f"{tmp_path.name}.log")
        child = nursery.start(
            log=log,
            before=HOLDS.format(path=str(tmp_path / "file")),
            environment=os.environ | {leases.MACHINE: machine},
        )
        children.append(child)
        child.until(lambda: child.printed().startswith("True"))
        return child.pid

    yield begin
    for child in children:
        child.send(9)  # its number is its own until it is waited for
        child.wait()


def grown_old(path: Path) -> None:
    """The last sign of life was longer ago than that of the living."""
    long_ago = time.time() - leases.STALE_SECONDS - 1
    os.utime(path, (long_ago, long_ago))


# ------------------------------------------------------------------------------------------------- one machine


def test_a_process_that_was_killed_has_let_go_at_once(begun: Callable[[str], int], on: Machine, tmp_path: Path) -> None:
    path, process = tmp_path / "file", begun("here")
    assert locks.is_held(path)
    assert not ours(path)
    os.kill(process, 9)
    while locks.is_held(path):
        time.sleep(0.01)
    assert ours(path)
    assert names(tmp_path) == ["file", "file.2"], "what is left behind does not add up"


def test_asking_makes_nothing(tmp_path: Path, on: Machine) -> None:
    assert not locks.is_held(tmp_path / "file")
    assert names(tmp_path) == []
    assert ours(tmp_path / "file")
    assert not locks.is_held(tmp_path / "file")
    assert names(tmp_path) == ["file", "file.1"]


def test_a_disk_without_room_leaves_nothing_that_is_held(tmp_path: Path, on: Machine) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))  # files can be made, but nothing is written
    try:
        with pytest.raises(OSError, match="File too large"), locks.taken(tmp_path / "file"):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "file.1").stat().st_size == 0
    assert ours(tmp_path / "file")


# ------------------------------------------------------------------------------------------------- several machines


def test_what_another_machine_holds_is_left_to_it_until_its_signs_of_life_end(
    begun: Callable[[str], int], on: Machine, deaf: None, tmp_path: Path
) -> None:
    path, process = tmp_path / "file", begun("there")
    assert not ours(path)
    assert locks.is_held(path)
    grown_old(tmp_path / "file.1")
    while not locks.is_held(path):  # the next sign of life is some hundredths of a second away
        time.sleep(0.01)
    os.kill(process, 9)
    assert not ours(path), "it may be alive, for all that is known here"
    grown_old(tmp_path / "file.1")
    assert ours(path)
    assert names(tmp_path) == ["file", "file.2"]


def test_who_was_taken_for_dead_ends_and_says_so(
    begun: Callable[[str], int], on: Machine, deaf: None, tmp_path: Path
) -> None:
    path, process = tmp_path / "file", begun("there")
    os.kill(process, 19)  # SIGSTOP: as if it was asleep
    time.sleep(0.1)
    grown_old(tmp_path / "file.1")
    with locks.taken(path) as (_, is_ours):
        assert is_ours
        os.kill(process, 18)
        log = tmp_path.with_name(f"{tmp_path.name}.log")
        while "error: " not in log.read_text():
            time.sleep(0.01)
        assert f"{path}: another machine has taken over" in log.read_text()
    assert names(tmp_path) == ["file", "file.2"], "it has not touched what is no longer its own"


def test_letting_go_is_seen_at_once_on_another_machine(on: Machine, deaf: None, tmp_path: Path) -> None:
    assert ours(tmp_path / "file")
    on("there")
    assert ours(tmp_path / "file")


def test_one_at_a_time_of_many_machines_gets_it_and_all_in_the_end(
    deaf: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the order in which they look and make their numbers. Every thread is a machine of its own."""
    path, inside, most = tmp_path / "file", [0], [0]
    monkeypatch.setattr(leases, "machine", lambda: f"machine {threading.get_ident()}")

    def work() -> None:
        times = 0
        while times < 5:
            with locks.taken(path) as (_, is_ours):
                if is_ours:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    time.sleep(0.001)
                    inside[0] -= 1
                    times += 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == [1]
    assert names(tmp_path) == ["file", "file.40"]


def test_a_number_that_had_been_made_and_removed_meanwhile_is_none(on: Machine, tmp_path: Path) -> None:
    """Who looked long ago, and makes the next number now, has lost to all who came since."""
    path = tmp_path / "file"
    path.touch()
    for _ in range(3):
        assert ours(path)
    with leases.taken(path, 1) as is_ours:
        assert not is_ours
    assert names(tmp_path) == ["file", "file.3"]


def test_a_file_that_is_waited_for_is_got_when_the_other_machine_is_dead(
    on: Machine, deaf: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_PATIENCE_SECONDS", 0.01)
    path = tmp_path / "file"
    path.touch()
    (tmp_path / "file.7").write_text("4242 on there\n")
    threading.Timer(0.2, grown_old, [tmp_path / "file.7"]).start()
    began = time.monotonic()
    with locks.taken(path, wait=True) as (_, is_ours):
        assert is_ours
        assert time.monotonic() - began > 0.15
    assert names(tmp_path) == ["file", "file.8"]


def test_where_there_is_no_flock_the_lease_is_between_processes_too(
    on: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(file: object, how: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", none)
    path = tmp_path / "file"
    with locks.taken(path) as (_, is_ours):
        assert is_ours
        assert not ours(path)
        assert locks.is_held(path)
    assert ours(path)


def test_a_run_of_another_machine_is_refused_with_what_to_do(on: Machine, tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    (tmp_path / "lock.3").write_text("4242 on node7:1a2b3c4d\n")
    assert folders._holds_nothing(tmp_path)
    with pytest.raises(RunError) as told, lock.held(tmp_path):
        pass
    assert str(told.value) == (
        f"{tmp_path}: is in use by process 4242 on the machine node7:1a2b3c4d, which gave a sign of life 0 s ago; wait "
        f"until it ends, stop it, repeat the command in 180 s if that machine is gone, or choose another --out"
    )


def test_a_machine_is_told_from_others_and_from_itself_before_it_was_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(leases.MACHINE, raising=False)
    name, _, boot = leases.machine().partition(":")
    assert name == os.uname().nodename
    assert boot == Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
