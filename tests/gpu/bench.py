"""What the tests on a GPU stand on: one model, one recipe, real runs of run.py, and the policy in this process.

Everything lies under one folder and is kept: the model is written once, a run that was cut off is resumed, a run that
is complete is used again. Nothing here imports torch before a policy is asked for, since Unsloth has to come first.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from motif_lite.jobs import checking
from motif_lite.planning import hardware, planner, shapes
from motif_lite.planning.planner import Plan
from motif_lite.policies import backends
from motif_lite.recipe import loading
from motif_lite.runs import sealing
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.folders import holds_run
from tests.gpu import command as command_line

if TYPE_CHECKING:
    from motif_lite.policies.local import LocalPolicy

ROOT = Path(__file__).resolve().parents[2]
REWARD = f"{Path(__file__).with_name('any_reward.py')}:any_text"
RECIPE = ROOT / "recipes" / "motif_evening.toml"

Watch = Callable[["subprocess.Popen[bytes]"], None]


class CheckError(Exception):
    """A row could not be measured."""


def _is_trained(run: RunDirectory, max_steps: int) -> bool:
    """Whether a run was trained for so many steps and left its adapter whole."""
    step = sealing.step_of(run.adapter)
    return step is not None and step >= max_steps


@dataclass(frozen=True, slots=True)
class Settings:
    """What is measured; results of different settings do not belong into one table.

    Attributes:
        tokenizer: A folder with Qwen2.5's tokenizer, or None for one with a token per byte.
        data: A file of problems, or None for `chain_sum`.
        openings: Longest opening, in tokens.
        futures: Longest future, in tokens.
    """

    device: str
    size: str
    backend: str
    memory_gib: float
    tokenizer: str | None
    data: str | None
    openings: int
    futures: int

    @property
    def max_prompt_tokens(self) -> int:
        """What the prompts below come near to, so that the plan's worst case is what happens."""
        if self.tokenizer:
            return 512
        if self.data:
            return 1024
        return 64 if self.size == "tiny" else 768

    @property
    def has_short_prompts(self) -> bool:
        """The usual system prompt has a thousand letters: many tokens for a tokenizer with a token per letter."""
        return not self.tokenizer and (self.size == "tiny" or self.data is not None)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A policy in this process.

    Attributes:
        seconds: That loading took.
        peak_bytes: While it loaded; None where that cannot be measured.
    """

    policy: "LocalPolicy"
    plan: Plan
    seconds: float
    peak_bytes: int | None


class Bench:
    """The model, the recipe and the runs of one set of settings.

    Args:
        out: Where everything is kept.
    """

    def __init__(self, settings: Settings, out: Path) -> None:
        self.settings = settings
        self.out = out.resolve()
        self._with_states: set[str] = set()

    @property
    def on_gpu(self) -> bool:
        """Whether CUDA is measured."""
        return self.settings.device == "cuda"

    @cached_property
    def model(self) -> Path:
        """The folder of the random model, written on first use by a process of its own.

        It would leave its memory, and an imported transformers, behind in this one.
        """
        folder, unfinished = self.out / "model", self.out / "model.unfinished"
        if not folder.exists():
            shutil.rmtree(unfinished, ignore_errors=True)
            command = ["-m", "benchmarks.random_model", str(unfinished), "--size", self.settings.size]
            if self.settings.tokenizer:
                command += ["--tokenizer", str(Path(self.settings.tokenizer).resolve())]
            self._python("model", command)
            unfinished.rename(folder)
        return folder

    def changes(self) -> list[str]:
        """What differs from the recipe, as arguments of ``--set``."""
        settings = self.settings
        values: dict[str, object] = {
            "model.name": str(self.model),
            "model.backend": settings.backend,
            "model.device": settings.device,
            "model.memory_gib": settings.memory_gib,
            "data.train": str(Path(settings.data).resolve()) if settings.data else "chain_sum",
            "rollout.max_prompt_tokens": settings.max_prompt_tokens,
            "rollout.openings.max_tokens": settings.openings,
            "rollout.futures.max_tokens": settings.futures,
            "evaluation.before": False,
            "evaluation.after": False,
        }
        if not settings.data:
            values["data.num_problems"] = 64
        if settings.has_short_prompts:
            values["rollout.system_prompt"] = ""
        if not self.on_gpu:
            values |= {"model.load_in_4bit": False, "training.optimizer": "adamw_torch"}
        tables = ["evaluation.benchmarks={}", f'rewards={{"{REWARD}"=1.0}}']
        return [*(f"{key}={json.dumps(value)}" for key, value in values.items()), *tables]

    def train(self, name: str, *changes: str, max_steps: int) -> RunDirectory:
        """A finished run: as it was left if it is complete, resumed if it was cut off, begun otherwise.

        Raises:
            CheckError: It fails.
        """
        run = RunDirectory(self.out / "runs" / name)
        if _is_trained(run, max_steps):
            return run
        if holds_run(run.root):
            self._run(name, ["--resume", "--out", str(run.root)])
        else:
            self._begin(run, [*changes, f"training.max_steps={max_steps}"])
        if not _is_trained(run, max_steps):
            raise CheckError(f"the run ended, but {run.root} is not complete")
        return run

    def train_with_a_stop(self, name: str, *changes: str, max_steps: int) -> tuple[RunDirectory, int]:
        """A run that gets a Ctrl-C once its first step is written down, and is resumed in a new process.

        Returns:
            The run, and the step that it was stopped after.
        """
        run = RunDirectory(self.out / "runs" / name)
        shutil.rmtree(run.root, ignore_errors=True)
        self._with_states.add(name)

        def stop_after_first_step(process: "subprocess.Popen[bytes]") -> None:
            while process.poll() is None and not run.metrics():
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)  # does nothing to a process that has ended

        self._begin(run, [*changes, f"training.max_steps={max_steps}"], stop_after_first_step, expected=130)
        checkpoint = run.newest_checkpoint()
        if checkpoint is None:
            raise CheckError("the stopped run left no checkpoint")
        return self.train(name, max_steps=max_steps), checkpoint[1]

    @cached_property
    def loaded(self) -> Loaded:
        """The policy, loaded once, as run.py loads it and within the same limit."""
        recipe = loading.load(RECIPE, self.changes(), checking.TABLES)
        backend = backends.backend(recipe.model.backend)  # before metering: Unsloth goes first
        from motif_lite.planning import metering

        machine = metering.measured(hardware.machine_for(recipe, metering.gpu(), supposing=False))
        plan = planner.make(recipe, shapes.of(recipe.model.name), machine)
        metering.keep_within(machine)
        meter = metering.PhaseMeter(self.settings.device)
        meter.start("load")
        policy = backend.load(plan.recipe, recipe.model.name)
        seconds, peak = meter.take()
        from motif_lite.policies.local import LocalPolicy

        assert isinstance(policy, LocalPolicy)
        return Loaded(policy, plan, seconds["load"], peak.get("load"))

    def states_are_joined(self, name: str, num_updates: int) -> bool:
        """Whether adapter and optimiser were, bit by bit, before each update what they were after the one before."""
        digests = [line.split() for line in self._states(name).read_text(encoding="utf-8").splitlines()]
        joined = all(after == before for (_, after), (before, _) in pairwise(digests))
        return joined and len(digests) == num_updates

    def _states(self, name: str) -> Path:
        return self.out / "runs" / f"{name}.states"

    def _begin(self, run: RunDirectory, changes: list[str], watch: Watch | None = None, *, expected: int = 0) -> None:
        shutil.rmtree(run.root, ignore_errors=True)
        self._states(run.root.name).unlink(missing_ok=True)
        every = [part for change in [*self.changes(), *changes] for part in ("--set", change)]
        arguments = ["--recipe", str(RECIPE), *every, "--out", str(run.root)]
        self._run(run.root.name, arguments, watch, expected=expected)

    def _run(self, name: str, arguments: list[str], watch: Watch | None = None, *, expected: int = 0) -> None:
        self._python(name, ["-m", "tests.gpu.command", *arguments], watch, expected=expected)

    def _python(self, name: str, command: list[str], watch: Watch | None = None, *, expected: int = 0) -> None:
        """Run Python to its end; what it prints is kept, and its last words are told if it fails."""
        log = self.out / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {command_line.TRACES: str(log.with_suffix(".traces"))}
        if name in self._with_states:  # costs time, which other runs measure
            environment[command_line.STATES] = str(self._states(name))
        full = [sys.executable, *command]
        with (
            log.open("ab") as printed,
            subprocess.Popen(full, cwd=ROOT, env=environment, stdout=printed, stderr=printed) as process,
        ):
            try:
                if watch:
                    watch(process)
                code = process.wait()
            except BaseException:  # we are told to leave: so is it
                process.terminate()
                raise
        if code != expected:
            last_words = " / ".join(log.read_text(encoding="utf-8", errors="replace").split("\n")[-5:]).strip(" /")
            raise CheckError(f"{command[1]} ended with {code}, not {expected}: {last_words}")


def stay_offline() -> None:
    """Everything needed is here: a library that asks the network first would wait for it, on a machine without one."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "UNSLOTH_DISABLE_STATISTICS"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
