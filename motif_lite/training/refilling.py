"""Groups that teach something in place of those that do not: the dynamic sampling of DAPO (arXiv 2503.14476)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from motif_lite.nouns import Opening


@dataclass(frozen=True, slots=True)
class Group:
    """What was rolled out for one problem.

    Attributes:
        rewards: An entry for each opening.
        branches: By opening, the round after which its futures part; None where that is the first one of all.
    """

    openings: Sequence[Opening]
    rewards: Sequence[Any]
    branches: Sequence[int] | None = None

    @property
    def problem(self) -> str:
        """Its id."""
        return self.openings[0].problem.id


def refilled(
    groups: Sequence[Group], most: int, more: Callable[[int], Sequence[Group]], has_signal: Callable[[Group], bool]
) -> tuple[list[Group], list[Group]]:
    """Groups with others in place of those without signal, as far as they go.

    As many are rolled out at a time as are missing, until none is missing or all that may be are rolled out.

    Args:
        most: Further groups that may be rolled out.
        more: Rolls so many out; fewer where there are no more problems.

    Returns:
        As many groups as were given, and those that are not used: as many as were rolled out besides.
    """
    kept, unused = list(groups), list[Group]()
    while most:
        missing = [place for place, group in enumerate(kept) if not has_signal(group)]
        found = more(min(most, len(missing))) if missing else ()
        if not found:
            break
        most -= len(found)
        for group in found:
            if has_signal(group):
                place = missing.pop(0)
                kept[place], group = group, kept[place]
            unused.append(group)
    return kept, unused
