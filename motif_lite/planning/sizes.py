"""What the memory plan multiplies: bytes of a weight and of an activation, and what a recipe's adapter has."""

from dataclasses import dataclass

from motif_lite.planning import precision
from motif_lite.planning.machine import Machine
from motif_lite.planning.shapes import ModelShape
from motif_lite.recipe.schema import Recipe

Items = dict[str, int]
"""Bytes by what they are for."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of a recipe's model on a machine."""

    recipe: Recipe
    shape: ModelShape
    machine: Machine

    @property
    def is_unsloth(self) -> bool:
        return self.recipe.model.backend == "unsloth"

    @property
    def packs(self) -> bool:
        """An update computes once what rows have in common."""
        return not self.is_unsloth and self.shape.packs

    @property
    def writes_in_bf16(self) -> bool:
        """Replies are generated with a second copy of the weights."""
        return precision.writes_in_bf16(self.recipe, self.machine.device)

    @property
    def updates_in_bf16(self) -> bool:
        """An update's products are bfloat16 around weights in 32 bits."""
        return precision.updates_in_bf16(self.recipe, self.machine.device)

    @property
    def weight_bytes(self) -> int:
        """Bytes of an unquantised weight."""
        dtype = self.recipe.model.dtype
        if dtype == "auto":
            dtype = "bfloat16" if self.machine.device == "cuda" else "float32"
        return 4 if dtype == "float32" else 2

    @property
    def hidden_bytes(self) -> int:
        """Bytes of an activation; with quantised weights PEFT keeps embeddings, so all that follows, in 32 bits."""
        return 4 if self.recipe.model.load_in_4bit and not self.is_unsloth else self.weight_bytes

    @property
    def lora_weights(self) -> int:
        return self.shape.num_lora_weights(self.recipe.lora.rank, self.recipe.lora.targets)
