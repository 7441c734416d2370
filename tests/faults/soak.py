"""A tiny run that is killed again and again ends as the one that was left alone: ``python tests/faults/soak.py``.

Every process is the real program, and dies by SIGKILL. Half of the kills come at random times, the other half as soon
as a file appears that stands for a delicate moment: a checkpoint being written, sealed or dropped, the adapter, a part
of an evaluation. A run that finishes before there were enough kills is compared, and another one begins. Compared are,
byte for byte, the adapter, rollouts.jsonl, all graded replies, what a warm start has kept, and metrics.jsonl,
evaluation.json and what tells costs but for times and memory. Each credit has a run of three epochs and more of its
own, and so has ``prepared``: a warm start, a selection of problems, problems skipped and groups refilled, and two
updates a step. The last line gives the counts.
"""

import argparse
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = [
    "rollout.num_openings=4", "rollout.num_futures=2", "rollout.max_width=8", "training.problems_per_step=2",
    "training.micro_batch_size=8", "training.max_steps=16", "training.save_every=2", "data.num_problems=10",
    "evaluation.benchmarks.chain_sum.num_problems=32",
]  # fmt: skip
"""Five steps are an epoch."""

PREPARED = [
    "rollout.openings.max_tokens=60", "rollout.futures.max_tokens=60", "training.num_iterations=2",
    "data.select={num_samples=2, min_pass_rate=0.0, max_pass_rate=1.0}",
    'warm_start={num_problems=10, num_samples=3, instruction="", max_tokens=80, temperature=1.0, num_steps=12, '
    "examples_per_step=4, learning_rate=1e-3}",
    "data.refill=2", "data.skip={after=1, visits=1}",
]  # fmt: skip
"""On chains that are short enough to be solved in one reply."""

_CREDITS = "opening", "chain", "tree", "reset"

CASES = {**{credit: [f'training.credit="{credit}"'] for credit in _CREDITS}, "prepared": PREPARED}
"""What is run, by name, and what is set for it."""

MEASURED = {"seconds", "tokens_per_second", "peak_memory_bytes", "planned_memory_bytes"}
"""What two equal runs may differ in."""

TIMED = [
    "metrics.jsonl", "evaluation.json", "selection.json", "warm_start/sampling.json", "warm_start/steps.jsonl",
]  # fmt: skip
"""Files with times in them."""

MOMENTS = [
    "resolved.json", "evaluations/*.parts", "evaluation.json.unfinished", "evaluations/*.jsonl", "evaluation.json",
    "metrics.jsonl", "unfinished/checkpoint-*", "unfinished/checkpoint-*/optimizer.pt",
    "unfinished/checkpoint-*/manifest.json", "checkpoints/checkpoint-*", "unfinished/discarded-*", "unfinished/adapter",
    "unfinished/adapter/manifest.json", "adapter/manifest.json", "evaluations/*.after.*.parts",
    "evaluations/*.after.*.jsonl",
]  # fmt: skip
"""In the order in which a run comes by them."""

MOMENTS_OF_PREPARING = [
    "warm_start/*.parts", "warm_start/solutions.jsonl", "warm_start/sampling.json", "warm_start/steps.jsonl",
    "unfinished/checkpoint-*", "warm_start/checkpoints/*", "unfinished/adapter", "warm_start/adapter/manifest.json",
    "evaluations/selection.jsonl.parts", "selection.json.unfinished", "selection.json", "metrics.jsonl",
]  # fmt: skip
"""Before the first step of a run that is prepared."""


