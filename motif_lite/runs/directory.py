"""Everything that a run writes, and nothing that it computes.

recipe.toml        the recipe as given            metrics.jsonl    a line per training step
resolved.json      the recipe as understood       rollouts.jsonl   every opening with its futures and rewards
checkpoints/       what --resume continues from   evaluation.json  accuracies with intervals
adapter/, adapter_best/  the trained LoRA (PEFT)  evaluations/     every graded reply, a file per measurement
report.html        figures for people             run.log          what libraries had to say
validation.jsonl   a line per measurement along   accounting.json  tokens, seconds and memory by phase
                   the way                        unfinished/      what is being written, and not yet trusted
lock               held while a process works       own_code/, .json  the user's own files, and their hashes
software.jsonl     versions that made it          inputs.json     sums of problems and model files
selection.json     how often each training problem was solved before training
warm_start/        what was imitated before training, and the adapter that it left

A run may end at any instruction and at any byte. So files are either appended to, a line that was cut off being
dropped by the next reader, or written under another name and renamed. Only the process that holds the lock writes.
"""

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from motif_lite.errors import RunError
from motif_lite.recipe import own_files
from motif_lite.recipe.loading import validate
from motif_lite.recipe.schema import Recipe
from motif_lite.recipe.tables import Tables
from motif_lite.recipe.toml import apply_override
from motif_lite.recipe.training import TrainingSection
from motif_lite.runs import budget, lock, own_code_record, preparing, run_log, sealing
from motif_lite.runs.budget import Spent
from motif_lite.runs.checkpoints import Checkpoints
from motif_lite.runs.costs import Accounting, Costs
from motif_lite.runs.files import (
    append_records,
    as_line,
    each_record,
    each_sized_line,
    flat,
    write_record,
    write_whole,
)
from motif_lite.runs.folders import holds_run, require_free
from motif_lite.runs.records import Evaluation, GradedReply, Mark, StepMetrics, Subject, When
from motif_lite.runs.rollout_lines import RolloutLine
from motif_lite.runs.versions import Json, parsed

_STEPWISE = ("metrics.jsonl", "rollouts.jsonl", "validation.jsonl")
"""Files with lines of steps, in order."""

_log = logging.getLogger(__name__)


