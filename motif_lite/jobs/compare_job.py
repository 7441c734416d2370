"""The ``compare`` command: two or more runs, on one page and in tables."""

from collections.abc import Sequence
from pathlib import Path

from motif_lite.errors import RunError
from motif_lite.evaluation import across_runs
from motif_lite.jobs import checking
from motif_lite.observer import Observer
from motif_lite.recipe import keys
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.folders import holds_run
from motif_lite.views.comparison import ComparedRun, ComparedRuns

_MOST_ANSWERS = 60
"""Problems whose answers the page shows."""


def compared(roots: Sequence[Path], observer: Observer) -> ComparedRuns:
    """Read the runs, and compare all with the first.

    Raises:
        MotifError: They are fewer than two, a folder holds no run, or a file of one is damaged.
    """
    directories = _directories(roots)
    recipes = [directory.resolved(checking.TABLES) for directory in directories]
    found = list[ComparedRun]()
    for name, directory in zip(_names(roots), directories, strict=True):
        observer.phase("reading", name)
        found.append(ComparedRun(name, directory.metrics(), directory.marks(), directory.preparing))
    observer.phase("comparing", f"{len(roots)} runs")
    confidence = recipes[0].evaluation.confidence
    different = dict.fromkeys(key for recipe in recipes[1:] for key in keys.differing_keys(recipes[0], recipe))
    return ComparedRuns(
        runs=found,
        tests=across_runs.paired_tests(directories, recipes, confidence),
        keys=[(key, [keys.written(recipe, key) for recipe in recipes]) for key in sorted(different)],
        problems=across_runs.shared_problems(directories, _MOST_ANSWERS),
        confidence=confidence,
    )


def _directories(roots: Sequence[Path]) -> list[RunDirectory]:
    if len(roots) < 2:
        raise RunError("compare takes two or more run directories, e.g. runs/A runs/B")
    for root in roots:
        if not holds_run(root):
            raise RunError(f"{root}: holds no run (no resolved.json); give run directories, e.g. runs/A runs/B")
    if len({root.resolve() for root in roots}) < len(roots):
        raise RunError("compare: one of the runs is named twice; name each once")
    return [RunDirectory(root) for root in roots]


def _names(roots: Sequence[Path]) -> list[str]:
    names = [root.resolve().name for root in roots]
    return names if len(set(names)) == len(names) else [str(root) for root in roots]
