"""The tiny task as a source: `chain_sum` and its harder setting."""

from functools import partial

from motif_lite.nouns import Problem, ReadProgress
from motif_lite.recipe.data import SourceSection
from motif_lite.tasks import chain_sum
from motif_lite.tasks.sources.base import Request, Role, require_no_rows_keys

_NUM_PROBLEMS = 2000
"""Where a recipe does not say."""


class ChainSums:
    """Generated; train and test problems differ, as chains are longer than any list of them could exhaust."""

    def takes(self, name: str) -> bool:
        """Whether it is one of the tiny tasks."""
        return name in chain_sum.TASKS

    def names(self) -> list[str]:
        """All of them."""
        return list(chain_sum.TASKS)

    def check(self, request: Request) -> None:
        """Whether its keys make sense.

        Raises:
            DataError: They do not.
        """
        require_no_rows_keys(request.source)

    def expected(self, source: SourceSection, role: Role) -> int | None:
        """As many as are asked for."""
        return source.num_problems or _NUM_PROBLEMS

    def problems(self, request: Request) -> list[Problem]:
        """Drawn by the seed, for each role others."""
        number = request.source.num_problems or _NUM_PROBLEMS
        return chain_sum.problems(number, seed=request.seed, split=request.role, name=request.name)

    def progress_reader(self, name: str) -> ReadProgress | None:
        """A note on a chain says how far it has come, and with what sum."""
        return partial(chain_sum.read_progress, task=chain_sum.TASKS[name])
