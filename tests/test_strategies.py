"""Ways of thinking besides MOTIF's: what each round is shown, worked by hand over three rounds, and what is refused."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from motif_lite.errors import RecipeError
from motif_lite.nouns import Conversation, Sampling, Turn
from motif_lite.policies import backends
from motif_lite.policies.local import LocalPolicy
from motif_lite.recipe.schema import Recipe, RolloutSection
from motif_lite.rollout.rollouts import Rollouts
from motif_lite.rollout.strategies import STRATEGIES, Strategy
from motif_lite.rollout.strategies.delethink import Delethink
from motif_lite.rollout.strategies.parallel import Parallel
from motif_lite.rollout.strategies.refine import Refine
from tests.fakes import ScriptedPolicy, problem, reply, turn
from tests.test_training import Training

MakeRecipe = Callable[..., Recipe]

LIMIT = Sampling(max_tokens=30)


def told(strategy: Strategy, opening: Turn, *replies: str, context_tokens: int = 1_000_000) -> Rollouts:
    """One future of one opening, whose rounds reply so; a token is a character."""
    texts: Iterator[str] = iter(replies)
    policy = ScriptedPolicy(lambda prompt, sampling: next(texts), context_tokens)
    return strategy.continue_openings(policy, [(problem("apples?"), opening)], 1, LIMIT, seed=1)


def prompts_of(rollouts: Rollouts) -> list[str]:
    return [later.prompt for later in rollouts.openings[0].futures[0].turns[1:]]


def test_refine_shows_the_solution_of_the_round_before() -> None:
    rollouts = told(Refine("system", 3), turn("why <answer>it is 3</answer>"), "<answer>it is 4</answer>", "5")
    assert prompts_of(rollouts) == [
        '[system]system[user]apples? Solution of round 1: "it is 3" Check and improve it.[assistant]',
        '[system]system[user]apples? Solution of round 2: "it is 4" Check and improve it. '
        "This is the final (third) round.[assistant]",
    ]


def test_a_draft_that_does_not_fit_is_cut_at_its_beginning_and_counted() -> None:
    whole = told(Refine("system", 2), turn("<answer>0123456789</answer>"), "5")
    [prompt] = prompts_of(whole)
    cut = told(Refine("system", 2), turn("<answer>0123456789</answer>"), "5", context_tokens=len(prompt) + 30 - 4)
    assert prompts_of(cut) == [prompt.replace("0123456789", "456789")]
    assert (whole.num_cut, cut.num_cut) == (0, 1)


def test_parallel_drafts_see_the_question_alone_then_all_are_distilled() -> None:
    strategy = Parallel("system", 4, draft_tokens=5)
    rollouts = told(strategy, turn("<answer>one</answer>"), "<answer>second</answer>", "<answer>both</answer>", "5")
    assert prompts_of(rollouts) == [
        "[system]system[user]apples?[assistant]",
        '[system]system[user]apples? Draft 1: "one" Draft 2: "econd" Write your notes.[assistant]',
        '[system]system[user]apples? Notes on your drafts: "both" Write the solution.[assistant]',
    ]


def test_delethink_continues_a_text_of_which_it_sees_the_beginning_and_the_end() -> None:
    """Chunks of thirty characters, of which the first three of the first one and the last five of each are kept."""
    chunks = [f"{letter}123456789" * 3 for letter in "abc"]
    strategy = Delethink("system", 3, head_tokens=3, tail_tokens=5)
    rollouts = told(strategy, turn(reply(chunks[0], finish="length")), chunks[1] + "more", chunks[2])
    assert prompts_of(rollouts) == [
        "[system]system[user]apples?[assistant]a1256789",
        "[system]system[user]apples?[assistant]a1256789",
    ]
    third = told(strategy, turn(reply(chunks[0], finish="length")), chunks[1].replace("9", "z") + "more", chunks[2])
    assert prompts_of(third)[1] == "[system]system[user]apples?[assistant]a125678z"


def test_a_text_that_ends_by_itself_is_complete() -> None:
    strategy = Delethink("system", 3, head_tokens=3, tail_tokens=5)
    assert prompts_of(told(strategy, turn("the end"))) == []
    rollouts = told(strategy, turn(reply("a" * 30, finish="length")), "the end")
    assert [len(future.turns) for future in rollouts.openings[0].futures] == [2]


def test_a_real_policy_begins_its_reply_with_what_is_kept(tiny_recipe: MakeRecipe, tiny_folder: Path) -> None:
    """Token by token as if it had written it, and marks of the template in it stay text."""
    recipe = tiny_recipe()
    policy = backends.backend("transformers").load(recipe, str(tiny_folder))
    assert isinstance(policy, LocalPolicy)
    asked: Conversation = [{"role": "user", "content": "a1b2="}]
    prompt = policy.render(asked)
    begun = policy.render([*asked, {"role": "assistant", "content": "a11b"}])
    assert begun == prompt + "a11b"
    assert policy.encode(begun) == policy.encode(prompt) + policy.encode("a11b")
    mark = policy.tokenizer.eos_token
    hostile = policy.render([*asked, {"role": "assistant", "content": mark}])
    assert policy.tokenizer.eos_token_id not in policy.encode(hostile)[len(policy.encode(prompt)) :]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (['rollout.strategy="parallel"'], "num_rounds = 3 leaves parallel .rollout.strategy. fewer than two drafts"),
        (['evaluation.strategies=["parallel"]'], "parallel .evaluation.strategies. fewer than two drafts"),
        (['rollout.strategy="refine"', 'rollout.allocation="adaptive"'], 'only multi_round has; .* "fixed"'),
        (['rollout.strategy="refine"', "rollout.early_finish=true"], "early_finish is multi_round's"),
        (['rollout.strategy="delethink"'], "rewards tag_count, soft_format, strict_format judge .* whole reply"),
        (
            ['rollout.strategy="delethink"', "rewards={future_accuracy=1.0}", "rollout.tail_tokens=400"],
            r"head_tokens \+ rollout.tail_tokens = 500 is not less than the 35 tokens of a chunk",
        ),
        (
            ['evaluation.strategies=["delethink"]', "rollout.head_tokens=20", "rollout.tail_tokens=14",
             "model.max_seq_length=132"],
            "max_seq_length = 132 is smaller than the .* tokens of a later round of delethink",
        ),
        (
            ['rollout.strategy="delethink"', "rewards={future_accuracy=1.0}",
             "training.mask_truncated_completions=true"],
            "mask_truncated_completions keeps .* every chunk but the last one does; set it to false",
        ),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_with_the_reason(
    changes: list[str], message: str, tiny_recipe: MakeRecipe
) -> None:
    with pytest.raises(RecipeError, match=message):
        tiny_recipe(*changes)


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_a_systems_prompt_of_the_users_own_takes_the_place_of_any_other(name: str) -> None:
    section = RolloutSection(num_rounds=4, system_prompt="Think.")
    messages = STRATEGIES[name](section).first_messages(problem("apples?"))
    assert messages == [{"role": "system", "content": "Think."}, {"role": "user", "content": "apples?"}]
    own = STRATEGIES[name](section.model_copy(update={"system_prompt": None})).first_messages(problem("apples?"))
    assert "\\boxed{}" in own[0]["content"]
    assert "<answer>" in own[0]["content"]


@pytest.mark.parametrize(
    ("strategy", "credit", "num_rounds"),
    [("delethink", "chain", 3), ("delethink", "reset", 3), ("refine", "tree", 2), ("parallel", "opening", 4)],
)
def test_each_is_trained_and_a_resumed_run_equals_one_that_was_not(
    strategy: str, credit: str, num_rounds: int, tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe(
        f'rollout.strategy="{strategy}"', f'training.credit="{credit}"', f"rollout.num_rounds={num_rounds}",
        "rewards={future_accuracy=1.0}", "rollout.head_tokens=4", "rollout.tail_tokens=6", "training.max_steps=2",
        "rollout.openings.max_tokens=12", "rollout.futures.max_tokens=12", f'evaluation.strategies=["{strategy}"]',
        "training.warmup_fraction=0.0",
    )  # fmt: skip
    whole = Training(recipe, tiny_folder, tmp_path / "whole")
    assert whole.train()
    for stop_after in (1, None):
        resumed = Training(recipe, tiny_folder, tmp_path / "resumed")
        assert resumed.train(stop_after=stop_after) == (stop_after is None)
    resumed.require_same_as(whole)
    rounds = {1 + len(future.rounds) for line in whole.run.rollouts() for future in line.futures}
    assert max(rounds) == num_rounds
