"""Rules about ways of thinking: what goes with which `rollout.strategy`."""

from collections.abc import Iterator
from typing import Literal

from motif_lite import own_code
from motif_lite.recipe.schema import Recipe

OF_WHOLE_REPLIES = ("tag_count", "soft_format", "strict_format", "gated_accuracy")
"""Rewards that look for both sections in a reply."""

LEAST_PARALLEL_ROUNDS = 4
"""Two drafts, the round that distils them, and the last one."""


def adaptive_allocation_has_futures_to_share(recipe: Recipe) -> Iterator[str]:
    """There are several futures for each opening."""
    rollout, remedy = recipe.rollout, 'or set rollout.allocation = "fixed"'
    if rollout.allocation == "adaptive" and rollout.strategy == "single_round":
        yield (
            'rollout.allocation = "adaptive" shares out futures, and rollout.strategy = "single_round" has none; take '
            f"multi_round, {remedy}"
        )
    if rollout.allocation == "adaptive" and rollout.num_futures == 1:
        yield (
            'rollout.allocation = "adaptive" has nothing to share out with rollout.num_futures = 1; raise '
            f"num_futures, {remedy}"
        )


def _named_strategies(recipe: Recipe) -> dict[str, str]:
    """Every strategy that the recipe names, with the key that names it."""
    found = dict.fromkeys(recipe.evaluation.strategies, "evaluation.strategies")
    return found | {recipe.rollout.strategy: "rollout.strategy"}


def a_server_begins_its_replies(recipe: Recipe) -> Iterator[str]:
    """No server goes on with a text that it is given."""
    key = _named_strategies(recipe).get("delethink")
    if recipe.model.backend == "server" and key is not None:
        yield (
            f'{key} names delethink, whose rounds continue a reply, and model.backend = "server" cannot: a server ends '
            "each message; take another strategy, or load the model here with 'transformers' or 'unsloth'"
        )


def progress_is_multi_rounds(recipe: Recipe) -> Iterator[str]:
    """What is made for progress notes is not asked of other strategies."""
    rollout = recipe.rollout
    if rollout.strategy in ("multi_round", "single_round") or own_code.is_own(rollout.strategy):
        return
    if rollout.allocation == "adaptive":
        yield (
            'rollout.allocation = "adaptive" shares futures among openings that pass on the same progress, which only '
            f'multi_round has; with rollout.strategy = "{rollout.strategy}" set allocation = "fixed"'
        )
    if rollout.early_finish:
        yield f'rollout.early_finish is multi_round\'s; with rollout.strategy = "{rollout.strategy}" set it to false'


def longest_later_prompt(recipe: Recipe, strategy: str, first: int, before: int) -> int:
    """Tokens of a later round's prompt, where it is to hold all that the strategy carries over.

    Args:
        first: Tokens of the prompt of round 1.
        before: Of the reply before, all of which `MultiRound` may carry over.
    """
    rollout = recipe.rollout
    if strategy == "delethink":
        return first + rollout.head_tokens + rollout.tail_tokens
    return first + rollout.notice_tokens + before


def chunks_go_on(recipe: Recipe, phase: Literal["openings", "futures"]) -> bool:
    """Whether replies end at their limit wherever the text goes on, as chunks of `delethink` do but for the last."""
    return recipe.rollout.strategy == "delethink" and (phase == "openings" or recipe.rollout.num_rounds > 2)


def chunks_carry_less_than_they_are(recipe: Recipe) -> Iterator[str]:
    """A chunk of `delethink` ends behind where it began."""
    rollout, kept = recipe.rollout, recipe.rollout.head_tokens + recipe.rollout.tail_tokens
    key = _named_strategies(recipe).get("delethink")
    if key is None:
        return
    shortest = min(rollout.openings.max_tokens, rollout.futures.max_tokens)
    if kept >= shortest:
        yield (
            f"rollout.head_tokens + rollout.tail_tokens = {kept} is not less than the {shortest} tokens of a chunk "
            f"(max_tokens of rollout.openings and rollout.futures): delethink ({key}) would repeat itself; lower them"
        )
    needed = longest_later_prompt(recipe, "delethink", rollout.max_prompt_tokens, shortest) + rollout.futures.max_tokens
    if needed > recipe.model.max_seq_length:
        yield (
            f"model.max_seq_length = {recipe.model.max_seq_length} is smaller than the {needed} tokens of a later "
            f"round of delethink ({key}): rollout.max_prompt_tokens, head_tokens, tail_tokens and futures.max_tokens"
        )


def chunks_have_no_form(recipe: Recipe) -> Iterator[str]:
    """No reward judges the form of a chunk."""
    judged = [name for name in recipe.rewards if name in OF_WHOLE_REPLIES]
    if recipe.rollout.strategy == "delethink" and judged:
        yield (
            f'rewards {", ".join(judged)} judge the form of a whole reply, and with rollout.strategy = "delethink" a '
            "reply is a chunk of one; name future_accuracy alone"
        )


def chunks_are_cut_off(recipe: Recipe) -> Iterator[str]:
    """Chunks that reach their limit are trained."""
    if recipe.rollout.strategy == "delethink" and recipe.training.mask_truncated_completions:
        yield (
            "training.mask_truncated_completions keeps replies that reach their limit out of the update, and with "
            'rollout.strategy = "delethink" every chunk but the last one does; set it to false'
        )


def parallel_has_two_drafts(recipe: Recipe) -> Iterator[str]:
    """Besides the two rounds that come after them."""
    key = _named_strategies(recipe).get("parallel")
    if key and recipe.rollout.num_rounds < LEAST_PARALLEL_ROUNDS:
        yield (
            f"rollout.num_rounds = {recipe.rollout.num_rounds} leaves parallel ({key}) fewer than two drafts besides "
            f"the round that distils them and the last one; set {LEAST_PARALLEL_ROUNDS} or more"
        )
