"""Trackio: a database of this machine, ``trackio show``, which ``trackio sync`` sends to a Space."""

import os
from collections.abc import Sequence
from contextlib import suppress

import pandas
import trackio

from motif_lite.errors import RunError
from motif_lite.loggers.base import Figures, LoggedRun, Sample

_PROJECT = "motif_lite"

_ELSEWHERE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")
"""Variables with which Trackio logs to a server, where a resumed run could not take steps back."""


class TrackioLogger:
    """Implements `base.Logger` with a run of Trackio's that begins with nothing."""

    def __init__(self, run: LoggedRun) -> None:
        if given := [name for name in _ELSEWHERE if os.environ.get(name)]:
            raise RunError(f"logs to this machine only; unset {given[0]}, and send the project later with trackio sync")
        name = f"{run.root.name}-{run.id}"
        with suppress(ValueError):  # the database has no such project yet
            for earlier in [each for each in trackio.Api().runs(_PROJECT) if each.name == name]:
                earlier.delete()
        self._run = trackio.init(
            project=_PROJECT,
            name=name,
            config=dict(run.settings),
            embed=False,
            auto_log_cpu=False,
            auto_log_gpu=False,
        )

    def log(self, step: int, figures: Figures) -> None:
        """A row."""
        self._run.log(dict(figures), step=step)

    def samples(self, step: int, rows: Sequence[Sample]) -> None:
        """A table."""
        self._run.log({"samples": trackio.Table(dataframe=pandas.DataFrame(rows, columns=Sample._fields))}, step=step)

    def close(self) -> None:
        """Wait until everything is in the database."""
        trackio.finish()  # and not the run's own method, after which the end of the process would finish it again
