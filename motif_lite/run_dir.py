"""Everything that a run writes, and nothing that it computes.

recipe.toml        the recipe as given            metrics.jsonl    a line per training step
resolved.json      the recipe as understood       rollouts.jsonl   every opening with its futures and rewards
checkpoints/       what --resume continues from   evaluation.json  accuracies with intervals
adapter/           the trained LoRA (PEFT)        evaluations/     every graded reply, a file per measurement
report.html        figures for people             run.log          what libraries had to say
"""

import errno
import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from motif_lite.errors import RunError
from motif_lite.recipe import Recipe, Tables, apply_override, changed, differing_keys, validate

CHANGEABLE = (
    "training.max_steps", "training.save_every", "training.keep_checkpoints", "evaluation.",
    "model.memory_gib", "model.gpu_memory_utilization", "rollout.max_width", "training.micro_batch_size",
    "training.gradient_checkpointing", "training.logit_chunks",
)  # fmt: skip
"""Keys that may differ when a run is resumed: how long it goes on, what is measured, and what memory allows."""

Evaluation = dict[str, Any]
"""The content of evaluation.json."""


class RunDirectory:
    """One run's files, under ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.adapter = root / "adapter"
        self.checkpoints = root / "checkpoints"
        self.report = root / "report.html"
        self.log = root / "run.log"

    @classmethod
    def create(cls, root: Path, recipe: Recipe, recipe_text: str, *, trains: bool = True) -> "RunDirectory":
        """Begin a run in a folder that holds nothing yet; one that only evaluates has no ``checkpoints/``.

        Raises:
            RunError: The folder is in use or cannot be written.
        """
        require_free(root)
        run = cls(root)
        try:
            root.mkdir(parents=True, exist_ok=True)
            with (root / "recipe.toml").open("x", encoding="utf-8") as file:  # of two runs begun at once, one gets it
                file.write(recipe_text)
            if trains:
                run.checkpoints.mkdir()
            run.write_resolved(recipe)
        except FileExistsError:
            raise RunError(f"{root}: another run has just begun there; choose another --out") from None
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
            raise RunError(f"{root}: holds no run (no resolved.json); start one without --resume")
        return cls(root)

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
            raise RunError(f"{path}: cannot be read ({error}); start the run afresh in another --out") from None
        for override in overrides:
            apply_override(settings, override)
        return validate(settings, tables, origin=str(path))

    def write_resolved(self, recipe: Recipe) -> None:
        """Keep the recipe as understood, every default filled in."""
        _write_whole(self.root / "resolved.json", [json.dumps(recipe.model_dump(), indent=2), "\n"])

    def append_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Add a step's line to metrics.jsonl."""
        self._append("metrics.jsonl", [metrics])

    def append_rollouts(self, rollouts: Iterable[Mapping[str, Any]]) -> None:
        """Add a step's openings to rollouts.jsonl."""
        self._append("rollouts.jsonl", rollouts)

    def metrics(self) -> list[dict[str, Any]]:
        """All lines of metrics.jsonl so far."""
        return _read_lines(self.root / "metrics.jsonl")

    def rollouts(self) -> list[dict[str, Any]]:
        """All lines of rollouts.jsonl so far."""
        return _read_lines(self.root / "rollouts.jsonl")

    def rollouts_of(self, step: int) -> list[dict[str, Any]]:
        """The lines of one step, without holding those of all others."""
        return [line for line in _each_line(self.root / "rollouts.jsonl") if line["step"] == step]

    def forget_after(self, step: int) -> None:
        """Drop the lines of steps that will be done again, and a last line that was cut off in mid-write."""
        for name in ("metrics.jsonl", "rollouts.jsonl"):
            path = self.root / name
            if path.exists():
                _write_whole(path, (_line(line) for line in _each_line(path) if line["step"] <= step))

    def newest_checkpoint(self) -> tuple[Path, int] | None:
        """The newest checkpoint with the step that it was written after."""
        found = [
            (int(match[1]), path)
            for path in self.checkpoints.glob("checkpoint-*")
            if (match := re.fullmatch(r"checkpoint-(\d+)", path.name)) and (path / "trainer_state.json").is_file()
        ]
        return max(found)[::-1] if found else None

    def is_trained(self, max_steps: int) -> bool:
        """Whether training got to its last step and left its adapter."""
        metrics = self.metrics()
        return self.adapter.exists() and bool(metrics) and metrics[-1]["step"] >= max_steps

    def evaluation(self) -> Evaluation:
        """evaluation.json so far; an empty one where nothing has been measured."""
        path = self.root / "evaluation.json"
        if not path.exists():
            return {"benchmarks": {}, "settings": {}, "comparisons": {}}
        try:
            evaluation: Evaluation = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(evaluation, dict) or not isinstance(evaluation.get("benchmarks"), dict):
                raise ValueError("it has no table of benchmarks")
        except ValueError as error:
            raise RunError(f"{path}: is damaged ({error}); remove it and run again with --evaluate-only") from None
        return {"settings": {}, "comparisons": {}} | evaluation

    def write_evaluation(self, evaluation: Evaluation) -> None:
        """Replace evaluation.json."""
        _write_whole(self.root / "evaluation.json", [json.dumps(evaluation, indent=2), "\n"])

    def graded_path(self, benchmark: str, when: str, strategy: str, decoding: str) -> Path:
        """Where the graded replies of one measurement lie."""
        return self.root / "evaluations" / f"{benchmark}.{when}.{strategy}.{decoding}.jsonl"

    def write_graded(self, path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
        """Keep the graded replies of one measurement."""
        path.parent.mkdir(exist_ok=True)
        _write_whole(path, map(_line, lines))

    def read_graded(self, path: Path) -> list[dict[str, Any]]:
        """The graded replies of one measurement; none if it was not made."""
        return _read_lines(path)

    def log_handler(self) -> logging.Handler:
        """A handler that appends to run.log."""
        handler = logging.FileHandler(self.log, encoding="utf-8", errors="backslashreplace")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        return handler

    def _append(self, name: str, lines: Iterable[Mapping[str, Any]]) -> None:
        with (self.root / name).open("a", encoding="utf-8") as file:
            file.writelines(map(_line, lines))


def with_decisions_of(run: RunDirectory, recipe: Recipe, tables: Tables) -> Recipe:
    """The recipe with what the run's plan decided where it says ``auto``: a resumed run is the same run."""
    earlier = run.resolved(tables)
    return changed(
        recipe,
        {
            f"{section}.{key}": getattr(getattr(earlier, section), key)
            for section, key in (("rollout", "max_width"), ("training", "micro_batch_size"))
            if getattr(getattr(recipe, section), key) == "auto"
        },
    )


def check_resumable(run: RunDirectory, recipe: Recipe, tables: Tables) -> None:
    """Refuse to continue a run with a recipe that would make it another run.

    Raises:
        RunError: Keys differ that may not; all are named.
    """
    different = [key for key in differing_keys(run.resolved(tables), recipe) if not key.startswith(CHANGEABLE)]
    if different:
        raise RunError(
            f"{run.root}: was started with other settings of {', '.join(different)}; set them back, or start a new "
            f"run in another --out"
        )


def require_free(root: Path) -> None:
    """Refuse a folder that something else lies in.

    Raises:
        RunError: It is not an empty folder, nor free to be made.
    """
    try:
        here = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
        if not here.is_dir() and here != root:
            raise NotADirectoryError(errno.ENOTDIR, f"{here} is a file")
        is_free = here.is_dir() and (here != root or not any(root.iterdir()))
    except OSError as error:
        raise RunError(f"{root}: cannot be written ({error.strerror}); choose another --out") from None
    if not is_free:
        raise RunError(f"{root}: is not empty; continue that run with --resume, or choose another --out")


def free_folder(base: Path) -> Path:
    """``base``, or the first of ``base-2``, ``base-3``, ... that does not exist."""
    number = 1
    folder = base
    while folder.exists():
        number += 1
        folder = base.with_name(f"{base.name}-{number}")
    return folder


def newest_run(base: Path) -> Path | None:
    """The last of ``base``, ``base-2``, ... that was begun to train."""
    folders = base.parent.iterdir() if base.parent.is_dir() else []
    numbered = [
        (int(match[1] or 1), folder)
        for folder in folders
        if (match := re.fullmatch(rf"{re.escape(base.name)}(?:-(\d+))?", folder.name))
        and holds_run(folder)
        and (folder / "checkpoints").is_dir()
    ]
    return max(numbered)[1] if numbered else None


def holds_run(root: Path) -> bool:
    """Whether a run was begun in this folder."""
    try:
        return (root / "resolved.json").is_file()
    except OSError:  # a name that no file can have
        return False


def _line(content: Mapping[str, Any]) -> str:
    # ASCII only: a reply may hold lone surrogates, which UTF-8 has no bytes for
    return json.dumps(content) + "\n"


def _read_lines(path: Path) -> list[dict[str, Any]]:
    return list(_each_line(path))


def _each_line(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a file, one at a time: rollouts.jsonl of a long run does not fit into memory twice."""
    if path.exists():
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.endswith("\n"):
                    try:
                        yield dict(json.loads(line))
                    except (ValueError, TypeError) as error:
                        raise RunError(f"{path}: line {number} is damaged ({error}); remove it") from None


def _write_whole(path: Path, parts: Iterable[str]) -> None:
    """Write under another name, then rename: a reader never sees half a file."""
    unfinished = path.with_name(path.name + ".unfinished")
    with unfinished.open("w", encoding="utf-8") as file:
        file.writelines(parts)
    unfinished.replace(path)
