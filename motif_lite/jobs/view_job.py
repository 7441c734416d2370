"""The ``view`` command: a run's rollouts as a page, in a file or served."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from motif_lite.errors import RunError
from motif_lite.jobs import checking
from motif_lite.recipe.schema import Recipe
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.folders import holds_run
from motif_lite.views.explorer import page
from motif_lite.views.explorer.server import ExplorerServer, FollowedRun


@dataclass(frozen=True, slots=True)
class ViewJob:
    """A run whose rollouts are to be seen."""

    recipe: Recipe
    run: RunDirectory

    def write(self, file: Path, on_progress: Callable[[int, int], None]) -> None:
        """Write one file that needs no server.

        Raises:
            RunError: The run has no rollouts yet, a line is damaged, or the file cannot be written.
        """
        if not _has_rollouts(self.run):
            raise RunError(f"{self.run.root}: has no rollouts yet; wait until its first step is done")
        page.write(self.recipe, self.run, file, on_progress)

    def server(self, port: int, on_progress: Callable[[int, int], None]) -> ExplorerServer:
        """A server that has read the rollouts so far.

        Raises:
            RunError: A line is damaged, or the port cannot be used.
        """
        followed = FollowedRun(self.recipe, self.run)
        server = ExplorerServer(followed, port)
        followed.update(on_progress)
        return server


def job(root: Path) -> ViewJob:
    """Find the run.

    Raises:
        MotifError: The folder holds no run that was begun to train, or its recipe cannot be read.
    """
    if not holds_run(root):
        raise RunError(f"{root}: holds no run (no resolved.json); give a run directory, e.g. runs/tiny_cpu")
    run = RunDirectory(root)
    if not run.checkpoints.is_dir() and not _has_rollouts(run):
        raise RunError(f"{root}: has no rollouts, because this run only evaluates; give a run that trains")
    return ViewJob(run.resolved(checking.TABLES), run)


def _has_rollouts(run: RunDirectory) -> bool:
    path = run.root / "rollouts.jsonl"
    return path.exists() and path.stat().st_size > 0