def main() -> int:
    """Run it; 0 if nothing differs."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--kills", type=int, default=12, help="at least so many for each case")
    arguments.add_argument("--case", choices=CASES, action="append", help="only this one; may be repeated")
    arguments.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments.add_argument("--out", type=Path, default=None, help="where the runs go; by default a temporary folder")
    given = arguments.parse_args()
    out = given.out or Path(tempfile.mkdtemp(prefix="motif_lite-soak-"))
    started = time.monotonic()
    model = _build_model()
    kills, differences, number, rng = {"random": 0, "file": 0}, [], 0, random.Random(given.seed)
    for name in given.case or CASES:
        case = Case(name, model, out / name)
        moments = itertools.cycle(MOMENTS_OF_PREPARING if name == "prepared" else MOMENTS)
        whole_seconds = _finish(case, "whole")
        print(f"{name}: the uninterrupted run took {whole_seconds:.0f} s", flush=True)
        wanted = sum(kills.values()) + given.kills
        while sum(kills.values()) < wanted:
            number += 1
            killed = f"killed-{number}"
            _torment(case, killed, moments, rng, kills, wanted, whole_seconds)
            differences += [f"{name}, {killed}: {each}" for each in compare(case.root / "whole", case.root / killed)]
    for difference in differences:
        print(f"DIFFERENT: {difference}")
    print(
        f"{'FAILED' if differences else 'passed'}: {sum(kills.values())} kills ({kills['random']} at random times, "
        f"{kills['file']} when a file appeared) in {number} runs, {len(differences)} differences, "
        f"{time.monotonic() - started:.0f} s"
    )
    return 1 if differences else 0


def _build_model() -> Path:
    """The tiny model, which takes minutes where it is not cached."""
    sys.path.insert(0, str(ROOT))
    from motif_lite.jobs import checking, session
    from motif_lite.paths import cache_folder

    session.prepare_libraries()
    from motif_lite.tasks import tiny_model

    recipe = checking.check(ROOT / "recipes" / "tiny_cpu.toml", SETTINGS)
    return tiny_model.prepare(
        seed=recipe.seed,
        num_rounds=recipe.rollout.num_rounds,
        max_tokens=recipe.rollout.openings.max_tokens,
        cache_folder=cache_folder(),
        on_progress=lambda done, total: None,
    )


@dataclass(frozen=True)
class Case:
    """What is run again and again.

    Attributes:
        name: A key of `CASES`.
        model: The tiny model's folder.
        root: Where its runs go.
    """

    name: str
    model: Path
    root: Path

    def command(self, run: str) -> list[str]:
        """Start the run, or go on with it once it has begun."""
        out, recipe = self.root / run, str(ROOT / "recipes" / "tiny_cpu.toml")
        how = ["--resume"] if (out / "resolved.json").exists() else ["--recipe", recipe, *self._changes()]
        return [sys.executable, str(ROOT / "run.py"), *how, "--out", str(out)]

    def environment(self, run: str) -> dict[str, str]:
        """With a cache of its own: no run shall find what another one has measured."""
        return os.environ | {"MOTIF_LITE_CACHE": str(self.root / f"cache-{run}")}

    def _changes(self) -> Iterator[str]:
        given = [*SETTINGS, f'model.name="{self.model}"', *CASES[self.name]]
        if self.name == "prepared":
            problems = self.root / "problems.jsonl"
            problems.parent.mkdir(parents=True, exist_ok=True)
            problems.write_text("".join(_short_chains(20)))
            given.append(f'data.train="{problems}"')
        for change in given:
            yield from ("--set", change)


def _short_chains(number: int) -> Iterator[str]:
    """Rows of problems with four digits."""
    from motif_lite.tasks import chain_sum

    rng = random.Random(0)
    for _ in range(number):
        digits = [rng.randrange(10) for _ in range(4)]
        yield json.dumps({"question": chain_sum.question(digits), "answer": chain_sum.EASY.sum_of(digits)}) + "\n"


def compare(whole: Path, killed: Path) -> list[str]:
    """What differs between two runs, times and memory aside."""
    paths = [whole / "rollouts.jsonl", *whole.glob("adapter/*"), *whole.glob("evaluations/*")]
    paths += [
        path for path in whole.glob("warm_start/**/*") if path.is_file() and str(path.relative_to(whole)) not in TIMED
    ]
    names = [str(path.relative_to(whole)) for path in paths]
    found = [name for name in names if (whole / name).read_bytes() != (killed / name).read_bytes()]
    timed = [name for name in TIMED if (whole / name).exists()]
    found += [name for name in timed if _read(whole / name) != _read(killed / name)]
    left = sorted(
        str(path.relative_to(killed))
        for path in killed.rglob("*")
        if not (whole / path.relative_to(killed)).exists() and not path.is_relative_to(killed / "checkpoints")
        if path.stem != "lock"
    )  # which checkpoints are there hangs on the clock; the number of the lock says how often the run was begun
    return found + [f"{name} is left over" for name in left]


def _read(path: Path) -> Any:
    return (
        [_untimed(json.loads(line)) for line in path.read_text().splitlines()]
        if path.suffix == ".jsonl"
        else (_untimed(json.loads(path.read_text())))
    )


def _untimed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _untimed(inner) for key, inner in value.items() if key not in MEASURED}
    return [_untimed(inner) for inner in value] if isinstance(value, list) else value


def _finish(case: Case, run: str) -> float:
    """See the run through; seconds."""
    started = time.monotonic()
    process = subprocess.run(case.command(run), env=case.environment(run), capture_output=True, text=True)
    if process.returncode:
        raise SystemExit(f"FAILED: exit code {process.returncode}\n{process.stdout[-2000:]}{process.stderr[-4000:]}")
    return time.monotonic() - started


def _torment(
    case: Case,
    run: str,
    moments: Iterator[str],
    rng: random.Random,
    kills: dict[str, int],
    wanted: int,
    whole_seconds: float,
) -> None:
    """Kill and resume a run until it has finished or there were enough kills, then let it finish."""
    while sum(kills.values()) < wanted:
        moment = next(moments) if sum(kills.values()) % 2 else None
        # A moment that is over for this run never comes: then it finishes, and another run begins.
        kind = _killed(case, run, moment, (3.0 if moment else rng.uniform(0.2, 0.9)) * whole_seconds)
        if kind is None:
            break
        kills[kind] += 1
        what = moment if kind == "file" else "random"
        print(f"kill {sum(kills.values())}: {what}; {_state(case.root / run)}", flush=True)
    _finish(case, run)


def _killed(case: Case, run: str, moment: str | None, seconds: float) -> str | None:
    """Start or resume the run and kill it when the file appears, or when time is over; None if it ended by itself."""
    end, out = time.monotonic() + seconds, case.root / run
    before = set(out.glob(moment)) if moment else set()
    process = subprocess.Popen(
        case.command(run), env=case.environment(run), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    while process.poll() is None:
        appeared = moment is not None and not set(out.glob(moment)) <= before
        if appeared or time.monotonic() > end:
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            return "file" if appeared else "random"
        time.sleep(0.001)
    if process.returncode:
        raise SystemExit(f"FAILED: exit code {process.returncode}\n{process.communicate()[1].decode()[-4000:]}")
    return None


def _state(out: Path) -> str:
    steps = (out / "metrics.jsonl").read_text().count("\n") if (out / "metrics.jsonl").exists() else 0
    checkpoints = sorted(path.name for path in out.glob("checkpoints/*"))
    measured = len(list(out.glob("evaluations/*.jsonl")))
    return f"{steps} steps, {', '.join(checkpoints) or 'no checkpoint'}, {measured} measurements"


if __name__ == "__main__":
    sys.exit(main())
