"""Rows that go through the model together, how many and how long: what follows from a recipe and its credit alone."""

import math

from motif_lite.credits.table import credit_of
from motif_lite.recipe.schema import NOTICE_TOKENS, Recipe, decided


def later_prompt(recipe: Recipe) -> int:
    """Longest prompt of a later round in tokens: the question, the notice, and all of the reply before."""
    rollout = recipe.rollout
    before = rollout.openings.max_tokens
    if rollout.num_rounds > 2:
        before = max(before, rollout.futures.max_tokens)
    room = recipe.model.max_seq_length - rollout.futures.max_tokens
    return min(rollout.max_prompt_tokens + NOTICE_TOKENS + before, room)


def futures_per_step(recipe: Recipe) -> int:
    """Futures of all openings of a step."""
    return recipe.openings_per_step * credit_of(recipe).futures_per_opening(recipe)


def replies_in_round(recipe: Recipe, round_number: int) -> int:
    """Replies of a step in a later round, on average."""
    return math.ceil(recipe.openings_per_step * credit_of(recipe).replies_per_opening(recipe, round_number))


def openings_at_once(recipe: Recipe) -> int:
    """Openings that are written together: all of a step, or as many as may be."""
    rows = recipe.openings_per_step
    return min(rows, decided(recipe.rollout.max_width)) if bounds_openings(recipe) else rows


def bounds_openings(recipe: Recipe) -> bool:
    """Whether ``rollout.max_width`` holds for openings, too: not where TRL asks Unsloth's `generate` for them."""
    return recipe.model.backend != "unsloth" or credit_of(recipe).samples_itself


def longest_trained(recipe: Recipe) -> tuple[int, int]:
    """Tokens of the longest prompt and of the longest reply that are trained; all rows of an update are as long."""
    rollout = recipe.rollout
    if not credit_of(recipe).trains_later_rounds:
        return rollout.max_prompt_tokens, rollout.openings.max_tokens
    prompt = max(rollout.max_prompt_tokens, later_prompt(recipe))
    return prompt, max(rollout.openings.max_tokens, rollout.futures.max_tokens)


def packed_tokens(recipe: Recipe) -> int:
    """Most tokens that an update computes together where rows are packed."""
    longest = decided(recipe.training.micro_batch_size) * sum(longest_trained(recipe))
    return min(longest, _step_tokens(recipe, recipe.training.problems_per_step))


def update_tokens(recipe: Recipe, *, packs: bool) -> int:
    """Tokens that the whole update of a step computes.

    Args:
        packs: A prompt counts once for as many openings as go together.
    """
    longest, rollout, num_openings = sum(longest_trained(recipe)), recipe.rollout, recipe.openings_per_step
    if not packs:
        return credit_of(recipe).trained_per_step(recipe) * longest
    room = decided(recipe.training.micro_batch_size) * longest - rollout.max_prompt_tokens
    together = max(1, room // rollout.openings.max_tokens)
    return _step_tokens(recipe, max(recipe.training.problems_per_step, math.ceil(num_openings / together)))


def _step_tokens(recipe: Recipe, num_prompts: int) -> int:
    """Of all rows of a step, with so many prompts of openings; later rounds share nothing."""
    rollout, num_openings = recipe.rollout, recipe.openings_per_step
    if not credit_of(recipe).trains_every_opening:
        return credit_of(recipe).trained_per_step(recipe) * sum(longest_trained(recipe))
    first = num_prompts * rollout.max_prompt_tokens + num_openings * rollout.openings.max_tokens
    later = credit_of(recipe).trained_per_step(recipe) - num_openings
    return first + later * sum(longest_trained(recipe))
