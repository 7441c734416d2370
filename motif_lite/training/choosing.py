"""Which problems a step asks: those that are its turn but for ones that are left out, and further ones in their place.

All of it follows from the recipe's seed, the number of the step and what metrics.jsonl says of the steps before, so a
resumed run goes on with the same problems.
"""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

from motif_lite.nouns import Problem
from motif_lite.recipe.schema import Recipe
from motif_lite.rollout.rollouts import derive_seed

Visits = Mapping[str, bool | None]
"""Of a step, by problem: whether its group had signal; None where it was its turn, and it was left out."""


class Choosing:
    """The problems of each step.

    Args:
        earlier: The visits of all steps so far.
    """

    def __init__(self, recipe: Recipe, problems: Sequence[Problem], earlier: Iterable[Visits]) -> None:
        self._section, self._seed = recipe.data.skip, recipe.seed
        self._problems = {problem.id: problem for problem in problems}
        self._without_signal: dict[str, int] = {}
        """Of each problem, visits in a row."""
        self._left_out: dict[str, int] = {}
        """Of each problem, visits that are still left to others."""
        self._further: Iterator[Problem] = iter(())
        self._skipped: list[str] = []
        self.visits: Visits = {}
        """Of the step that was done last; nothing where no problem is ever left out."""
        for visits in earlier:
            self._note(visits)

    def begin(self, planned: Sequence[str], step: int) -> list[str]:
        """The problems that a step asks first.

        Args:
            planned: Whose turn it is; all of one level.
            step: Steps done before.
        """
        self._further, self._skipped, found = self._in_some_order(planned, step), [], list[str]()
        for problem in planned:
            other = next(self._further, None) if self._left_out.get(problem) else None
            if other is not None:
                self._skipped.append(problem)
            found.append(other.id if other else problem)
        return found

    def further(self, number: int) -> list[Problem]:
        """So many problems more that the step may ask, or as many as there are."""
        return list(islice(self._further, number))

    def end(self, signals: Mapping[str, bool]) -> None:
        """The step has asked its problems.

        Args:
            signals: By problem, whether its group had signal.
        """
        if self._section is not None:
            self.visits = dict.fromkeys(self._skipped) | dict(signals)
            self._note(self.visits)

    def _in_some_order(self, planned: Sequence[str], step: int) -> Iterator[Problem]:
        """Other problems of the same level that may be asked: another order in each step."""
        level = self._problems[planned[0]].level
        others = [each for each in self._problems.values() if each.level == level and each.id not in planned]
        allowed = [each for each in others if not self._left_out.get(each.id)]
        yield from random.Random(derive_seed(self._seed, "further", step)).sample(allowed, len(allowed))

    def _note(self, visits: Visits) -> None:
        if self._section is None:
            return
        for problem, has_signal in visits.items():
            if has_signal is None:
                self._left_out[problem] -= 1
                continue
            dry = 0 if has_signal else self._without_signal.get(problem, 0) + 1
            self._without_signal[problem] = dry
            if has_signal:  # it was asked all the same, as all others were left out, too
                self._left_out.pop(problem, None)
            if dry >= self._section.after:
                self._left_out[problem] = self._section.visits
