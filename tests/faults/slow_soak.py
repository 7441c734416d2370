"""A real model, stopped and killed in the middle of long steps: ``python tests/faults/slow_soak.py MODEL PROBLEMS``.

MODEL is the folder of a small instruct model, e.g. SmolLM2-135M-Instruct; PROBLEMS is a file of GSM8K rows. Every step
takes 20 seconds or more on two cores. One run is left alone. The other gets Ctrl-C a few seconds into its third step,
which it finishes. It is resumed, gets SIGKILL a few seconds into its fourth step, and is resumed again. No finished
step may be lost: the lines of metrics.jsonl stay as they were, byte for byte, and both runs end equal (`soak.compare`).
"""

import argparse
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.faults.soak import ROOT, compare

SETTINGS = [
    'model.backend="transformers"', "model.load_in_4bit=false", 'model.dtype="float32"', 'model.device="cpu"',
    "model.max_seq_length=1024", "lora.rank=8", "lora.alpha=16",
    "rollout.num_rounds=2", "rollout.num_openings=8", "rollout.num_futures=4",
    "rollout.max_prompt_tokens=400", "rollout.openings.max_tokens=200", "rollout.futures.max_tokens=200",
    "rollout.max_width=32", "training.problems_per_step=1", "training.micro_batch_size=2",
    "training.gradient_checkpointing=false", "training.max_steps=4",
    "training.learning_rate=2e-4", "training.warmup_fraction=0.0", 'training.optimizer="adamw_torch"',
    "training.save_every=1000", "evaluation.benchmarks={}",
]  # fmt: skip
"""m = 8, k = 4, two rounds, 200 tokens a reply; nothing but time asks for a checkpoint."""

SHORTEST = 20.0
"""Seconds that a step must take for this to show anything."""


def main() -> int:
    """Run it; 0 if nothing was lost and nothing differs."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("model", type=Path, help="the model's folder")
    arguments.add_argument("problems", type=Path, help="a file of GSM8K rows")
    arguments.add_argument("--into", type=float, default=9.0, help="seconds into a step at which a signal is sent")
    arguments.add_argument(
        "--set", dest="changes", action="append", default=[], metavar="KEY=VALUE", help="of the recipe"
    )
    arguments.add_argument("--out", type=Path, default=None, help="where both runs go; by default a temporary folder")
    given = arguments.parse_args()
    out = given.out or Path(tempfile.mkdtemp(prefix="motif_lite-slow-soak-"))
    names = {"model.name": given.model, "data.train": given.problems}
    settings = [
        *SETTINGS,
        *(f"{key}={json.dumps(str(path.absolute()))}" for key, path in names.items()),
        *given.changes,
    ]
    whole = Run(out / "whole", settings)
    whole.finish()
    print(f"left alone: steps of {', '.join(f'{seconds:.0f}' for seconds in whole.step_seconds())} s", flush=True)
    failures = [f"a step took less than {SHORTEST:.0f} s"] if min(whole.step_seconds()) < SHORTEST else []
    killed = Run(out / "killed", settings)
    failures += stop_in_third_step(killed, given.into)
    failures += kill_in_fourth_step(killed, given.into)
    failures += compare(whole.out, killed.out)
    for failure in failures:
        print(f"FAILED: {failure}")
    print(f"{'FAILED' if failures else 'passed'}: {len(failures)} failures; both runs are in {out}")
    return 1 if failures else 0


class Run:
    """One run, in a process of its own at a time."""

    def __init__(self, out: Path, settings: list[str]) -> None:
        self.out, self._settings = out, settings
        self._process: subprocess.Popen[str] | None = None

    def begin(self) -> None:
        """Start the run, or resume it once it exists."""
        how = ["--recipe", str(ROOT / "recipes" / "motif_gsm8k.toml")]
        how += [part for setting in self._settings for part in ("--set", setting)]
        how = ["--resume"] if (self.out / "resolved.json").exists() else how
        command = [sys.executable, str(ROOT / "run.py"), *how, "--out", str(self.out)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def send(self, number: int) -> None:
        """Send the process a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def end(self) -> tuple[int, str]:
        """Wait for the process; its exit code and all that it printed."""
        assert self._process is not None
        printed, _ = self._process.communicate()
        return self._process.returncode, printed

    def finish(self) -> None:
        """See the run through."""
        self.begin()
        code, printed = self.end()
        if code:
            raise SystemExit(f"FAILED: exit code {code}\n{printed[-4000:]}")

    def until(self, num_steps: int, trainings: int) -> None:
        """Wait until so many steps are written by the process with this number that trains."""
        assert self._process is not None
        while len(self.metrics()) < num_steps or self._log().count("training with") < trainings:
            if self._process.poll() is not None:
                raise SystemExit(f"FAILED: ended too early\n{self.end()[1][-4000:]}")
            time.sleep(0.05)

    def metrics(self) -> list[bytes]:
        """The lines of metrics.jsonl so far."""
        path = self.out / "metrics.jsonl"
        return path.read_bytes().splitlines(keepends=True) if path.exists() else []

    def step_seconds(self) -> list[float]:
        """Of each step."""
        return [sum(json.loads(line)["seconds"].values()) for line in self.metrics()]

    def _log(self) -> str:
        path = self.out / "run.log"
        return path.read_text(errors="replace") if path.exists() else ""


def stop_in_third_step(run: Run, into: float) -> list[str]:
    """Ctrl-C: the step is finished and saved, and the user is told how long that takes."""
    run.begin()
    run.until(num_steps=2, trainings=1)
    time.sleep(into)
    run.send(signal.SIGINT)
    asked = time.monotonic()
    code, printed = run.end()
    waited = time.monotonic() - asked
    told = re.search(r"stopping once .*?about ([\d:]+) left", printed)
    print(f"Ctrl-C {into:.0f} s into step 3: told {told and told[1]} left, ended after {waited:.0f} s", flush=True)
    failures = [] if code == 130 else [f"exit code {code} after Ctrl-C: {printed[-2000:]}"]
    failures += [] if told else ["it did not say how long the step will take"]
    return failures + ([] if len(run.metrics()) == 3 else [f"{len(run.metrics())} steps are kept after Ctrl-C, not 3"])


def kill_in_fourth_step(run: Run, into: float) -> list[str]:
    """SIGKILL: every finished step is there when the run goes on."""
    before = run.metrics()
    run.begin()
    run.until(num_steps=3, trainings=2)
    time.sleep(into)
    run.send(signal.SIGKILL)
    run.end()
    after_kill = run.metrics()
    run.finish()
    print(f"SIGKILL {into:.0f} s into step 4: {len(after_kill)} steps were written; resumed to {len(run.metrics())}")
    kept = run.metrics()[: len(before)] == before == after_kill
    return [] if kept else ["the lines of metrics.jsonl are not those from before the kill"]


if __name__ == "__main__":
    sys.exit(main())
