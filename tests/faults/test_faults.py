"""Signals, kills, damaged checkpoints and full disks, on real processes and files; tests/faults/soak.py does more."""

import os
import pty
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from motif_lite.runs.directory import RunDirectory
from tests.faults.nursery import Child, Nursery
from tests.faults.soak import ROOT, compare

SMALL = [
    "rollout.num_openings=4", "rollout.num_futures=2", "rollout.max_width=8", "training.problems_per_step=2",
    "training.micro_batch_size=8", "training.max_steps=3", "training.save_every=1", "data.num_problems=16",
    'evaluation.strategies=["multi_round"]', "evaluation.greedy=false", "evaluation.before=false",
    "evaluation.benchmarks.chain_sum.num_problems=20",
]  # fmt: skip

LONG_STEP = """
import hashlib, pathlib, time
from motif_lite.rollout import rewards
from motif_lite.training import saving
working, calls = rewards.REWARDS["tag_count"], []
def slow(opening):
    calls.append(opening)
    if len(calls) == 8 * {step} - 7:
        pathlib.Path("{marker}").touch()
        {wait}
    return working(opening)
rewards.REWARDS["tag_count"] = slow
saving.SHARE = {share}
"""
"""Eight openings a step. The share of time that saving may take decides if every step is saved, or only the first."""
ALWAYS, NEVER = 1e9, 1e-9
SLEEPS, IN_NATIVE_CODE = "time.sleep(60)", 'hashlib.pbkdf2_hmac("sha256", b"", b"", 500_000_000)'
SLOW_TO_LISTEN = f'hashlib.pbkdf2_hmac("sha256", b"", b"", 1_000_000); {SLEEPS}'
"""Two signals come before Python runs the handler of the first, once for both."""
BROKEN_REWARD = """
from motif_lite.rollout import rewards
working, calls = rewards.REWARDS["tag_count"], []
def broken(opening):
    calls.append(opening)
    return working(opening) if len(calls) < 12 else {}["no such key"]
rewards.REWARDS["tag_count"] = broken
"""
SMALL_FILES = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))"
"""The optimiser's state has more bytes, the adapter has fewer."""

SLOW_DISK = """
from motif_lite.runs import sealing
quick = sealing.seal
def slow(folder, place, **named):
    if pathlib.Path("{marker}").exists():
        pathlib.Path("{marker} and saving").touch()
        time.sleep({seconds})
    return quick(folder, place, **named)
sealing.seal = slow
"""
"""Slow only once the long step has begun."""

Start = Callable[..., Child]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def begin(nursery: Nursery, out: Path, tmp_path: Path) -> Start:
    """Begin a run."""

    def start(*more: str, before: str = "", terminal: str = "", out: Path = out) -> Child:
        changes = [part for change in (*SMALL, *more) for part in ("--set", change)]
        words = ["--recipe", "recipes/tiny_cpu.toml", "--out", str(out), *changes]
        return nursery.start(*words, log=tmp_path / "begin.log", before=before, terminal=terminal)

    return start


@pytest.fixture
def resume(nursery: Nursery, out: Path, tmp_path: Path) -> Start:
    """Go on with a run."""

    def start(out: Path = out, log: str = "resume.log") -> Child:
        return nursery.start("--resume", "--out", str(out), log=tmp_path / log)

    return start


