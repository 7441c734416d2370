"""Several processes of one run, on real processes: what they compute, and what they survive together."""

import json
import os
import re
import signal
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from motif_lite.ranks import LAUNCHER
from tests.faults.nursery import Child, Nursery
from tests.faults.soak import compare
from tests.faults.test_faults import SMALL, lines
from tests.processes import is_running

CREDITS = {
    "opening": [],
    "chain": [
        'training.credit="chain"', "rollout.num_futures=1", "training.micro_batch_size=24",
        "rewards={future_accuracy=1.0}", "data.refill=3", "data.skip={after=1, visits=1}",
        "training.importance_cap=2.0",
    ],
}  # fmt: skip

SOON = 20
"""Seconds from the end of one process to that of all."""

ROUNDING = 1e-5
"""Two processes add the same numbers up in another order, and products of other heights round differently: by 1.5e-7
in the adapter's weights after four steps (measured), and in the norms and means of metrics.jsonl. What is sampled is
equal to the last character, unless a draw falls on the edge between two tokens."""

EVERYWHERE = {"0" * 8, "0" * 32}
"""Addresses that other machines reach."""

OTHER = re.compile("second|memory|policy")
"""Times, memory, and the sum of an adapter's file."""

OUT_OF_MEMORY = """
import os

def plain(opening):
    return 0.0

if os.environ.get("RANK") == "1":
    import torch
    from motif_lite.training import trainer

    def fail(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory, says the test")

    trainer.GRPOTrainer.compute_loss = fail
"""


@dataclass(frozen=True)
class Runs:
    """Starts runs of one credit, with what is printed beside their folders."""

    nursery: Nursery
    credit: str

    def begin(self, out: Path, *more: str, processes: int = 2) -> Child:
        changes = [*SMALL, "training.max_steps=4", *CREDITS[self.credit], *more]
        words = ["--recipe", "recipes/tiny_cpu.toml", *(part for change in changes for part in ("--set", change))]
        return self._start(out, "begin", processes, *words)

    def resume(self, out: Path, *, processes: int = 2) -> Child:
        return self._start(out, "resume", processes, "--resume")

    def _start(self, out: Path, name: str, processes: int, *words: str) -> Child:
        words = (*words, "--out", str(out), *(["--processes", str(processes)] if processes > 1 else []))
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        log = out.with_name(f"{out.name}.{name}{len(list(out.parent.glob(f'{out.name}.*')))}")
        return self.nursery.start(*words, log=log, environment=environment)


@pytest.fixture(scope="module", params=CREDITS)
def runs(request: pytest.FixtureRequest, nursery: Nursery) -> Runs:
    return Runs(nursery, request.param)


