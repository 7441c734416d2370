"""Names in a recipe that stand for code, by kind: what validation has to know of the modules above."""

from collections.abc import Collection, Iterator, Mapping
from typing import Protocol, TypedDict

from motif_lite.recipe.schema import Recipe


class HasRules(Protocol):
    """Something named in a recipe that does not go with every other key."""

    def broken_rules(self, recipe: Recipe) -> Iterator[str]:
        """A message for each rule that the recipe breaks, with the key and the remedy."""

    def idle_keys(self, recipe: Recipe) -> Iterator[str]:
        """A note for each key that is set and that this does not read (`idle_keys`)."""


class Tables(TypedDict):
    """The names that are known; only a credit has rules of its own."""

    backend: Collection[str]
    strategy: Collection[str]
    reward: Collection[str]
    credit: Mapping[str, HasRules]
    logger: Collection[str]
