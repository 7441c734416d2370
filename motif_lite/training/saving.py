"""When a finished step is saved, and how it can still be saved when a stop comes in the middle of the next one."""

import errno
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState

from motif_lite.errors import RunError
from motif_lite.recipe.training import TrainingSection
from motif_lite.runs.directory import RunDirectory

_UNSAFE = "training_args.bin"
"""A pickle of whole objects that transformers writes into checkpoints; nothing reads it."""

_FULL_BYTES = 2**20
"""A disk with less room than this is full."""

SHARE = 0.02
"""Of the time of a run that saving may take where nothing but time asks for it."""


class SavingClock:
    """Says when a checkpoint is due, so that little work is ever at risk and saving takes no more than `SHARE`.

    It is due when the work since the last one took longer than its writing did, divided by `SHARE`: after every step
    that takes a minute, and a few times a minute where steps take a second.
    """

    def __init__(self) -> None:
        self._worked_since = time.monotonic()
        self._saving_since = self._worked_since
        self._cost = 0.0
        """Seconds that writing the last checkpoint took; the first one is due after the first step."""

    def is_due(self) -> bool:
        """Asked after a step."""
        return SHARE * (time.monotonic() - self._worked_since) >= self._cost

    def begin(self) -> None:
        """A checkpoint is about to be written."""
        self._saving_since = time.monotonic()

    def end(self) -> None:
        """It is written."""
        self._worked_since = time.monotonic()
        self._cost = self._worked_since - self._saving_since


@dataclass(frozen=True, slots=True)
class RandomStates:
    """Of all generators that a checkpoint keeps."""

    of_python: Any
    of_numpy: Any
    of_torch: torch.Tensor
    of_gpus: list[torch.Tensor]

    @classmethod
    def current(cls) -> Self:
        """As they stand."""
        gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return cls(random.getstate(), np.random.get_state(), torch.get_rng_state(), gpus)

    def restore(self) -> None:
        """Make them stand so again."""
        random.setstate(self.of_python)
        np.random.set_state(self.of_numpy)
        torch.set_rng_state(self.of_torch)
        if self.of_gpus:
            torch.cuda.set_rng_state_all(self.of_gpus)


class UnsavedStep(TrainerCallback):
    """Keeps what the next step changes first, so that a finished step can be saved until the next update begins.

    Adapter, optimizer and schedule change in the update alone; before it, a step moves only random states and TRL's
    count of tokens.
    """

    def __init__(self) -> None:
        self._states: RandomStates | None = None
        self._num_tokens: float = 0

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any) -> None:
        """A step is finished, and its lines are written."""
        if logs and "loss" in logs:
            self._states, self._num_tokens = RandomStates.current(), state.num_input_tokens_seen

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """It is saved."""
        self._states = None

    def on_pre_optimizer_step(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """From here on the weights are no longer those of the finished step."""
        self._states = None

    def restore(self, state: TrainerState) -> bool:
        """Put back what the step under way has changed; False if there is nothing to be saved, or it is too late."""
        if self._states is None:
            return False
        self._states.restore()
        state.num_input_tokens_seen = self._num_tokens
        return True


@contextmanager
def kept(
    run: RunDirectory, keep: Callable[[int], None], step: int, *, what: str, update: int | None = None
) -> Iterator[None]:
    """Inside, transformers writes a checkpoint; then it counts.

    Args:
        keep: Seals the checkpoint of a step.
        step: That was finished.
        what: It is, and where it goes, in words.
        update: Its last one, by which transformers names its folder, where steps have several.

    Raises:
        RunError: It cannot be written.
    """
    folder = run.unfinished / f"checkpoint-{step}"
    try:
        yield
        (run.unfinished / f"checkpoint-{update or step}").rename(folder)
        (folder / _UNSAFE).unlink()
        keep(step)
    except Exception as error:  # torch and safetensors have errors of their own; tokenizers raises this one
        reason = _why_not_saved(error, run)
        run.clear_unfinished()
        raise RunError(
            f"{what} {step} cannot be saved ({reason}); the earlier checkpoints are intact: free some space, then "
            f"continue with --resume --out {run.root}"
        ) from error


def kept_step(run: RunDirectory, step: int, update: int, training: TrainingSection) -> AbstractContextManager[None]:
    """As `kept`, for a step of GRPO."""
    keep = partial(run.keep_checkpoint, keep=training.keep_checkpoints, every=training.save_every)
    return kept(run, keep, step, what=f"{run.checkpoints}: step", update=update)


def _why_not_saved(error: Exception, run: RunDirectory) -> str:
    """Why nothing could be written; torch's own words for a full disk are about its archive's positions."""
    if not run.root.exists():
        return "the folder was removed"
    if shutil.disk_usage(run.root).free < _FULL_BYTES:
        return os.strerror(errno.ENOSPC)
    return str(error).strip().partition("\n")[0] or type(error).__name__