@pytest.fixture(scope="module")
def whole(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run in two processes that nothing happens to."""
    out = tmp_path_factory.mktemp("shared") / "whole"
    child = runs.begin(out)
    assert child.wait() == 0, child.printed()
    assert child.printed().count("step 1/4: ") == 1, "the console shows once"
    assert child.printed().count("after, multi_round") == 1
    return out


def processes_of(out: Path) -> list[int]:
    """Of the last process that worked there, and its helpers: their numbers."""
    return [
        int(number) for number in re.findall("processes of this run: (.*)", (out / "run.log").read_text())[-1].split()
    ]


def listening(process: int) -> set[str]:
    """The addresses at which a process waits for others, as Linux writes them."""
    own = set()
    for file in Path(f"/proc/{process}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since it was listed
            own.add(str(file.readlink()))
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()]
    return {row[1].split(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in own}


def require_equal(one: Path, other: Path) -> None:
    """Whether two runs are equal within rounding, times and memory aside."""
    adapters = [load_file(run / "adapter" / "adapter_model.safetensors") for run in (one, other)]
    assert max(float((adapters[0][name] - adapters[1][name]).abs().max()) for name in adapters[0]) < ROUNDING
    for name in ("metrics.jsonl", "rollouts.jsonl", "evaluation.json"):
        texts = [(run / name).read_text().splitlines() for run in (one, other)]
        texts = texts if name.endswith("l") else [["".join(each)] for each in texts]
        assert len(texts[0]) == len(texts[1])
        for both in zip(*texts, strict=True):
            assert_near(json.loads(both[0]), json.loads(both[1]), name)
    for graded in (one / "evaluations").iterdir():
        assert graded.read_bytes() == (other / "evaluations" / graded.name).read_bytes()


def assert_near(one: Any, other: Any, where: str) -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            if not OTHER.search(key):
                assert_near(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for each in zip(one, other, strict=True):
            assert_near(*each, where)
    elif isinstance(one, float):
        assert other == pytest.approx(one, rel=ROUNDING, abs=ROUNDING), where
    else:
        assert one == other, where


def require_end_of_all(child: Child, code: int, numbers: list[int]) -> str:
    """Whether all processes end soon, with one message; what they print."""
    asked = time.monotonic()
    assert child.wait() == code, child.printed()
    assert time.monotonic() - asked < SOON
    assert [number for number in numbers if is_running(number)] == []
    printed = child.printed()
    assert "Traceback" not in printed
    assert printed.count("to continue") == 1, printed
    return printed


def test_two_processes_compute_what_one_does_and_each_goes_on_with_the_others_run(
    runs: Runs, whole: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "alone"
    child = runs.begin(alone, processes=1)
    assert child.wait() == 0, child.printed()
    require_equal(alone, whole)
    assert len(processes_of(whole)) == 2
    assert len(processes_of(alone)) == 1

    changing = tmp_path / "changing"
    child = runs.begin(changing)
    child.until(lambda: lines(changing / "metrics.jsonl") >= 2)
    child.send(signal.SIGINT)
    assert child.wait() == 130, child.printed()
    child = runs.resume(changing, processes=1)
    assert child.wait() == 0, child.printed()
    require_equal(alone, changing)


@pytest.mark.parametrize("runs", ["opening"], indirect=True)
def test_a_run_whose_processes_are_killed_ends_and_the_resumed_one_is_that_which_was_not(
    runs: Runs, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    child = runs.begin(out)
    child.until(lambda: lines(out / "metrics.jsonl") >= 1)
    main, helper = processes_of(out)
    assert {each for number in (main, helper) for each in listening(number)} & EVERYWHERE == set()
    os.kill(helper, signal.SIGKILL)
    printed = require_end_of_all(child, 2, [main, helper])
    assert "another process of this run has ended" in printed
    assert "process 2 of 2 was killed (SIGKILL). If the system killed it for want of memory" in printed
    assert f"--resume --out {out} --processes 2" in printed

    child = runs.resume(out)
    child.until(lambda: lines(out / "metrics.jsonl") >= 3)
    numbers = processes_of(out)
    for number in numbers:
        os.kill(number, signal.SIGKILL)
    assert "was killed (SIGKILL)" in require_end_of_all(child, 2, numbers)

    child = runs.resume(out)
    assert child.wait() == 0, child.printed()
    assert compare(whole, out) == []


@pytest.mark.parametrize("runs", ["opening"], indirect=True)
def test_a_stop_that_all_processes_are_sent_is_one_stop(runs: Runs, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "stopped"
    child = runs.begin(out)
    child.until(lambda: lines(out / "metrics.jsonl") >= 1)
    numbers = processes_of(out)
    for number in (child.pid, *numbers):  # as systemd and scancel do
        os.kill(number, signal.SIGTERM)
    printed = require_end_of_all(child, 130, numbers)
    assert f"to continue: python run.py --resume --out {out} --processes 2" in printed
    assert printed.count("stopping") == 1
    child = runs.resume(out)
    assert child.wait() == 0, child.printed()
    assert compare(whole, out) == []


@pytest.mark.parametrize("runs", ["opening"], indirect=True)
def test_processes_whose_launcher_was_gone_before_they_met_do_not_begin(runs: Runs, tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    everybody = {
        "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        LAUNCHER: str(gone.pid), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    children = [
        runs.nursery.start(
            "--recipe", "recipes/tiny_cpu.toml", "--out", str(tmp_path / "orphan"), log=tmp_path / str(number),
            environment=os.environ | everybody | {"RANK": str(number)},
        )
        for number in (0, 1)
    ]  # fmt: skip
    assert [child.wait() for child in children] == [130, 0], children[0].printed()
    assert not (tmp_path / "orphan").exists()


@pytest.mark.parametrize("runs", ["opening"], indirect=True)
def test_the_end_of_the_main_process_is_told_by_the_launcher(runs: Runs, tmp_path: Path) -> None:
    out = tmp_path / "headless"
    child = runs.begin(out)
    child.until(lambda: lines(out / "metrics.jsonl") >= 1)
    numbers = processes_of(out)
    os.kill(numbers[0], signal.SIGKILL)
    assert "process 1 of 2 was killed (SIGKILL)" in require_end_of_all(child, 2, numbers)


@pytest.mark.parametrize("runs", ["opening"], indirect=True)
def test_a_helper_without_memory_ends_the_run_with_one_message(runs: Runs, tmp_path: Path) -> None:
    out, code = tmp_path / "cramped", tmp_path / "cramped.py"
    code.write_text(OUT_OF_MEMORY)
    child = runs.begin(out, f'rewards."{code}:plain"=1.0')
    assert child.wait() == 2, child.printed()
    printed = child.printed()
    assert printed.count("error: ") == 1
    assert "in process 2 of 2: out of memory in the update of a single opening" in printed
    assert "Traceback" not in printed
    assert [number for number in processes_of(out) if is_running(number)] == []
