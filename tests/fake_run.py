"""Stands in for run.py in tests of studies: leaves what a run leaves, without a model.

The file named in MOTIF_FAKE_RUN tells it what happens: a line per call is appended to ``calls``; ``loads`` names a file
that it waits for before it holds its folder, as a run waits for its model; ``fails`` names a word in the run
directory's path that makes it fail with its content as the message, after so many ``steps`` without an update;
``waits`` one that makes it stand still until it is stopped.
"""

import json
import os
import sys
import time
from pathlib import Path

from motif_lite import process
from motif_lite.jobs import checking
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.folders import holds_run
from motif_lite.runs.records import Evaluation, Subject, When
from tests import records

process.prepare()
words = sys.argv[1:]
told = json.loads(os.environ["MOTIF_FAKE_RUN"])
root = Path(words[words.index("--out") + 1])
changes = [words[place + 1] for place, word in enumerate(words) if word == "--set"]
with Path(told["calls"]).open("a") as calls:
    calls.write(
        json.dumps({"root": str(root), "modes": [w for w in ("--resume", "--evaluate-only") if w in words]}) + "\n"
    )

deadline = time.monotonic() + 60
while "loads" in told and not Path(told["loads"]).exists() and time.monotonic() < deadline:
    time.sleep(0.01)
run = RunDirectory(root)
with run.locked():
    trains = "--evaluate-only" not in words
    if not holds_run(root):
        recipe = checking.check(Path(words[words.index("--recipe") + 1]), changes)
        run = RunDirectory.create(root, recipe, "", trains=trains)
    print("begun", flush=True)
    if told.get("waits", "nothing") in str(root):
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            sys.exit(130)
    if told.get("fails", "nothing") in str(root):
        for step in range(told.get("steps", 0)):
            run.append_metrics(records.step(step + 1, update_skipped=True, share_done=0.1))
        print(told["message"], file=sys.stderr)
        sys.exit(told["code"])
    when: When = "before" if "--evaluate-only" in words else "after"
    run.write_graded(Subject("chain_sum", "multi_round", "sampled"), when, [records.graded()])
    found = records.measurement(
        1.0, when=when, decoding="sampled", num_problems=1, num_samples=1, num_correct=1, interval=(0.0, 1.0),
        generated_tokens=3, seconds=1.0,
    )  # fmt: skip
    run.write_evaluation(Evaluation(measurements=(found,)))
    if trains:
        run.adapter.mkdir(exist_ok=True)
    run.write_report("")
