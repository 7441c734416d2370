"""A study on disk for tests: its file, and runs that were never made but look as if they had been."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.records import Evaluation, Subject, When
from motif_lite.study.file import Study
from motif_lite.study.plan import Run, StudyPlan
from tests import records

ROOT = Path(__file__).parents[1]
TINY = ROOT / "recipes" / "tiny_cpu.toml"

SETTINGS: dict[str, Any] = {
    "title": "A | study",
    "question": "Which is better?",
    "base": str(TINY),
    "seeds": [1, 2],
    "reference": "plain",
    "benchmark": "chain_sum",
    "variants": {"base": {"train": False}, "plain": {}, "wide": {"set": ["rollout.num_futures=8"], "label": "k = 8"}},
}


def plan(folder: Path, **changes: Any) -> StudyPlan:
    """A plan without the checks of `study_plan.load`, so that tests need not name keys that they have no use for."""
    study = Study.model_validate(SETTINGS | changes)
    strategies = {name: variant.strategy or "multi_round" for name, variant in study.variants.items()}
    return StudyPlan(study, folder / "test.toml", folder / "test", strategies)


def pretend(
    plan: StudyPlan,
    run: Run,
    correct: Sequence[bool] = (True, False),
    marks: Sequence[tuple[int, float]] = (),
    *,
    tokens: int = 1000,
) -> RunDirectory:
    """Write what a finished run leaves: graded test replies, marks of (tokens, accuracy of 400), and metrics."""
    run.root.mkdir(parents=True, exist_ok=True)
    directory = RunDirectory.create(run.root, run.resolved(), "", trains=run.trains)
    if run.trains:
        directory.adapter.mkdir()
        directory.append_metrics(records.step(
            1, prompts={"openings": 8}, tokens={"openings": tokens // 4, "futures": 3 * tokens // 4},
            trained_tokens=tokens // 4, seconds={"openings": 1.5, "update": 0.5}, peak_memory_bytes={"update": 2**30},
        ))  # fmt: skip
    for step, (spent, accuracy) in enumerate(marks):
        outcomes = "1" * round(400 * accuracy) + "0" * round(400 * (1 - accuracy))
        directory.append_mark(
            records.mark(step, accuracy, num_problems=400, tokens=spent, seconds=spent / 100, outcomes=outcomes)
        )
    if run.candidate is None:
        _measured(plan, run, directory, correct)
    directory.write_report("")
    return directory


def _measured(plan: StudyPlan, run: Run, directory: RunDirectory, correct: Sequence[bool]) -> None:
    when: When = "after" if run.trains else "before"
    subject = Subject("chain_sum", plan.strategies[run.variant], "sampled")
    directory.write_graded(
        subject, when, [records.graded(f"{run.seed}/{n}", right, tokens=30) for n, right in enumerate(correct)]
    )
    right, number = sum(correct), len(correct)
    found = records.measurement(
        right / number, **subject._asdict(), when=when, num_problems=number, num_samples=number, num_correct=right,
        interval=(0.0, 1.0), generated_tokens=30 * number, seconds=1.25,
    )  # fmt: skip
    directory.write_evaluation(Evaluation(measurements=(found,)))
