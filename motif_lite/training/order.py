"""In which order problems are trained: a function of the recipe's seed and the epoch, so a resumed run finds it again.

Imports TRL, so it is imported only after the policy has been loaded, see `training`.
"""

import random
from collections.abc import Iterator, Sequence
from typing import Any

from trl.trainer.utils import RepeatSampler

from motif_lite.rollout.rollouts import derive_seed
from motif_lite.training.curriculum import Plan


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


class CurriculumSampler(EpochSampler):
    """Whole groups of the level that a step has.

    Within a level problems are shuffled, and again when all have been trained. What a step gets follows from the seed,
    the levels of the steps up to it and the problems.

    Args:
        levels: Of the rows.
        plan: Which level a step has.
    """

    def __init__(self, *arguments: Any, levels: Sequence[int], plan: Plan, seed: int) -> None:
        super().__init__(*arguments, seed=seed)
        self._plan = plan
        self._pools = [[row for row, other in enumerate(levels) if other == level] for level in sorted(set(levels))]

    def __iter__(self) -> Iterator[Any]:
        """Indices of rows; an epoch has as many steps as it would have without levels."""
        steps = self.num_samples // self.batch_size
        for step in range(self._epoch * steps, (self._epoch + 1) * steps):
            rows = self._rows_of(step)
            for _ in range(self.repeat_count):
                for row in rows:
                    yield from [row] * self.mini_repeat_count

    def _rows_of(self, step: int) -> list[int]:
        *before, level = self._plan(step, len(self._pools) - 1)
        pool = self._pools[level]
        pass_number, place = divmod(before.count(level), len(pool) // self.batch_size)
        chance = random.Random(derive_seed(self.seed, "level", level, "pass", pass_number))
        shuffled = chance.sample(pool, len(pool))
        return shuffled[place * self.batch_size : (place + 1) * self.batch_size]


def order_of(plan: Plan | None, levels: Sequence[int], theirs: RepeatSampler) -> EpochSampler:
    """The order of a run.

    Args:
        plan: None where there is no curriculum.
        levels: Of the rows.
        theirs: As TRL would have it.
    """
    sizes = (theirs.data_source, theirs.mini_repeat_count, theirs.batch_size, theirs.repeat_count)
    if plan is None:
        return EpochSampler(*sizes, seed=theirs.seed)
    return CurriculumSampler(*sizes, seed=theirs.seed, levels=levels, plan=plan)
