"""What the rest of the program asks a credit.

`Credit` is the whole interface; `RoundsCredit` holds what the credits that train later rounds have in common. A new
credit is a module of its own with one such class, and an entry in `table.CREDITS`.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

from motif_lite.credits.assignment import Totals
from motif_lite.recipe.schema import Recipe, RolloutSection
from motif_lite.recipe.training import TrainingSection

OR_OPENING = 'or set training.credit = "opening"'
"""The way out of each rule: the paper's credit has none of them."""


class Credit(ABC):
    """Which rounds are trained, and what that needs.

    Attributes:
        name: As in the recipe.
        summary: What it trains, as model cards say it.
        row: What a row of an update is called, for messages.
        trains_later_rounds: Not openings alone.
        same_sampling: Futures have to be drawn as openings are, because one loss trains both.
        shares_futures: Openings may share their futures (``rollout.allocation = "adaptive"``).
        trains_every_opening: Openings are among what is trained in every step.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    row: ClassVar[str]
    trains_later_rounds: ClassVar[bool]
    same_sampling: ClassVar[bool]
    shares_futures: ClassVar[bool]
    trains_every_opening: ClassVar[bool] = True

    @abstractmethod
    def samples_openings(self, recipe: Recipe) -> bool:
        """Whether the training step samples openings, too, and hands them to TRL.

        Otherwise TRL samples them, with its own ``generate``, and asks for their rewards.
        """

    def futures_per_opening(self, recipe: Recipe) -> int:
        """Futures that are sampled of each opening."""
        return recipe.rollout.num_futures

    def replies_per_opening(self, recipe: Recipe, round_number: int) -> float:
        """Replies that are sampled for each opening in a later round, on average."""
        return self.futures_per_opening(recipe)

    @abstractmethod
    def trained_per_opening(self, recipe: Recipe) -> int:
        """Rounds that are trained for each opening, itself included, where no trajectory ends early."""

    def trained_per_step(self, recipe: Recipe) -> int:
        """Rounds that are trained in one optimiser step, at most: the rows of its update."""
        return recipe.openings_per_step * self.trained_per_opening(recipe)

    @abstractmethod
    def loss_type(self, training: TrainingSection) -> str:
        """How TRL averages the losses of tokens.

        Never ``bnpo``: TRL's averages over each micro-batch, so that the objective would depend on memory. Its ``dapo``
        averages over all tokens of the step, as ``bnpo`` does where a step is one micro-batch.
        """

    def broken_rules(self, recipe: Recipe) -> Iterator[str]:
        """What in the recipe does not go with this credit: a message for each, with the remedy."""
        size, rows = recipe.training.micro_batch_size, self.trained_per_step(recipe)
        if size != "auto" and rows % size:
            each = f" * {self.trained_per_opening(recipe)} rounds for each opening" if self.trains_later_rounds else ""
            yield (
                f"training.micro_batch_size = {size} does not divide the {rows} {self.row}s of a step "
                f"(problems_per_step * num_openings{each})"
            )

    def idle_keys(self, recipe: Recipe) -> Iterator[str]:
        """A note for each key that is set and that this credit does not read: by default none."""
        yield from ()


class RoundsCredit(Credit):
    """A credit that trains later rounds as well; TRL knows nothing of rounds, so the training step samples them all."""

    row = "round"
    trains_later_rounds = True
    same_sampling = True
    shares_futures = False

    def samples_openings(self, recipe: Recipe) -> bool:
        """Always."""
        return True

    def branches(self, num_rounds: int, num_openings: int, rng: random.Random) -> list[int] | None:
        """The round after which each opening's futures part, which is then the one that is trained.

        Returns:
            None where futures part after the first round, and all rounds are trained.
        """
        return None

    def most_trained_tokens(self, recipe: Recipe) -> int:
        """Most tokens that are trained of one trajectory; what ``dr_grpo`` divides by."""
        rollout = recipe.rollout
        return rollout.openings.max_tokens + (rollout.num_rounds - 1) * rollout.futures.max_tokens

    @abstractmethod
    def advantages(self, totals: Totals) -> Iterator[tuple[int, int | None, int, float]]:
        """Advantages of the rounds of one group, see `assignment.Advantages`."""

    def trained_per_opening(self, recipe: Recipe) -> int:
        """The opening, and every later round of its futures."""
        return 1 + self.futures_per_opening(recipe) * (recipe.rollout.num_rounds - 1)

    def loss_type(self, training: TrainingSection) -> str:
        """The mean over all tokens of the step: what else the recipe asks for is in the weights (`assignment`).

        The losses with a gate of their own for the policy ratio keep their name; `training.rounds_step` makes up for
        how TRL averages them.
        """
        return "dapo" if training.loss_type in ("bnpo", "dapo", "dr_grpo", "grpo") else training.loss_type

    def broken_rules(self, recipe: Recipe) -> Iterator[str]:
        """Rules for training all rounds with one loss."""
        yield from super().broken_rules(recipe)
        rollout, credit = recipe.rollout, f'training.credit = "{self.name}"'
        if rollout.strategy == "single_round":
            yield (
                f'{credit} trains later rounds, and rollout.strategy = "single_round" has none; take multi_round, '
                f"{OR_OPENING}"
            )
        if rollout.allocation == "adaptive":
            yield (
                f'{credit} trains futures, so openings cannot share them; set rollout.allocation = "fixed", '
                f"{OR_OPENING}"
            )
        if flags := " ".join(flags_for_same_sampling(rollout)):
            yield (
                f"{credit} trains all rounds with one loss, so they have to be sampled in the same way; give futures "
                f"what openings have, {flags}, {OR_OPENING}"
            )
        if recipe.training.beta:
            yield f"{credit} weighs rounds, and the KL penalty of TRL does not; set training.beta = 0, {OR_OPENING}"

    def flags(self, recipe: Recipe) -> list[str]:
        """The ``--set`` changes that give a recipe this credit, with what it needs."""
        flags = [f"--set 'training.credit=\"{self.name}\"'", *flags_for_same_sampling(recipe.rollout)]
        if recipe.rollout.allocation != "fixed":
            flags.append("--set 'rollout.allocation=\"fixed\"'")
        if recipe.training.beta:
            flags.append("--set training.beta=0.0")
        return flags


def flags_for_same_sampling(rollout: RolloutSection) -> list[str]:
    """The ``--set`` changes that give futures what openings have, wherever tokens are drawn in another way."""
    return [
        f"--set rollout.futures.{key}={getattr(rollout.openings, key)}"
        for key in ("temperature", "top_p", "top_k", "min_p")
        if getattr(rollout.openings, key) != getattr(rollout.futures, key)
    ]
