"""The credits that a recipe may name."""

from motif_lite.credits.base import Credit
from motif_lite.credits.chain import ChainCredit
from motif_lite.credits.opening import OpeningCredit
from motif_lite.credits.reset import ResetCredit
from motif_lite.credits.tree import TreeCredit
from motif_lite.recipe.schema import Recipe

CREDITS: dict[str, Credit] = {
    credit.name: credit for credit in (OpeningCredit(), ChainCredit(), TreeCredit(), ResetCredit())
}


def credit_of(recipe: Recipe) -> Credit:
    """The credit that the recipe names."""
    return CREDITS[recipe.training.credit]
