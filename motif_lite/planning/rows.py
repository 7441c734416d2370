"""Rows that go through the model together, how many and how long: what follows from a recipe and its credit alone."""

import math
from dataclasses import dataclass
from typing import Self

from motif_lite.credits.table import credit_of
from motif_lite.planning.shapes import ModelShape
from motif_lite.recipe.schema import Recipe, decided
from motif_lite.recipe.strategy_rules import longest_later_prompt

_TYPICAL_PROMPT = 250
"""Tokens of MOTIF's instructions (167) with a question of GSM8K, by Qwen2.5's tokenizer."""

_UNKNOWN = 2**20
"""Problems of a source whose number is not known before it is read: more than any call takes together."""

_LONGEST_OF_A_CALL = 2
"""Times the typical length, where replies end by themselves; assumed."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of prompts and replies that a plan of the time counts on.

    Attributes:
        longest: Tokens of the longest reply of a call, as a multiple of the others', up to the recipe's limit.
    """

    first_prompt: int
    later_prompt: int
    opening: int
    future: int
    longest: int = 1

    @classmethod
    def worst(cls, recipe: Recipe) -> Self:
        """Every prompt and every reply as long as the recipe allows."""
        rollout = recipe.rollout
        return cls(
            rollout.max_prompt_tokens, later_prompt(recipe), rollout.openings.max_tokens, rollout.futures.max_tokens
        )

    @classmethod
    def typical(cls, recipe: Recipe, tokens: int) -> Self:
        """Replies of so many tokens, within the recipe's limits."""
        limit = cls.worst(recipe)
        opening, future = min(tokens, limit.opening), min(tokens, limit.future)
        first = min(_TYPICAL_PROMPT, limit.first_prompt)
        later = longest_later_prompt(recipe, recipe.rollout.strategy, first, max(opening, future))
        return cls(first, min(later, limit.later_prompt), opening, future, _LONGEST_OF_A_CALL)

    def trained(self, recipe: Recipe) -> tuple[int, int]:
        """Tokens of the longest prompt and of the longest reply that are trained."""
        return self._of_rounds(later=credit_of(recipe).trains_later_rounds)

    def imitated(self, recipe: Recipe) -> tuple[int, int]:
        """Tokens of the longest prompt and of the longest reply that a warm start imitates, of any round."""
        return self._of_rounds(later=recipe.rollout.strategy != "single_round")

    def _of_rounds(self, *, later: bool) -> tuple[int, int]:
        if not later:
            return self.first_prompt, self.opening
        return max(self.first_prompt, self.later_prompt), max(self.opening, self.future)


@dataclass(frozen=True, slots=True)
class Measured:
    """Problems that are thought through outside of steps.

    Attributes:
        num_trajectories: Most that go together: problems times samples.
        is_sampled: Otherwise they are written greedily.
    """

    num_trajectories: int
    is_sampled: bool


def measured(recipe: Recipe, *, trains: bool) -> list[Measured]:
    """What is measured: at either end, along the way, and to select problems."""
    section, select, found = recipe.evaluation, recipe.data.select, list[Measured]()

    def add(num_problems: int | None, num_samples: int, *, is_sampled: bool) -> None:
        found.append(Measured((num_problems or _UNKNOWN) * num_samples, is_sampled))

    if section.before or section.after or not trains:
        for source in section.benchmarks.values():
            add(source.num_problems, max(1, section.num_samples), is_sampled=section.num_samples > 0)
    if trains and section.validation:  # one sample each
        add(section.validation.num_problems, 1, is_sampled=section.num_samples > 0)
    if trains and select:
        add(recipe.data.num_problems, select.num_samples, is_sampled=True)
    return found


def later_prompt(recipe: Recipe) -> int:
    """Longest prompt of a later round in tokens, within the context."""
    rollout = recipe.rollout
    before = rollout.openings.max_tokens
    if rollout.num_rounds > 2:
        before = max(before, rollout.futures.max_tokens)
    room = recipe.model.max_seq_length - rollout.futures.max_tokens
    return min(longest_later_prompt(recipe, rollout.strategy, rollout.max_prompt_tokens, before), room)


