"""Which level of a curriculum a step has: by its number, or by how often the steps before it were right.

Both follow from the recipe and from metrics.jsonl, so a resumed run finds the same levels again.
"""

from collections.abc import Callable, Sequence
from statistics import fmean

from motif_lite.recipe.data import DataSection

Plan = Callable[[int, int], list[int]]
"""Of a step, from 0, and the hardest level: the levels of all steps up to it."""

_AHEAD = 1
"""Steps whose problems accelerate asks for before the step before them has ended."""


def plan_of(data: DataSection, accuracies: Callable[[], Sequence[float]]) -> Plan | None:
    """The plan of a recipe; None where it has no curriculum.

    Args:
        accuracies: Of the steps that are done, in order.
    """
    steps = data.curriculum
    if steps is None:
        return None
    if data.raise_above is None:
        return lambda step, hardest: [min(number // steps, hardest) for number in range(step + 1)]
    bounds = (data.lower_below or 0.0, data.raise_above)
    return lambda step, hardest: _by_accuracy(accuracies(), step, hardest, steps, bounds)


def _by_accuracy(
    accuracies: Sequence[float], step: int, hardest: int, num_steps: int, bounds: tuple[float, float]
) -> list[int]:
    """Levels of steps by the mean accuracy of the last ``num_steps`` at the level, since the level last moved.

    A step that is done decides the level of the step after the next, whose problems are the first that are not asked
    for yet. So it makes no difference when they are asked for: in a resumed run, all at once.
    """
    low, high = bounds
    level, latest, levels = 0, list[float](), [0] * (1 + _AHEAD)
    known = accuracies[: max(0, step - _AHEAD)]
    assert len(known) == max(0, step - _AHEAD), "problems were asked for earlier than a step ahead"
    for number, accuracy in enumerate(known):
        if levels[number] == level:  # the step after a move still has the level before it
            latest.append(accuracy)
        if len(latest) >= num_steps:
            mean = fmean(latest[-num_steps:])
            moved = min(level + 1, hardest) if mean >= high else max(level - 1, 0) if mean < low else level
            if moved != level:
                level, latest = moved, []
        levels.append(level)
    return levels[: step + 1]
