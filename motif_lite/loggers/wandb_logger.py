"""Weights & Biases, on its server or offline.

Offline files are written anew by each process, so that they hold every step once. A server keeps what it has: a
resumed run sends it the steps after that.
"""

import logging
import os
import shutil
from collections.abc import Sequence
from typing import Any, Literal

import wandb

from motif_lite.loggers.base import Figures, LoggedRun, Sample

_log = logging.getLogger(__name__)

_FINISH_SECONDS = 60
"""To send what is left when a run ends; then it stays in the run's files."""


class WandbLogger:
    """Implements `base.Logger` with a run of wandb's that has the run's own id."""

    def __init__(self, run: LoggedRun) -> None:
        for earlier in (run.root / "wandb").glob(f"offline-run-*-{run.id}"):
            shutil.rmtree(earlier)
        self._run = _begun(run)
        self._first = self._run.step

    def log(self, step: int, figures: Figures) -> None:
        """A row of the history, which wandb completes when the next step begins."""
        if step >= self._first:
            self._run.log(dict(figures), step=step)

    def samples(self, step: int, rows: Sequence[Sample]) -> None:
        """A table."""
        if step >= self._first:
            table = wandb.Table(columns=list(Sample._fields), data=[list(row) for row in rows])
            self._run.log({"samples": table}, step=step)

    def close(self) -> None:
        """Write everything out; online, wait until it is sent."""
        self._run.finish()


def _begun(run: LoggedRun) -> Any:
    """A run of wandb's: where nobody has logged in, or the server does not answer, an offline one."""
    try:
        return _init(run, None)
    except wandb.Error as error:
        reason = str(error).strip().partition("\n")[0]
        _log.warning("wandb: offline (%s); send it later with: wandb sync %s", reason, run.root / "wandb" / "offline-*")
        return _init(run, "offline")


def _init(run: LoggedRun, mode: Literal["offline"] | None) -> Any:
    return wandb.init(
        project=os.environ.get("WANDB_PROJECT", "motif_lite"),
        name=run.root.name,
        id=run.id,
        resume="allow",
        dir=str(run.root),
        config=dict(run.settings),
        mode=mode,
        settings=wandb.Settings(console="off", silent=True, finish_timeout=_FINISH_SECONDS),
    )
