"""What a run does before its first step, and what that took: it is part of what training costs."""

from pathlib import Path

from motif_lite.runs import selection
from motif_lite.runs.costs import Costs


def costs(root: Path) -> Costs:
    """By phase, in the order of a run; what was not done is not there.

    Raises:
        RunError: A file of it is damaged.
    """
    rates = selection.kept(root)
    return {"selection": rates.cost} if rates else {}