@pytest.fixture(scope="module")
def whole(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing happens to."""
    out = tmp_path_factory.mktemp("faults") / "whole"
    changes = [part for change in SMALL for part in ("--set", change)]
    words = ["--recipe", "recipes/tiny_cpu.toml", "--out", str(out), *changes]
    child = nursery.start(*words, log=out.parent / "log")
    assert child.wait() == 0, child.printed()
    return out


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def require_finished(child: Child, whole: Path, out: Path) -> None:
    assert child.wait() == 0, child.printed()
    assert compare(whole, out) == []


def test_a_stopped_step_is_saved_and_the_resumed_run_is_the_run_that_was_not_stopped(
    begin: Start, resume: Start, whole: Path, out: Path
) -> None:
    child = begin()
    child.until(lambda: lines(out / "metrics.jsonl") == 1)
    child.send(signal.SIGINT)
    assert child.wait() == 130
    assert f"to continue: python run.py --resume --out {out}" in child.printed()
    assert "Traceback" not in child.printed()
    assert 1 <= lines(out / "metrics.jsonl") < 3, "the run was too quick to be stopped"
    require_finished(resume(), whole, out)


def test_a_stopped_evaluation_goes_on_with_its_next_part_and_meanwhile_the_run_is_locked(
    begin: Start, resume: Start, whole: Path, out: Path
) -> None:
    parts = out / "evaluations" / "chain_sum.after.multi_round.sampled.jsonl.parts"
    child = begin()
    child.until(lambda: lines(parts) == 2)  # its settings and the first part
    child.send(signal.SIGSTOP)  # or it is done before the other one has looked
    other = resume(log="other.log")
    assert other.wait() == 2
    assert f"is in use by process {child.pid}; wait until it ends" in other.printed()
    child.send(signal.SIGTERM)
    child.send(signal.SIGCONT)
    assert child.wait() == 130
    kept = parts.read_text()
    going_on = resume()
    going_on.until(lambda: lines(parts) != 2)
    assert not parts.exists() or parts.read_text().startswith(kept)
    require_finished(going_on, whole, out)


def in_a_long_step(begin: Start, out: Path, step: int, wait: str, share: float, saving: int = 0) -> Child:
    """A run in the middle of a step; nothing but time asks for a checkpoint before the last one."""
    marker = out.parent / "in the step"
    before = LONG_STEP.format(step=step, marker=marker, wait=wait, share=share)
    before += SLOW_DISK.format(marker=marker, seconds=saving)
    child = begin("training.save_every=1000", before=before)
    child.until(marker.exists)
    return child


@pytest.mark.parametrize("wait", [SLEEPS, IN_NATIVE_CODE], ids=["slow", "deaf"])
def test_a_stop_waits_for_the_step_and_a_second_signal_ends_the_run_at_once(begin: Start, out: Path, wait: str) -> None:
    child = in_a_long_step(begin, out, 1, wait, NEVER)
    child.send(signal.SIGTERM)
    child.until(lambda: "stopping once the running step is finished and saved, its length is not" in child.printed())
    started = time.monotonic()
    child.send(signal.SIGINT)
    assert child.wait() == 130
    assert time.monotonic() - started < 5
    assert "--resume --out" in child.printed()


def test_a_step_is_finished_however_long_it_takes(begin: Start, resume: Start, whole: Path, out: Path) -> None:
    child = in_a_long_step(begin, out, 3, "time.sleep(3)", NEVER)
    child.send(signal.SIGINT)
    assert child.wait() == 130
    assert re.search(r"stopping once the running step is finished and saved, about 0:0\d left", child.printed())
    assert lines(out / "metrics.jsonl") == 3
    require_finished(resume(), whole, out)


def test_a_kill_costs_no_finished_step_where_each_is_saved(begin: Start, resume: Start, whole: Path, out: Path) -> None:
    child = in_a_long_step(begin, out, 3, SLEEPS, ALWAYS)
    before = (out / "metrics.jsonl").read_bytes()
    child.send(signal.SIGKILL)
    assert child.wait() == 128 + signal.SIGKILL
    assert RunDirectory(out).newest_checkpoint() == (out / "checkpoints" / "checkpoint-2", 2)
    require_finished(resume(), whole, out)
    assert (out / "metrics.jsonl").read_bytes().startswith(before)


@pytest.mark.parametrize(("wait", "saving"), [(SLOW_TO_LISTEN, 0), (SLEEPS, 5)], ids=["two signals", "slow disk"])
def test_a_stop_in_the_middle_of_a_step_saves_the_steps_before_it(
    begin: Start, resume: Start, whole: Path, out: Path, wait: str, saving: int
) -> None:
    child = in_a_long_step(begin, out, 3, wait, NEVER, saving)
    before = (out / "metrics.jsonl").read_bytes()
    assert RunDirectory(out).newest_checkpoint() == (out / "checkpoints" / "checkpoint-1", 1)
    child.send(signal.SIGINT)
    child.until(lambda: "stopping once" in child.printed())
    child.send(signal.SIGINT)
    assert child.wait() == 130
    assert RunDirectory(out).newest_checkpoint() == (out / "checkpoints" / "checkpoint-2", 2)
    require_finished(resume(), whole, out)
    assert (out / "metrics.jsonl").read_bytes().startswith(before)


def test_a_third_signal_does_not_wait_for_saving(begin: Start, out: Path) -> None:
    child = in_a_long_step(begin, out, 3, SLEEPS, NEVER, 50)
    child.send(signal.SIGINT)
    child.until(lambda: "stopping once" in child.printed())
    child.send(signal.SIGINT)
    child.until((out.parent / "in the step and saving").exists)
    started = time.monotonic()
    child.send(signal.SIGINT)
    assert child.wait() == 130
    assert time.monotonic() - started < 5
    assert "--resume --out" in child.printed()
    assert RunDirectory(out).newest_checkpoint() == (out / "checkpoints" / "checkpoint-1", 1)


def test_a_run_outlives_its_terminal(begin: Start, whole: Path, out: Path) -> None:
    ours, theirs = pty.openpty()
    child = begin(terminal=os.ttyname(theirs))
    os.close(theirs)
    reader = threading.Thread(target=drain, args=(ours, out / "metrics.jsonl"))
    reader.start()
    reader.join()
    os.close(ours)  # the terminal's window is closed: SIGHUP, and nothing can be written there
    require_finished(child, whole, out)


def drain(terminal: int, until: Path) -> None:
    """Take what is printed, or the other side stands still, until a file appears."""
    while not until.exists():
        with suppress(OSError):  # not opened on the other side yet
            os.read(terminal, 65536)


def test_a_damaged_checkpoint_is_reported_and_the_one_before_leads_to_the_same_end(
    resume: Start, whole: Path, out: Path
) -> None:
    shutil.copytree(whole, out)
    shutil.rmtree(out / "adapter")  # as if the run had ended before
    run = RunDirectory(out)
    newest, step = run.newest_checkpoint() or (out, 0)
    assert step == 3
    for path in sorted(path for path in newest.iterdir()):
        content = path.read_bytes()
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
        assert run.newest_checkpoint() == (out / "checkpoints" / "checkpoint-2", 2), path.name
        path.write_bytes(content)
    assert run.newest_checkpoint() == (newest, 3)
    with (newest / "optimizer.pt").open("r+b") as file:
        file.truncate(1000)
    child = resume()
    require_finished(child, whole, out)
    assert "checkpoint-3: is damaged (optimizer.pt has 1000 bytes instead of" in child.printed()


def test_nothing_in_a_checkpoint_needs_more_than_weights_to_be_read(whole: Path) -> None:
    import torch
    from transformers.trainer_pt_utils import safe_globals

    newest, _ = RunDirectory(whole).newest_checkpoint() or (whole, 0)
    assert not (newest / "training_args.bin").exists()
    with safe_globals():  # NumPy's arrays, as the trainer allows them
        for path in [*newest.glob("*.pt"), *newest.glob("*.pth")]:
            torch.load(path, weights_only=True)


def test_a_reward_that_raises_is_named_and_costs_nothing_that_was_saved(
    begin: Start, resume: Start, whole: Path, out: Path
) -> None:
    child = begin(before=BROKEN_REWARD)
    assert child.wait() == 2
    told = child.printed()
    assert "reward tag_count: failed in step 2 on an opening of problem chain_sum/" in told
    assert "KeyError: 'no such key'" in told
    assert "Traceback" not in told
    require_finished(resume(), whole, out)


def test_a_file_that_may_not_grow_is_named_and_the_run_goes_on_once_it_may(
    begin: Start, resume: Start, whole: Path, out: Path
) -> None:
    child = begin(before=SMALL_FILES)
    assert child.wait() == 2
    assert "step 1 cannot be saved" in child.printed()
    assert "--resume --out" in child.printed()
    assert not list((out / "checkpoints").iterdir())
    require_finished(resume(), whole, out)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=10m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root can mount a small disk; the test before this one shows the same without")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_costs_the_step_that_did_not_fit_and_nothing_else(
    begin: Start, resume: Start, whole: Path, small_disk: Path
) -> None:
    out = small_disk / "run"
    child = begin(out=out)
    assert child.wait() == 2
    assert "step 3 cannot be saved" in child.printed()
    assert RunDirectory(out).newest_checkpoint() == (out / "checkpoints" / "checkpoint-2", 2)
    with suppress(OSError), (small_disk / "ballast").open("wb") as ballast:
        while True:
            ballast.write(bytes(4096))
            ballast.flush()
    full = resume(out)
    assert full.wait() == 2
    assert "No space left on device" in full.printed()
    assert "Traceback" not in child.printed() + full.printed()
    (small_disk / "ballast").unlink()
    subprocess.run(["mount", "-o", "remount,size=60m", str(small_disk)], check=True)
    require_finished(resume(out), whole, out)


def test_a_finished_run_says_so(resume: Start, whole: Path) -> None:
    child = resume(whole)
    assert child.wait() == 0
    assert "this run is finished: 3 steps are trained and everything is evaluated" in child.printed()


def test_no_clock_that_can_go_backwards_is_read() -> None:
    told = {ROOT / "motif_lite" / "serving" / name for name in ("app.py", "bodies.py")}  # the API's "created"
    for path in set((ROOT / "motif_lite").rglob("*.py")) - told:
        assert not re.search(r"time\.time\(|datetime\.(?!now\(\)\.astimezone\(\)\.date\(\))", path.read_text()), path
