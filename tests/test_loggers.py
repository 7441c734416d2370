"""Loggers with their real packages, offline: what each wrote is read back and is what metrics.jsonl says, once."""

import logging
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from functools import wraps
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import pytest

from motif_lite.context import RunContext
from motif_lite.errors import MissingHardwareError, RecipeError, RunError
from motif_lite.jobs import checking
from motif_lite.loggers import figures, recording, table
from motif_lite.loggers.base import Figures, LoggedRun
from motif_lite.runs import logged_id
from motif_lite.runs.directory import RunDirectory
from tests import logged, records
from tests.fakes import RecordingObserver

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "tiny_cpu.toml"
HOSTILE = "<script>alert(1)</script> | `x` \x1b[2J \ud800 \n" + "long " * 5000

needs_packages = pytest.mark.skipif(
    not all(map(find_spec, table.LOGGERS)), reason="needs the packages of requirements-logging.txt"
)


_ALONE = "MOTIF_LITE_TEST_ALONE"


def alone(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test in a process of its own: these packages read their variables once, when they are imported."""

    @wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        if os.environ.get(_ALONE):
            test(*arguments, **named)
            return
        name, _, _ = os.environ["PYTEST_CURRENT_TEST"].partition(" ")
        command = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", name]
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | {_ALONE: "1"}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    return run


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunContext:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    recipe = checking.check(RECIPE, ['logging=["tensorboard", "wandb", "trackio"]', "rewards={future_accuracy=1.0}"])
    run = RunDirectory.create(tmp_path / "run", recipe, "")
    return RunContext(recipe, cast(Any, None), run, RecordingObserver())


def as_float32(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def truth(run: RunDirectory, exact: Callable[[float], float] = float) -> logged.Curve:
    """What every logger must hold."""
    found: logged.Curve = {}
    lines: list[tuple[int, Figures]] = [(line.step, figures.of_step(line)) for line in run.metrics()]
    lines += [(mark.step, figures.of_mark(mark)) for mark in run.marks()]
    for step, values in lines:
        found |= {(step, name): [exact(value)] for name, value in values.items()}
    return found


def read_back(run: RunDirectory, trackio_folder: Path) -> dict[str, logged.Curve]:
    name = f"{run.root.name}-{logged_id.kept(run.root)}"
    return {
        "tensorboard": logged.tensorboard(run.root),
        "wandb": logged.wandb(run.root),
        "trackio": logged.trackio(trackio_folder, name),
    }


def require_same(run: RunDirectory, trackio_folder: Path) -> None:
    for name, curve in read_back(run, trackio_folder).items():
        assert curve == truth(run, as_float32 if name == "tensorboard" else float), name


def train(context: RunContext, first: int, last: int, reward: float = 1.0) -> None:
    """Steps as a run writes and logs them, with a mark after each second one."""
    with recording.recorded(context) as loggers:
        for number in range(first, last + 1):
            line = records.step(number, reward=reward + number / 7, rewards={"future_accuracy": 0.1}, loss=None)
            rollout = records.rollout(number, rewards={"future_accuracy": 1.0}, question=HOSTILE)
            context.run.append_rollouts([rollout])
            context.run.append_metrics(line)
            loggers.step(line, [rollout])
            if number % 2 == 0:
                mark = records.mark(number)
                context.run.append_mark(mark)
                loggers.mark(mark)


@needs_packages
@alone
def test_each_holds_what_metrics_jsonl_says_also_after_steps_were_lost_and_done_again(context: RunContext) -> None:
    folder = context.run.root.parent / "trackio"
    train(context, 1, 5)
    require_same(context.run, folder)
    context.run.append_metrics(records.step(6))  # written, and not logged: the process was killed in between
    context.run.forget_after(3)  # the checkpoint that it resumes from
    train(context, 4, 6, reward=2.0)
    assert len(context.run.metrics()) == 6
    require_same(context.run, folder)
    tables = list((context.run.root / "wandb").rglob("*.table.json"))
    assert len(tables) == 1, "samples of step 1"
    assert "\ud800" not in tables[0].read_text(encoding="utf-8")


def test_figures_have_the_names_of_metrics_jsonl_and_what_is_not_a_number_is_left_out() -> None:
    line = records.step(
        3, tokens={"openings": 7}, answers_kept=(None, 0.5), update_skipped=True, loss=None, visits={"a": True}
    )
    found = figures.of_step(line)
    assert found["tokens/openings"] == 7
    assert found["accuracy_by_round/3"] == 0.5
    assert (found["update_skipped"], found["answers_kept/2"]) == (1.0, 0.5)
    assert not {"step", "version", "loss", "answers_kept/1", "visits/a"} & set(found)
    assert figures.of_mark(records.mark(2))["validation/accuracy"] == 0.5


class Broken:
    """A logger whose disk is full from the second step on."""

    closed = False

    def log(self, step: int, figures: Figures) -> None:
        if step > 1:
            raise OSError("No space left on device")

    def samples(self, step: int, rows: object) -> None: ...

    def close(self) -> None:
        self.closed = True


def test_a_logger_that_fails_ends_with_a_message_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    recipe = checking.check(RECIPE, [])
    broken, seen = Broken(), list[int]()

    class Working(Broken):
        def log(self, step: int, figures: Figures) -> None:
            seen.append(step)

    working = Working()
    loggers = recording.Loggers(recipe, {"broken": broken, "working": working})
    with caplog.at_level(logging.WARNING):
        for number in (1, 2, 3):
            loggers.step(records.step(number), [])
    loggers.close()
    assert seen == [1, 2, 3]
    assert [record.message for record in caplog.records] == [
        "broken logs nothing more in this process (No space left on device); metrics.jsonl has it all, and a resumed "
        "run logs it again"
    ]
    assert (broken.closed, working.closed) == (False, True)


def test_a_missing_package_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "find_spec", lambda name: None if name == "wandb" else object())
    with pytest.raises(MissingHardwareError, match=r"not installed: wandb; .*pip install -r requirements-logging.txt"):
        table.require(["tensorboard", "wandb"])


def test_names_that_are_unknown_or_twice_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"there is no logger 'wand' \(did you mean 'wandb'\?\)"):
        checking.check(RECIPE, ['logging=["wand"]'])
    with pytest.raises(RecipeError, match="logging names one twice"):
        checking.check(RECIPE, ['logging=["wandb", "wandb"]'])


def test_the_id_of_a_run_stays_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    assert logged_id.kept(tmp_path) == logged_id.kept(tmp_path)
    (tmp_path / "logging.id").write_text("../../etc\n")
    with pytest.raises(RunError, match="holds no id"):
        logged_id.kept(tmp_path)


@needs_packages
@alone
def test_without_a_login_wandb_logs_offline_and_says_how_to_send_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    wandb = pytest.importorskip("wandb")
    wandb.teardown()  # it has read these variables for the whole process
    with caplog.at_level(logging.WARNING):
        logger = table.opened("wandb", LoggedRun(tmp_path, "0123abcd", {}))
    logger.log(1, {"x": 0.5})
    logger.close()
    wandb.teardown()  # its own process has then written all
    assert logged.wandb(tmp_path) == {(1, "x"): [0.5]}
    assert any("wandb: offline" in text and "wandb sync" in text for text in caplog.messages)


def test_trackio_is_not_sent_where_steps_could_not_be_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("trackio", reason="needs the packages of requirements-logging.txt")
    monkeypatch.setenv("TRACKIO_SPACE_ID", "someone/space")
    with pytest.raises(RunError, match="unset TRACKIO_SPACE_ID, and send the project later with trackio sync"):
        table.opened("trackio", LoggedRun(tmp_path, "0123abcd", {}))
