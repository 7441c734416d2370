"""The plan against a long run on a CPU: seconds and memory of its steps, and whether memory stays what it was.

    python benchmarks/long_run.py [--steps 300]
    python benchmarks/long_run.py --model MODEL --problems FILE [--steps 60] [--set KEY=VALUE ...]

Without a model it is recipes/tiny_cpu.toml. MODEL is the folder of an instruct model, FILE holds GSM8K rows: m = 8,
k = 4, 200 tokens a reply. The plan is made first, while nothing else runs. The memory of each tenth of the run is
printed, and the ratio of the last to the second, by which every kind of work has been done.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from motif_lite.jobs import checking  # noqa: E402  # the line above finds it
from motif_lite.planning.planner import Plan  # noqa: E402
from tests.faults.slow_soak import SETTINGS  # noqa: E402

Line = dict[str, Any]


def main() -> None:
    """Run it and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--problems", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, default=None, help="the run directory; by default in a temporary folder")
    given = parser.parse_args()
    recipe, changes = ROOT / "recipes" / "tiny_cpu.toml", ["evaluation.benchmarks={}"]
    if given.model:
        recipe = ROOT / "recipes" / "motif_gsm8k.toml"
        names = {"model.name": given.model, "data.train": given.problems}
        changes = [*SETTINGS, *(f"{key}={json.dumps(str(path.absolute()))}" for key, path in names.items())]
    changes += [f"training.max_steps={given.steps}", "training.learning_rate=1e-6", *given.changes]
    plan = checking.memory_plan(recipe, changes, None)
    print(f"speed: {plan.speed}", flush=True)
    out = given.out or Path(tempfile.mkdtemp(prefix="motif_lite-long-")) / "run"
    command = [sys.executable, str(ROOT / "run.py"), "--recipe", str(recipe), "--out", str(out)]
    command += [part for change in changes for part in ("--set", change)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    report(plan, [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()])


def report(plan: Plan, lines: Sequence[Line]) -> None:
    """Tenths of the run, then plan against measurement."""
    tenths = [lines[len(lines) * part // 10 : len(lines) * (part + 1) // 10] for part in range(10)]
    peaks = [median(max(line["peak_memory_bytes"].values()) for line in tenth) for tenth in tenths if tenth]
    print(f"resident GiB by tenth of {len(lines)} steps: {' '.join(f'{peak / 2**30:.3f}' for peak in peaks)}")
    if len(peaks) == 10:
        print(f"last tenth to second: {peaks[-1] / peaks[1]:.3f}")
    for phase, planned in plan.seconds.items():
        print(
            f"{phase}: {planned:.1f} s planned, {median(line['seconds'].get(phase, 0) for line in lines):.1f} measured"
        )
    whole = median(sum(line["seconds"].values()) for line in lines)
    print(f"step: {sum(plan.seconds.values()):.1f} s planned, {whole:.1f} measured")
    last = lines[-1]
    planned, measured = (max(last[key].values()) / 2**30 for key in ("planned_memory_bytes", "peak_memory_bytes"))
    print(f"memory of the last step: {planned:.2f} GiB planned by the run, {measured:.2f} measured")


if __name__ == "__main__":
    main()