def futures_per_step(recipe: Recipe) -> int:
    """Futures of all openings of a step."""
    return recipe.openings_per_step * credit_of(recipe).futures_per_opening(recipe)


def replies_in_round(recipe: Recipe, round_number: int) -> int:
    """Replies of a step in a later round, on average."""
    return math.ceil(recipe.openings_per_step * credit_of(recipe).replies_per_opening(recipe, round_number))


def openings_at_once(recipe: Recipe, shape: ModelShape) -> int:
    """Openings that are written together: all of a step, or as many as may be."""
    rows = recipe.openings_per_step
    return min(rows, decided(recipe.rollout.max_width)) if bounds_openings(recipe, shape) else rows


def bounds_openings(recipe: Recipe, shape: ModelShape) -> bool:
    """Whether ``rollout.max_width`` holds for openings, too: not where TRL asks the model's `generate` for them."""
    return not written_by_generate(recipe, shape) or credit_of(recipe).samples_openings(recipe)


def dequantises(recipe: Recipe, shape: ModelShape) -> bool:
    """Whether our engine writes replies of a 4-bit model of Unsloth's, whose weights it dequantises for that."""
    is_ours = recipe.model.backend == "unsloth" and not recipe.model.fast_inference and shape.decodes
    return is_ours and recipe.model.load_in_4bit


def written_by_generate(recipe: Recipe, shape: ModelShape) -> bool:
    """Whether replies come from the model's own `generate`, Unsloth's or transformers': neither our engine nor vLLM."""
    if recipe.model.backend == "unsloth":
        return not recipe.model.fast_inference and not shape.decodes
    return recipe.model.backend == "transformers" and recipe.rollout.server is None and not shape.sees_all


def longest_trained(recipe: Recipe) -> tuple[int, int]:
    """Tokens of the longest prompt and of the longest reply that are trained; all rows of an update are as long."""
    return Lengths.worst(recipe).trained(recipe)


def packed_tokens(recipe: Recipe) -> int:
    """Most tokens that an update computes together where rows are packed."""
    longest = decided(recipe.training.micro_batch_size) * sum(longest_trained(recipe))
    return min(longest, _step_tokens(recipe, recipe.training.problems_per_step, Lengths.worst(recipe)))


def update_tokens(recipe: Recipe, *, packs: bool, lengths: Lengths | None = None) -> int:
    """Tokens that the whole update of a step computes.

    Args:
        packs: A prompt counts once for as many openings as go together.
        lengths: Of prompts and replies; by default the longest.
    """
    lengths = lengths or Lengths.worst(recipe)
    num_openings, problems = recipe.openings_per_step, recipe.training.problems_per_step
    if not packs:
        return credit_of(recipe).trained_per_step(recipe) * sum(lengths.trained(recipe))
    room = decided(recipe.training.micro_batch_size) * sum(longest_trained(recipe)) - lengths.first_prompt
    together = max(1, room // lengths.opening)
    return _step_tokens(recipe, max(problems, math.ceil(num_openings / together)), lengths)


def _step_tokens(recipe: Recipe, num_prompts: int, lengths: Lengths) -> int:
    """Of all rows of a step, with so many prompts of openings; later rounds share nothing."""
    num_openings = recipe.openings_per_step
    if not credit_of(recipe).trains_every_opening:
        return credit_of(recipe).trained_per_step(recipe) * sum(lengths.trained(recipe))
    first = num_prompts * lengths.first_prompt + num_openings * lengths.opening
    later = credit_of(recipe).trained_per_step(recipe) - num_openings
    return first + later * sum(lengths.trained(recipe))


def values_per_block(recipe: Recipe, shape: ModelShape, *, packs: bool) -> int:
    """Values per token that one block keeps for its backward pass.

    Two norms' inputs and outputs; queries, keys, values, and what attention makes of them, twice; the MLP's gate before
    and after its activation, its other half and their product; what goes between LoRA's factors. Rows that are not
    packed keep keys and values repeated for every head.
    """
    adapters = recipe.lora.rank * len(shape.targeted(recipe.lora.targets))
    attention = 3 * shape.attention_dim + 2 * (shape.kv_dim if packs else shape.attention_dim)
    return 4 * shape.hidden_size + attention + 4 * shape.intermediate_size + adapters
