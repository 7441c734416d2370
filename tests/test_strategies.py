"""Ways of thinking besides MOTIF's: what each round is shown, worked by hand over three rounds, and what is refused."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from motif_lite.errors import RecipeError
from motif_lite.evaluation.measuring import all_graded
from motif_lite.evaluation.voting import majority_is_right
from motif_lite.jobs.solve_job import as_json
from motif_lite.nouns import Conversation, Reply, Sampling, Trajectory, Turn
from motif_lite.policies import backends
from motif_lite.policies.local import LocalPolicy
from motif_lite.recipe.schema import Recipe, RolloutSection
from motif_lite.rollout.rewards import INSIDE_ANSWER, future_accuracy, gold_and_replies
from motif_lite.rollout.rollouts import Rollouts
from motif_lite.rollout.strategies import STRATEGIES, SingleRound, Strategy
from motif_lite.rollout.strategies.delethink import Delethink
from motif_lite.rollout.strategies.multi_round import multi_round
from motif_lite.rollout.strategies.parallel import Parallel
from motif_lite.rollout.strategies.refine import Refine
from motif_lite.rollout.thinking import think
from motif_lite.runs.files import as_line
from motif_lite.runs.records import GradedReply
from motif_lite.solving.solver import Effort, Solver
from motif_lite.tasks import sources
from motif_lite.training.rounds_step import RoundsStep
from motif_lite.training.step_metrics import PerformedStep, lines, summarize
from motif_lite.views.solving import SolutionView
from tests.fakes import RecordingObserver, ScriptedPolicy, problem, reply, turn
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


CUTS = {
    "a box in an earlier chunk": ("<answer>it is \\boxed{2}", "</answer>"),
    "a cut in a box": ("<answer>it is \\boxe", "d{2}</answer>"),
    "a cut between the tag and the box": ("so <answer>", "\\boxed{2}</answer>"),
    "a cut in a tag": ("so <ans", "wer>\\boxed{2}</answer>"),
    "another box before it": ("\\boxed{3}, no: <answer>\\boxed{", "2}</answer>"),
}


@pytest.mark.parametrize("first, second", CUTS.values(), ids=CUTS)
def test_a_text_in_chunks_is_graded_as_a_whole(first: str, second: str) -> None:
    """Wherever it is cut; where rounds are not chunks of one text, the last reply alone."""
    rollouts = told(Delethink("system", 3, head_tokens=3, tail_tokens=5), turn(reply(first, finish="length")), second)
    [opening] = rollouts.openings
    [future] = opening.futures
    assert future.final == Reply(first + second, len(first + second), "stop")
    assert [each.reply.text for each in future.turns] == [first, second], "what is trained stays as it was sampled"
    assert future_accuracy(opening) == INSIDE_ANSWER
    assert list(gold_and_replies([opening])) == [("2", first), ("2", first + second)]
    [notes] = told(Refine("system", 2), turn(reply(first, finish="length")), second).openings
    assert notes.futures[0].final.text == second
    assert future_accuracy(notes) < INSIDE_ANSWER


@pytest.mark.parametrize("first, second", CUTS.values(), ids=CUTS)
def test_measurements_votes_and_metrics_look_at_the_whole_text(
    first: str, second: str, tiny_recipe: MakeRecipe
) -> None:
    rollouts = told(Delethink("system", 3, head_tokens=3, tail_tokens=5), turn(reply(first, finish="length")), second)
    [graded] = all_graded(rollouts.openings[0].futures, RecordingObserver())
    assert (graded.correct, graded.final, graded.replies) == (True, first + second, (first, second))
    assert majority_is_right([GradedReply.model_validate_json(as_line(graded))])
    recipe = tiny_recipe('rollout.strategy="delethink"', "rewards={future_accuracy=1.0}", "rollout.tail_tokens=5",
                         "rollout.head_tokens=3", "rollout.num_openings=2")  # fmt: skip
    step = PerformedStep(1, Rollouts(rollouts.openings * 2), {"future_accuracy": [2.0, 2.0]})
    metrics = summarize(recipe, step, None)
    is_early = second == "</answer>"
    assert metrics.accuracy_by_round == (float(is_early), 1.0, 1.0)
    assert metrics.answers_kept[0] == (1.0 if is_early else None)
    assert [future.correct for line in lines(recipe, step) for future in line.futures] == [True, True]


@pytest.mark.parametrize("first, second", CUTS.values(), ids=CUTS)
def test_a_question_is_answered_by_the_whole_text(first: str, second: str, tiny_recipe: MakeRecipe) -> None:
    recipe = tiny_recipe(
        'rollout.strategy="delethink"', "rewards={future_accuracy=1.0}", "rollout.tail_tokens=2",
        "rollout.head_tokens=1", f"rollout.openings.max_tokens={len(first)}",
    )  # fmt: skip
    texts = iter((first + second, second))
    policy = ScriptedPolicy(lambda prompt, sampling: next(texts))
    found = Solver(recipe, policy).solve("1+1?", Effort(), SolutionView(Console(quiet=True)), number=1)
    assert found.answer == "2"
    [sample] = json.loads(as_json(found))["samples"]
    assert sample["answer"] == "2"
    assert [each["reply"] for each in sample["rounds"]] == [first, second]


def test_a_real_policy_writes_in_chunks_what_it_writes_at_once(tiny_recipe: MakeRecipe, tiny_folder: Path) -> None:
    """Greedily, where each chunk sees all of the text before."""
    recipe = tiny_recipe()
    policy = backends.backend("transformers").load(recipe, str(tiny_folder))
    system = multi_round(recipe.rollout).first_messages(problem())[0]["content"]
    problems = sources.load(recipe.data.as_source(), role="train", seed=1)[:4]
    at_once, in_chunks = (Sampling(max_tokens=number, temperature=0.0) for number in (60, 3))
    whole = think(policy, SingleRound(system), problems, at_once, at_once, seed=1)
    chunked = think(policy, Delethink(system, 20, 0, 1_000), problems, in_chunks, in_chunks, seed=1)
    assert [path.final.text for path in chunked] == [path.final.text for path in whole]
    assert [path.final.num_tokens for path in chunked] == [path.final.num_tokens for path in whole]
    assert min(len(path.turns) for path in chunked) > 2


def test_a_chain_of_chunks_is_trained_as_it_was_sampled(
    tiny_recipe: MakeRecipe, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe(
        'rollout.strategy="delethink"', 'training.credit="chain"', "rewards={future_accuracy=1.0}",
        "rollout.head_tokens=4", "rollout.tail_tokens=6", "training.max_steps=1", "rollout.openings.max_tokens=12",
        "rollout.futures.max_tokens=12",
    )  # fmt: skip
    training, sampled, trained = Training(recipe, tiny_folder, tmp_path / "run"), list[Reply](), list[list[int]]()
    generate, rows = training.policy.generate, RoundsStep._rows

    def generated(*arguments: Any, **named: Any) -> list[Reply]:
        sampled.extend(replies := generate(*arguments, **named))
        return replies

    def rows_of(step: RoundsStep, num_rows: int) -> dict[str, Any]:
        found = rows(step, num_rows)
        trained.extend(found["completion_ids"])
        return found

    monkeypatch.setattr(training.policy, "generate", generated)
    monkeypatch.setattr(RoundsStep, "_rows", rows_of)
    assert training.train()
    ids = Counter(each.token_ids for each in sampled)
    assert Counter(map(tuple, trained[: len(sampled)])) == ids, "each chunk is a row; what follows are fillers"
    written = [each for line in training.run.rollouts() for each in line.turns()]
    assert Counter(each.reply for each in written) == Counter(each.text for each in sampled)


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


@pytest.mark.parametrize(("head_tokens", "head"), [(1, "a"), (4, "a"), (5, "a\U0001f9ee"), (6, "a\U0001f9eex")])
def test_delethink_cuts_no_character_of_the_beginning(
    head_tokens: int, head: str, tiny_recipe: MakeRecipe, tiny_folder: Path
) -> None:
    policy = backends.backend("transformers").load(tiny_recipe(), str(tiny_folder))
    strategy = Delethink("", 2, head_tokens=head_tokens, tail_tokens=3)
    path = Trajectory(problem("b1="), (turn("a\U0001f9eexyz and \U0001f9ee1"),))
    prompt, _ = strategy.next_prompt(policy, path, 2, LIMIT)
    assert prompt == policy.render(strategy.first_messages(path.problem)) + head + "1"


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
    whole.require_same_when_resumed(tmp_path / "resumed", 1)
    rounds = {1 + len(future.rounds) for line in whole.run.rollouts() for future in line.futures}
    assert max(rounds) == num_rounds
