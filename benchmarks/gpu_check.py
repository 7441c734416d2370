"""Everything that only a GPU can show, in one command: ``python benchmarks/gpu_check.py --out DIR``.

Random weights of a real model's shape are loaded, trained and listened to within a given memory. Each row of the table
is a piece of its own of less than ten minutes, written to DIR/results.json when it is done. The same command goes on
with the rows that are missing or have failed, so it may be cut off anywhere. ``--device cpu --size tiny`` runs the same
code without a GPU. It needs no network.
"""

import argparse
import json
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks import any_reward
from benchmarks.bench import ROOT, Bench, Settings, stay_offline
from benchmarks.rows import ROWS, Finding, NotApplicable
from motif_lite.planning import hardware

PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "bitsandbytes", "unsloth", "unsloth_zoo",
            "xformers", "triton")  # fmt: skip

SIZES = ("3b", "1.5b", "0.5b", "tiny")

Results = dict[str, Any]
"""The content of results.json: ``settings``, and under ``rows`` what was found, by name."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for and print the table.

    Returns:
        0 if all rows that were measured are as they should be, otherwise 1.

    Raises:
        SystemExit: With 2, if nothing can be measured like this.
    """
    options = _parsed(arguments)
    out: Path = options.out
    settings = _settings(options)
    _require_device(settings.device)
    results = _results_so_far(out / "results.json", settings)
    bench = Bench(settings, out)
    console = Console(highlight=False)
    wanted = sorted(options.only or ROWS, key=lambda name: (ROWS[name].in_process, list(ROWS).index(name)))
    todo = [name for name in wanted if options.again or not _is_done(results["rows"].get(name))]
    stay_offline()
    passed = True
    try:
        for number, name in enumerate(todo, start=1):
            console.print(f"{number} of {len(todo)}: {ROWS[name].title}")
            results["rows"][name] = _measured(name, bench, arguments)
            passed = passed and _is_done(results["rows"][name])
            _write(out / "results.json", results)
    finally:
        console.print(_table(results))
        if options.markdown:
            print(_markdown(results))
    return 0 if passed else 1


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--size", choices=SIZES, default="3b", help="shape of the model: Qwen2.5's, or tiny")
    parser.add_argument("--backend", choices=("unsloth", "transformers"), help="default: unsloth on cuda")
    parser.add_argument("--memory-gib", type=float, default=24.0, help="the card to stand for (default: 24)")
    parser.add_argument("--tokenizer", metavar="DIR", help="Qwen2.5's tokenizer; default: a token per byte")
    parser.add_argument("--data", metavar="FILE", help="problems; default: chain_sum, made on the spot")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu_check"), metavar="DIR")
    parser.add_argument("--only", nargs="+", choices=ROWS, metavar="ROW", help=f"these rows: {', '.join(ROWS)}")
    parser.add_argument("--again", action="store_true", help="also rows that are done")
    limits = parser.add_mutually_exclusive_group()
    limits.add_argument(
        "--limits", nargs=2, type=int, metavar=("OPENING", "FUTURE"), help="longest replies in tokens (256 256)"
    )
    limits.add_argument("--full-length", action="store_true", help="the recipe's own limits, 1024 and 2048")
    parser.add_argument("--markdown", action="store_true", help="also print rows for docs/measurements.md")
    return parser.parse_args(arguments)


def _settings(options: argparse.Namespace) -> Settings:
    on_gpu = options.device == "cuda"
    openings, futures = options.limits or ((1024, 2048) if options.full_length else (256, 256) if on_gpu else (16, 16))
    return Settings(
        device=options.device,
        size=options.size,
        backend=options.backend or ("unsloth" if on_gpu else "transformers"),
        memory_gib=options.memory_gib,
        tokenizer=options.tokenizer,
        data=options.data,
        openings=openings,
        futures=futures,
    )


