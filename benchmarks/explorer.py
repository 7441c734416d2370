"""How the explorer copes with a long run: time until its list can be used, and memory of the page.

    python -m benchmarks.explorer [STEPS]

Writes a run of STEPS steps (2,000) x 8 openings x 4 futures of 3 rounds with random words, about 400 tokens a reply, to
a temporary folder, then opens it in Chromium both ways: as one file, and served. Needs 2 GB of disk.
"""

import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from motif_lite.jobs import checking, view_job
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.files import append_records
from motif_lite.runs.rollout_lines import RolloutLine
from tests import browser

OPENINGS, FUTURES, WORDS = 8, 4, 300


def make_run(folder: Path, steps: int) -> RunDirectory:
    """A run directory with random rollouts, and nothing else."""
    changes = ["rollout.num_openings=8", "rollout.num_futures=4"]
    recipe = checking.check(Path(__file__).parents[1] / "recipes" / "tiny_cpu.toml", changes)
    run = RunDirectory.create(folder / "run", recipe, "")
    chance = random.Random(0)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(1, 9))) for _ in range(5000)]
    for step in range(1, steps + 1):
        append_records(run.root / "rollouts.jsonl", _lines(step, chance, words))
    return run


def _lines(step: int, chance: random.Random, words: list[str]) -> Iterator[RolloutLine]:
    def turn(prompt: str) -> dict[str, object]:
        text = " ".join(chance.choices(words, k=WORDS))
        return {"prompt": prompt, "reply": f"<reasoning>\n{text}\n</reasoning>", "tokens": 400, "finish": "stop"}

    question = " ".join(chance.choices(words, k=40))
    for _ in range(OPENINGS):
        prompt = f"{question} {' '.join(words[:100])}"
        rights = [chance.random() < 0.5 for _ in range(FUTURES)]
        futures = [{"rounds": [turn(prompt), turn(prompt)], "correct": right} for right in rights]
        accuracy = sum(rights) / FUTURES
        yield RolloutLine.model_validate({
            "step": step, "problem": f"p/{step % 500}", "question": question, "gold": "1", "opening": turn(prompt),
            "rewards": {"future_accuracy": accuracy}, "accuracy": accuracy, "futures": futures,
        })  # fmt: skip


def measure(tab: browser.Tab, url: str, label: str, profile: Path) -> None:
    """Print what opening, scrolling and opening a group take, and the memory of the page's process."""
    tab.size(1200, 800)
    begun = time.monotonic()
    tab.call("Page.navigate", url=url)
    tab.wait("document.querySelectorAll('.row').length > 0", 120)
    listed = time.monotonic() - begun
    tab.wait("document.readyState === 'complete'", 300)
    complete = time.monotonic() - begun
    begun = time.monotonic()
    tab.evaluate("document.getElementById('list').scrollTop = 60000")
    tab.wait("[...document.querySelectorAll('.row')].some(row => parseFloat(row.style.top) > 60000)")
    scrolled = time.monotonic() - begun
    begun = time.monotonic()
    tab.evaluate("document.querySelector('.row').click()")
    tab.wait("document.querySelectorAll('.opening').length === 8")
    print(
        f"{label}: list after {listed:.2f} s, whole page after {complete:.1f} s, scroll {scrolled:.2f} s, "
        f"group {time.monotonic() - begun:.2f} s, page {_megabytes(profile):.0f} MB resident",
        flush=True,
    )


def _megabytes(profile: Path) -> float:
    """Resident memory of the largest process that renders pages of this browser."""
    listed = subprocess.run(["ps", "-eo", "rss=,args="], capture_output=True, text=True, check=True).stdout
    ours = [line for line in listed.splitlines() if str(profile) in line or "--type=renderer" in line]
    return max(int(line.split()[0]) for line in ours if "--type=renderer" in line) / 1000


def main(steps: int) -> None:
    """Make the run, and measure both ways."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = make_run(folder, steps)
        print(f"{steps} steps, rollouts.jsonl {(run.root / 'rollouts.jsonl').stat().st_size / 1e6:.0f} MB", flush=True)
        begun = time.monotonic()
        server = view_job.job(run.root).server(0, lambda done, total: None)
        print(f"the server has read it after {time.monotonic() - begun:.1f} s", flush=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with browser.opened(folder / "served") as tab:
            measure(tab, server.url, "served", folder / "served")
        server.shutdown()
        begun = time.monotonic()
        page = folder / "page.html"
        view_job.job(run.root).write(page, lambda done, total: None)
        print(f"one file of {page.stat().st_size / 1e6:.0f} MB after {time.monotonic() - begun:.1f} s", flush=True)
        with browser.opened(folder / "file") as tab:
            measure(tab, page.as_uri(), "file", folder / "file")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