class RunDirectory:
    """One run's files, under ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.adapter, self.best_adapter = root / "adapter", root / "adapter_best"
        self.checkpoints = root / "checkpoints"
        self.unfinished = root / "unfinished"
        self.kept_replies = self.unfinished / "replies.jsonl"
        self.report = root / "report.html"
        self.log = root / "run.log"

    @classmethod
    def create(cls, root: Path, recipe: Recipe, recipe_text: str, *, trains: bool = True) -> "RunDirectory":
        """Begin a run in a folder that holds nothing yet; one that only evaluates has no ``checkpoints/``.

        Its caller holds the `locked` folder. resolved.json comes last: with it the folder holds a run.

        Raises:
            RunError: The folder is in use or cannot be written.
        """
        require_free(root)
        run = cls(root)
        try:
            root.mkdir(parents=True, exist_ok=True)
            write_whole(root / "recipe.toml", [recipe_text])
            if trains:
                run.checkpoints.mkdir(exist_ok=True)
            own_code_record.keep(root, recipe)
            run.write_resolved(recipe)
        except OSError as error:
            raise RunError(f"{root}: cannot be written ({error.strerror}); choose another --out") from None
        return run

    @classmethod
    def open(cls, root: Path) -> "RunDirectory":
        """Open a run that exists.

        Raises:
            RunError: There is none.
        """
        if not holds_run(root):
            raise RunError(f"{root}: holds no run (no resolved.json); start one with --recipe, or name another")
        return cls(root)

    def locked(self) -> AbstractContextManager[None]:
        """Keep every other process out of the folder; the system lets go when this one ends, however it ends.

        Raises:
            RunError: Another process works there, or the folder cannot be written.
        """
        return lock.held(self.root)

    def resolved(self, tables: Tables, overrides: Sequence[str] = ()) -> Recipe:
        """The recipe that the run was started with, with further ``--set`` changes.

        Raises:
            RunError: resolved.json cannot be read.
            RecipeError: It is no longer a valid recipe.
        """
        path = self.root / "resolved.json"
        try:
            settings = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(settings, dict):
                raise ValueError("not a table of settings")
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"{path}: cannot be read ({error}); start a new run in another --out") from None
        for override in overrides:
            apply_override(settings, override)
        own_files.bind_rest(settings, [Path()])
        return validate(settings, tables, origin=str(path))

    def write_resolved(self, recipe: Recipe) -> None:
        """Keep the recipe as understood, every default filled in."""
        write_whole(self.root / "resolved.json", [json.dumps(recipe.model_dump(), indent=2), "\n"])

    def append_metrics(self, metrics: StepMetrics) -> None:
        """Add a step's line to metrics.jsonl."""
        append_records(self.root / "metrics.jsonl", [metrics])

    def append_mark(self, mark: Mark) -> None:
        """Add a measurement along the way to validation.jsonl."""
        append_records(self.root / "validation.jsonl", [mark])

    def append_rollouts(self, rollouts: Iterable[RolloutLine]) -> None:
        """Add a step's openings to rollouts.jsonl."""
        append_records(self.root / "rollouts.jsonl", rollouts)

    def metrics(self) -> list[StepMetrics]:
        """All lines of metrics.jsonl so far."""
        return list(each_record(self.root / "metrics.jsonl", StepMetrics))

    def marks(self) -> list[Mark]:
        """All lines of validation.jsonl so far."""
        return list(each_record(self.root / "validation.jsonl", Mark))

    def rollouts(self) -> list[RolloutLine]:
        """All lines of rollouts.jsonl so far."""
        return list(each_record(self.root / "rollouts.jsonl", RolloutLine))

    def rollouts_of(self, *steps: int) -> list[RolloutLine]:
        """The lines of these steps, without holding those of all others."""
        return list(each_record(self.root / "rollouts.jsonl", RolloutLine, lambda line: line.get("step") in steps))

    def forget_after(self, step: int) -> None:
        """Drop the lines of steps that will be done again, and a last line that was cut off in mid-write."""
        for name in _STEPWISE:
            path = self.root / name
            if path.exists():
                kept = sum(size for line, size in each_sized_line(path) if _step_of(line, path) <= step)
                os.truncate(path, kept)  # steps stand in order; a copy would need room that a full disk has not

    def keep_checkpoint(self, step: int, keep: int, every: int = 1) -> None:
        """Seal what the trainer has written for this step, and drop old ones, see `Checkpoints.keep`."""
        for name in _STEPWISE:  # a checkpoint never stands without the lines before it
            if (self.root / name).exists():
                sealing.flush(self.root / name)
        Checkpoints(self.checkpoints, self.unfinished).keep(step, keep, every)

    def newest_checkpoint(self) -> tuple[Path, int] | None:
        """The newest whole checkpoint with the step that it was written after; None if there is none yet.

        Raises:
            RunError: There are checkpoints, and all of them are damaged.
        """
        return Checkpoints(self.checkpoints, self.unfinished).newest()

    def save_adapter(self, step: int, save: Callable[[Path], None], place: Path | None = None) -> None:
        """Replace an adapter, by default ``adapter/``, by what ``save`` writes.

        Raises:
            RunError: It cannot be written.
        """
        folder, place = self.unfinished / "adapter", place or self.adapter
        shutil.rmtree(folder, ignore_errors=True)
        try:
            self.unfinished.mkdir(exist_ok=True)
            save(folder)
            sealing.seal(folder, place, step=step)
        except Exception as error:  # each library that writes a file of it has errors of its own for a full disk
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise RunError(
                f"{place}: cannot be saved ({reason}); its checkpoint is intact: free some space, then continue "
                f"with --resume --out {self.root}"
            ) from error

    def require_whole_adapter(self) -> None:
        """Refuse an adapter that is not what training wrote.

        Raises:
            RunError: It is damaged.
        """
        damage = sealing.damage(self.adapter)
        if damage and (self.adapter / sealing.MANIFEST).exists():  # somebody may have put another one there
            raise RunError(f"{self.adapter}: {damage}; --resume writes it again")

    def best_step(self) -> int | None:
        """The step of ``adapter_best/``; None if it is damaged or not there."""
        return sealing.step_of(self.best_adapter)

    def clear_unfinished(self) -> None:
        """Remove what was being written when a process ended."""
        shutil.rmtree(self.unfinished, ignore_errors=True)

    def spent(self, up_to: int | None = None) -> Spent:
        """What training has taken, up to and with a step."""
        lines = (line for line in self.metrics() if up_to is None or line.step <= up_to)
        return budget.spent(lines, self.preparing)

    @property
    def preparing(self) -> Costs:
        """What was done before the first step took, by phase."""
        return preparing.costs(self.root)

    def is_trained(self, training: TrainingSection) -> bool:
        """Whether training got to the end of its budget and left its adapter."""
        step = sealing.step_of(self.adapter)
        return step is not None and budget.share_done(training, self.spent(step)) == 1

    def evaluation(self) -> Evaluation:
        """evaluation.json so far; an empty one where nothing has been measured."""
        path = self.root / "evaluation.json"
        if not path.exists():
            return Evaluation()
        remedy = "remove it and run again with --evaluate-only"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise RunError(f"{path}: is damaged ({error}); {remedy}") from None
        return parsed(Evaluation, content, f"{path}:", remedy)

    def write_evaluation(self, evaluation: Evaluation) -> None:
        """Replace evaluation.json."""
        write_record(self.root / "evaluation.json", evaluation)

    def write_accounting(self, costs: Costs) -> None:
        """Replace accounting.json."""
        write_record(self.root / "accounting.json", Accounting(phases=costs))

    def write_report(self, page: str) -> None:
        """Replace report.html."""
        write_whole(self.report, [page])

    def graded_path(self, subject: Subject, when: When) -> Path:
        """Where the graded replies of one measurement lie."""
        name = f"{subject.benchmark}.{when}.{flat(subject.strategy)}.{subject.decoding}.jsonl"
        return self.root / "evaluations" / name

    def write_graded(self, subject: Subject, when: When, graded: Iterable[GradedReply]) -> None:
        """Keep the graded replies of one measurement."""
        path = self.graded_path(subject, when)
        path.parent.mkdir(exist_ok=True)
        write_whole(path, map(as_line, graded))

    def graded(self, subject: Subject, when: When) -> list[GradedReply]:
        """The graded replies of one measurement; none if it was not made."""
        return list(each_record(self.graded_path(subject, when), GradedReply))

    def log_handler(self) -> logging.Handler:
        """A handler that appends to run.log."""
        return run_log.handler(self.log)


def _step_of(line: Json, path: Path) -> int:
    step = line.get("step")
    if not isinstance(step, int):
        raise RunError(f"{path}: a line is damaged (it names no step); remove it")
    return step
