"""Rules of a curriculum, for `rules`."""

from collections.abc import Iterator

from motif_lite.recipe.schema import Recipe


def has_whole_levels(recipe: Recipe) -> Iterator[str]:
    """Nothing is selected from it."""
    if recipe.data.curriculum is not None and recipe.data.select is not None:
        yield (
            "data.curriculum takes the problems of each level as they are, and data.select would leave some out; leave "
            "one of the two out"
        )


def has_steps_and_bounds(recipe: Recipe) -> Iterator[str]:
    """Its bounds leave room, and it is there at all."""
    up, down = recipe.data.raise_above, recipe.data.lower_below
    if up is not None and recipe.data.curriculum is None:
        yield (
            "data.raise_above says when the level of a curriculum rises, and there is none; set data.curriculum to the "
            "steps that are looked at, or leave it out"
        )
    if down is not None and (up is None or down >= up):
        yield f"data.lower_below = {down:g} needs a larger data.raise_above; set one, or leave it out"


def looks_at_all_problems(recipe: Recipe) -> Iterator[str]:
    """The accuracy that it follows is that of the level."""
    if recipe.data.raise_above is not None and (recipe.data.refill or recipe.data.skip):
        yield (
            "data.raise_above looks at the accuracy of what is trained, and data.refill and data.skip take the "
            "problems that are always or never solved out of it; leave out one or the other"
        )
