"""Rules between the sections of a recipe; a key's own range stands with the key in `schema`.

Each rule yields a message for what is broken, with the keys and the remedy. All messages are shown together.
"""

from collections.abc import Callable, Iterator

from motif_lite.recipe import curriculum_rules, strategy_rules
from motif_lite.recipe.model import ModelSection
from motif_lite.recipe.schema import Recipe
from motif_lite.recipe.tables import Tables

Rule = Callable[[Recipe], Iterator[str]]


def broken_rules(recipe: Recipe, tables: Tables) -> list[str]:
    """A message for each broken rule: those of all recipes, then those of the recipe's credit."""
    rules: list[Rule] = [*RULES, tables["credit"][recipe.training.credit].broken_rules]
    return [message for rule in rules for message in rule(recipe)]


def _unsloth_keys_need_unsloth(recipe: Recipe) -> Iterator[str]:
    given = {
        "model.fast_inference": recipe.model.fast_inference,
        "training.logit_chunks": recipe.training.logit_chunks is not None,
    }
    if recipe.model.backend != "unsloth":
        for key in (key for key, is_given in given.items() if is_given):
            yield f"{key} is Unsloth's; with model.backend = {recipe.model.backend!r} leave it out"


def _a_server_has_an_address(recipe: Recipe) -> Iterator[str]:
    model = recipe.model
    if model.backend == "server" and model.url is None:
        yield 'model.backend = "server" needs model.url, e.g. "http://localhost:8000/v1"'
    if model.backend != "server":
        keys = ("url", "extra_body", *(() if recipe.rollout.server else ("requests", "request_seconds")))
        for key in (key for key in keys if getattr(model, key) != ModelSection.model_fields[key].default):
            yield f'model.{key} is for model.backend = "server"; with {model.backend!r} leave it out'


def _a_rollout_server_gets_adapters(recipe: Recipe) -> Iterator[str]:
    rollout, backend = recipe.rollout, recipe.model.backend
    if (rollout.server is None) != (rollout.server_folder is None):
        given, other = ("server_folder", "server") if rollout.server is None else ("server", "server_folder")
        yield f"rollout.{given} needs rollout.{other}: the server's address, and the folder in which it finds adapters"
    if rollout.server is not None and backend != "transformers":
        yield f'rollout.server is for model.backend = "transformers"; with {backend!r} leave it out'


def _weights_in_4_bits_are_not_in_32(recipe: Recipe) -> Iterator[str]:
    if recipe.rollout.weights == "32bit" and recipe.model.load_in_4bit:
        yield 'rollout.weights = "32bit" is for a model in 32 bits; with model.load_in_4bit set "16bit" or "4bit"'


def _a_server_continues_no_text(recipe: Recipe) -> Iterator[str]:
    if recipe.model.backend == "server" and recipe.evaluation.memorisation is not None:
        yield (
            "evaluation.memorisation has the model continue a text without a chat template, and a server is asked in "
            "chats; leave it out, or load the model here with 'transformers' or 'unsloth'"
        )


def _memorisation_is_of_the_base(recipe: Recipe) -> Iterator[str]:
    if recipe.evaluation.memorisation is not None and not recipe.evaluation.before:
        yield "evaluation.memorisation is measured before training, and evaluation.before is off; set it to true"


def _openings_fit_the_context(recipe: Recipe) -> Iterator[str]:
    rollout, context = recipe.rollout, recipe.model.max_seq_length
    needed = rollout.max_prompt_tokens + rollout.openings.max_tokens
    if needed > context:
        yield (
            f"model.max_seq_length = {context} is smaller than rollout.max_prompt_tokens + "
            f"rollout.openings.max_tokens = {needed}"
        )


def _futures_fit_the_context(recipe: Recipe) -> Iterator[str]:
    rollout, context = recipe.rollout, recipe.model.max_seq_length
    if rollout.max_prompt_tokens + rollout.notice_tokens + rollout.futures.max_tokens > context:
        yield (
            f"model.max_seq_length = {context} leaves no room for a question of rollout.max_prompt_tokens = "
            f"{rollout.max_prompt_tokens}, the round's notice ({rollout.notice_tokens}) and a future of "
            f"rollout.futures.max_tokens = {rollout.futures.max_tokens}"
        )


def _openings_differ(recipe: Recipe) -> Iterator[str]:
    if recipe.rollout.openings.temperature == 0:
        yield "rollout.openings.temperature = 0 makes all openings of a group the same: there is nothing to learn from"


def _a_reward_counts(recipe: Recipe) -> Iterator[str]:
    if all(weight == 0 for weight in recipe.rewards.values()):
        yield "rewards: every weight is 0, so nothing would be learned"


def _rewards_apart_have_a_scale(recipe: Recipe) -> Iterator[str]:
    training = recipe.training
    if training.multi_objective_aggregation == "normalize_then_sum" and training.scale_rewards != "group":
        yield (
            f"training.scale_rewards = {training.scale_rewards!r} has no effect with "
            'training.multi_objective_aggregation = "normalize_then_sum", which divides each reward by its deviation '
            'in the group; set scale_rewards = "group", or multi_objective_aggregation = "sum_then_normalize"'
        )