def _results_so_far(path: Path, settings: Settings) -> Results:
    """What an earlier call found; a table of mixed settings would say nothing."""
    if not path.exists():
        return {"settings": asdict(settings), "rows": {}}
    results: Results = json.loads(path.read_text(encoding="utf-8"))
    if results["settings"] != asdict(settings):
        _refuse(f"{path}: holds results of other settings ({results['settings']}); choose another --out")
    return results


def _require_device(device: str) -> None:
    """Say at once that there is no GPU: the model alone takes minutes to write without one."""
    if device == "cuda" and hardware.gpu_by_driver() is None and not list(Path("/dev").glob("nvidia*")):
        _refuse("there is no NVIDIA GPU here; --device cpu --size tiny runs the same code without one")


def _refuse(reason: str) -> NoReturn:
    print(f"error: {reason}", file=sys.stderr)
    raise SystemExit(2)


def _is_done(row: Results | None) -> bool:
    return row is not None and row["status"] in ("passed", "not applicable")


def _measured(name: str, bench: Bench, arguments: Sequence[str] | None) -> Results:
    """One row's entry; whatever goes wrong in it is its result."""
    started = time.monotonic()
    entry: Results = {"title": ROWS[name].title}
    try:
        with any_reward.registered():  # recipes and run directories name it
            finding: Finding = ROWS[name].measure(bench)
        entry |= {"status": "passed" if finding.passed else "failed", "summary": finding.summary}
        entry["figures"] = finding.figures
    except NotApplicable as reason:
        entry |= {"status": "not applicable", "summary": str(reason)}
    except Exception as error:  # libraries raise what they like; the next row may still work
        entry |= {"status": "failed", "summary": f"{type(error).__name__}: {error}", "error": traceback.format_exc()}
    return entry | {"seconds": round(time.monotonic() - started, 1)} | _origin(arguments)


def _origin(arguments: Sequence[str] | None) -> Results:
    """Where, when and with what: rows of one table may come from several calls."""
    command = sys.orig_argv if arguments is None else ["python", "benchmarks/gpu_check.py", *arguments]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(command),
        "commit": _answer(["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude", "*"]),
        "machine": {
            "gpu": _answer(["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]),
            "cpu": _processor(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
            "system": platform.platform(),
        },
        "versions": {"python": platform.python_version()} | _versions(),
    }


def _answer(command: list[str]) -> str | None:
    """What a tool prints, if it is there and knows."""
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout.strip() or None if done.returncode == 0 else None


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _write(path: Path, results: Results) -> None:
    """Under another name first: a call that is cut off leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(path)


def _table(results: Results) -> Table:
    table = Table("row", "", "what was found", title=_heading(results["settings"]), title_justify="left")
    styles = {"passed": "green", "failed": "bold red"}
    for name, row in ROWS.items():
        entry = results["rows"].get(name, {"status": "not measured", "summary": f"--only {name}"})
        status = entry["status"]
        table.add_row(row.title, f"[{styles.get(status, 'dim')}]{status}", escape(entry["summary"]))
    return table


def _heading(settings: Results) -> str:
    return (
        f"{settings['size']} on {settings['device']}, {settings['backend']}, {settings['memory_gib']:g} GiB, "
        f"replies of {settings['openings']} / {settings['futures']} tokens"
    )


def _markdown(results: Results) -> str:
    """Rows as they stand in docs/measurements.md."""
    lines = []
    for name, row in ROWS.items():
        entry = results["rows"].get(name, {"status": "not measured"})
        found = entry.get("summary", entry["status"]).replace("|", "\\|").replace("\n", " ")
        verdict = f"{entry['status']}: {found}" if entry["status"] == "failed" else found
        lines.append(f"| {row.title} | {verdict} | {entry.get('date', '')[:10]} |")
    return "\n".join(lines)


def _leave(number: int, frame: FrameType | None) -> None:
    """Turn SIGTERM into an orderly end: the run in progress is told, and the table is printed."""
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _leave)
    sys.exit(main())
