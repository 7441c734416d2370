"""In which order problems are trained: a function of the recipe's seed and the epoch, so a resumed run finds it again.

Imports TRL, so it is imported only after the policy has been loaded, see `training`.
"""

from collections.abc import Iterator
from typing import Any

from trl.trainer.utils import RepeatSampler

from motif_lite.rollout.rollouts import derive_seed


class EpochSampler(RepeatSampler):
    """TRL's sampler of whole groups, shuffled by seed and epoch.

    TRL shuffles with a generator that runs on from epoch to epoch. No checkpoint holds it, and on a resume transformers
    skips batches of the current epoch only, so every resumed epoch would have the order of the first.
    """

    _epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by transformers before each epoch, also on a resume; the first is 0."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[Any]:
        """Indices of rows; the first epoch has the order that TRL gives it."""
        epoch = self._epoch
        self.generator.manual_seed(derive_seed(self.seed, "epoch", epoch) if epoch else self.seed)
        yield from super().__iter__()