def _loggers_differ(recipe: Recipe) -> Iterator[str]:
    if len(set(recipe.logging)) < len(recipe.logging):
        yield "logging names one twice; remove it"


def _cispo_has_a_largest_ratio(recipe: Recipe) -> Iterator[str]:
    high = recipe.training.epsilon_high
    if recipe.training.loss_type == "cispo" and high is not None and high <= 1:
        yield (
            f'training.epsilon_high = {high} is the largest policy ratio with training.loss_type = "cispo", and the '
            "ratio of an unchanged policy is 1; set a number above 1, such as 5"
        )


def _soft_losses_clip_nothing(recipe: Recipe) -> Iterator[str]:
    training = recipe.training
    if training.loss_type in ("sapo", "vespo") and training.epsilon_high is not None:
        yield (
            f"training.epsilon_high = {training.epsilon_high} has no effect with training.loss_type = "
            f'"{training.loss_type}", which clips no ratio; leave it out'
        )


def _unsloth_updates_as_tested(recipe: Recipe) -> Iterator[str]:
    training, untested = recipe.training, 'is not tested with model.backend = "unsloth"; set backend = "transformers"'
    if recipe.model.backend != "unsloth":
        return
    if training.num_iterations > 1:
        yield f"training.num_iterations = {training.num_iterations} {untested}, or num_iterations = 1"
    if training.importance_cap is not None:
        yield f"training.importance_cap = {training.importance_cap} {untested}, or leave it out"
    if training.loss_type in ("cispo", "sapo", "luspo", "vespo"):
        yield f'training.loss_type = "{training.loss_type}" {untested}, or another loss_type, such as "dapo"'


def _weights_are_of_what_was_sampled(recipe: Recipe) -> Iterator[str]:
    cap, temperature = recipe.training.importance_cap, recipe.rollout.openings.temperature
    if cap is not None and temperature != 1:
        yield (
            f"training.importance_cap = {cap} needs log-probabilities at the temperature of sampling, and what writes "
            f"replies tells them at temperature 1; set rollout.openings.temperature = 1.0 instead of {temperature}, or "
            f"leave importance_cap out"
        )


def _losses_have_their_level(recipe: Recipe) -> Iterator[str]:
    loss_type, level = recipe.training.loss_type, recipe.training.importance_sampling_level
    its_own = {"luspo": "sequence", "vespo": "token"}.get(loss_type, level)
    if level != its_own:
        yield (
            f'training.loss_type = "{loss_type}" is defined with training.importance_sampling_level = "{its_own}"; '
            f'set that, or loss_type = "{"grpo" if level == "sequence" else "dapo"}"'
        )


def _warm_starts_can_be_cut(recipe: Recipe) -> Iterator[str]:
    rollout, section = recipe.rollout, recipe.warm_start
    if section is None:
        return
    if rollout.strategy not in ("multi_round", "single_round"):
        yield (
            f"warm_start cuts solutions into the rounds of multi_round, and rollout.strategy = {rollout.strategy!r} "
            f"has others; take multi_round or single_round, or leave [warm_start] out"
        )
    needed = rollout.max_prompt_tokens + (section.max_tokens or 0)
    if section.max_tokens and needed > recipe.model.max_seq_length:
        yield (
            f"model.max_seq_length = {recipe.model.max_seq_length} is smaller than rollout.max_prompt_tokens + "
            f"warm_start.max_tokens = {needed}"
        )


RULES: list[Rule] = [
    _unsloth_keys_need_unsloth,
    _a_server_has_an_address,
    _a_rollout_server_gets_adapters,
    _weights_in_4_bits_are_not_in_32,
    _a_server_continues_no_text,
    _memorisation_is_of_the_base,
    strategy_rules.a_server_begins_its_replies,
    _openings_fit_the_context,
    _futures_fit_the_context,
    strategy_rules.adaptive_allocation_has_futures_to_share,
    strategy_rules.progress_is_multi_rounds,
    strategy_rules.chunks_carry_less_than_they_are,
    strategy_rules.chunks_have_no_form,
    strategy_rules.chunks_are_cut_off,
    strategy_rules.parallel_has_two_drafts,
    curriculum_rules.has_whole_levels,
    curriculum_rules.has_steps_and_bounds,
    curriculum_rules.looks_at_all_problems,
    _openings_differ,
    _a_reward_counts,
    _rewards_apart_have_a_scale,
    _loggers_differ,
    _cispo_has_a_largest_ratio,
    _soft_losses_clip_nothing,
    _unsloth_updates_as_tested,
    _weights_are_of_what_was_sampled,
    _losses_have_their_level,
    _warm_starts_can_be_cut,
]
"""Of every recipe, in the order in which they are reported."""
