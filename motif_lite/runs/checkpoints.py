"""Checkpoints of a run: sealed folders, one per step, of which the newest are kept."""

import logging
import re
from pathlib import Path

from motif_lite.errors import RunError
from motif_lite.runs import sealing

_log = logging.getLogger(__name__)


class Checkpoints:
    """Those in one folder.

    Args:
        folder: Where whole ones stand.
        unfinished: Where they are written and dropped, on the same disk.
    """

    def __init__(self, folder: Path, unfinished: Path) -> None:
        self._folder, self._unfinished = folder, unfinished

    def keep(self, step: int, keep: int, every: int = 1) -> None:
        """Seal what the trainer has written for this step, then drop those before the newest ``keep``.

        Checkpoints of every ``every`` steps count among themselves: those that are written in between, by time, do
        not push them out. Those of later steps go, too: they were damaged, or the run would not be at this step.
        """
        sealing.seal(self._unfinished / f"checkpoint-{step}", self._folder / f"checkpoint-{step}", step=step)
        found = self._by_step()
        numbers = [number for number in found if number <= step]
        kept = {*numbers[:keep], *[number for number in numbers if number % every == 0][:keep]}
        for number, path in found.items():
            if number not in kept:
                sealing.discard(path, self._unfinished)

    def newest(self) -> tuple[Path, int] | None:
        """The newest whole checkpoint with the step that it was written after; None if there is none yet.

        Raises:
            RunError: There are checkpoints, and all of them are damaged.
        """
        found = self._by_step()
        for step, path in found.items():
            damage = sealing.damage(path)
            if damage is None:
                return path, step
            _log.warning("%s: is damaged (%s) and is skipped", path, damage)
        if found:
            raise RunError(
                f"{self._folder}: every checkpoint is damaged; restore one from a copy, or remove the folder to "
                f"restart training from the first step"
            )
        return None

    def _by_step(self) -> dict[int, Path]:
        """The newest first."""
        found = {
            int(match[1]): path
            for path in self._folder.glob("checkpoint-*")
            if (match := re.fullmatch(r"checkpoint-(\d+)", path.name)) and path.is_dir()
        }
        return dict(sorted(found.items(), reverse=True))
