"""What a run does before its first step, and what that took: it is part of what training costs."""

from pathlib import Path

from motif_lite.errors import DataError
from motif_lite.recipe.training import TrainingSection
from motif_lite.runs import budget, selection, warm_start
from motif_lite.runs.budget import Spent
from motif_lite.runs.costs import Costs


def costs(root: Path) -> Costs:
    """By phase, in the order of a run; what was not done is not there.

    Raises:
        RunError: A file of it is damaged.
    """
    rates, imitated = selection.kept(root), warm_start.cost(root)
    return ({"warm start": imitated} if imitated else {}) | ({"selection": rates.cost} if rates else {})


def require_some_left(training: TrainingSection, spent: Spent) -> None:
    """Refuse to begin to train on a budget that was spent on preparing it.

    Raises:
        DataError: Nothing is left.
    """
    if not spent.steps and budget.share_done(training, spent) == 1:
        raise DataError(
            f"what was done before the first step took {spent.tokens:,} tokens and {spent.seconds:.0f} s, all that "
            f"training.until_tokens or training.until_seconds allows; continue with a larger limit, --resume --set, or "
            f"start a new run with fewer problems in data.select or warm_start"
        )
