"""The paper's credit: first rounds alone are trained, each with the mean over its k futures.

TRL samples the openings, unless others may take their place (``data.refill``): it would not know of those. It calls our
reward callables and computes the advantages (`training.opening_step`).
"""

from collections.abc import Iterator

from motif_lite.credits.base import Credit
from motif_lite.recipe.schema import Recipe
from motif_lite.recipe.training import TrainingSection


class OpeningCredit(Credit):
    """Openings against the other openings of their problem."""

    name = "opening"
    summary = "only first rounds are trained, each with the mean reward of its continuations (the paper's credit)"
    row = "opening"
    trains_later_rounds = False
    same_sampling = False
    shares_futures = True

    def samples_openings(self, recipe: Recipe) -> bool:
        """Where others may take their place."""
        return recipe.data.refill > 0

    def trained_per_opening(self, recipe: Recipe) -> int:
        """The opening itself."""
        return 1

    def loss_type(self, training: TrainingSection) -> str:
        """The recipe's, over the whole step."""
        return "dapo" if training.loss_type == "bnpo" else training.loss_type

    def broken_rules(self, recipe: Recipe) -> Iterator[str]:
        """Rules for openings that TRL samples."""
        yield from super().broken_rules(recipe)
        is_unsloths = recipe.model.backend == "unsloth" and not recipe.model.fast_inference
        if recipe.rollout.openings.stop and is_unsloths and not self.samples_openings(recipe):
            yield (
                "rollout.openings.stop: Unsloth's openings end at an end of turn only; leave it out, or set "
                "model.fast_inference = true"
            )
