"""Rounds on a scripted policy: how many calls, how wide, and what each prompt holds."""

import re
from collections import Counter
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import pytest

from motif_lite.nouns import OnTokens, Problem, Sampling, TokenProgress, Turn
from motif_lite.policies import backends
from motif_lite.policies.protocol import Policy
from motif_lite.recipe.schema import Recipe, RolloutSection
from motif_lite.rollout import prompts
from motif_lite.rollout.counting import generated_tokens
from motif_lite.rollout.rewards import future_accuracy
from motif_lite.rollout.rollouts import Rollouts, derive_seed
from motif_lite.rollout.strategies import STRATEGIES, MultiRound, SingleRound
from motif_lite.rollout.thinking import think
from motif_lite.tasks import chain_sum
from tests.fakes import ScriptedPolicy, problem, turn

FUTURES = Sampling(max_tokens=200, temperature=0.8, top_p=0.95)
PROBLEMS = [problem("apples?", "2", "p/1"), problem("pears?", "3", "p/2")]


def counting() -> ScriptedPolicy:
    """Numbers its replies, so that each can be told from all others."""
    number = iter(range(10_000))
    return ScriptedPolicy(lambda prompt, sampling: f"thought-{(n := next(number))} <answer>note-{n}.</answer>")


def streams(policy: ScriptedPolicy) -> set[int]:
    return {seed for call in policy.calls for seed in call.seeds}


def openings_of(problems: list[Problem], each: int) -> list[tuple[Problem, Turn]]:
    return [(p, turn(f"<answer>opening {p.id}-{i}.</answer>")) for p in problems for i in range(each)]


def roll_out(policy: Policy, num_rounds: int, each: int = 2, num_futures: int = 3, seed: int = 7) -> Rollouts:
    strategy = MultiRound("system", num_rounds)
    return strategy.continue_openings(policy, openings_of(PROBLEMS, each), num_futures, FUTURES, seed=seed)


@pytest.mark.parametrize("num_rounds", [2, 3, 4, 11])
def test_all_futures_of_all_openings_take_one_wide_call_per_round(num_rounds: int) -> None:
    policy = counting()
    rollouts = roll_out(policy, num_rounds)
    assert policy.widths == [len(PROBLEMS) * 2 * 3] * (num_rounds - 1)
    assert all(call.sampling == FUTURES for call in policy.calls)
    assert {len(future.turns) for opening in rollouts.openings for future in opening.futures} == {num_rounds}


def test_the_recipes_final_instruction_ends_the_last_rounds_message_alone() -> None:
    policy, section = counting(), RolloutSection(num_rounds=3, final_instruction="Box it.")
    STRATEGIES["multi_round"](section).continue_openings(policy, openings_of(PROBLEMS[:1], 1), 1, FUTURES, seed=7)
    second, third = [call.prompts[0] for call in policy.calls]
    assert "Box it." not in second
    assert "Current round is the final (third) round. Box it." in third
    assert section.notice_tokens == RolloutSection().notice_tokens, "it is no longer than the reference's"
    assert RolloutSection(final_instruction="x" * 223).notice_tokens == RolloutSection().notice_tokens + 67


def test_futures_part_after_the_round_that_a_credit_names() -> None:
    """After the first, the second and the last of three; those of one opening have the rounds before in common."""
    policy, given = counting(), openings_of(PROBLEMS[:1], 3)
    rollouts = MultiRound("system", 3).continue_openings(policy, given, 2, FUTURES, seed=7, branches=[1, 2, 3])
    assert policy.widths == [2 + 1 + 1, 2 + 2 + 1]
    assert len(streams(policy)) == 9
    first, second, last = (opening.futures for opening in rollouts.openings)
    assert [len(futures) for futures in (first, second, last)] == [2, 2, 1]
    assert all(len(future.turns) == 3 for futures in (first, second, last) for future in futures)
    assert first[0].turns[1] is not first[1].turns[1]
    assert second[0].turns[1] is second[1].turns[1]
    assert second[0].turns[2].prompt == second[1].turns[2].prompt
    assert second[0].final.text != second[1].final.text
    futures = [future for opening in rollouts.openings for future in opening.futures]
    written = {later.reply.text: later.reply.num_tokens for future in futures for later in future.turns[1:]}
    assert len(written) == 9
    assert generated_tokens(rollouts.openings)["futures"] == sum(written.values())


@pytest.mark.parametrize("num_rounds", [2, 4, 11])
def test_a_round_sees_the_progress_of_the_one_before_and_no_other(num_rounds: int) -> None:
    for opening in roll_out(counting(), num_rounds).openings:
        for future in opening.futures:
            for index, later in enumerate(future.turns[1:], start=1):
                shown = re.findall(r'Progress in round (\d+): "([^"]*)"', later.prompt)
                before = future.turns[index - 1].reply.text
                assert shown == [(str(index), before.partition("<answer>")[2].partition("</answer>")[0])]
                assert "thought-" not in later.prompt


@pytest.mark.parametrize("num_rounds", [2, 4, 11])
def test_the_final_notice_stands_before_the_last_round_only(num_rounds: int) -> None:
    policy = counting()
    roll_out(policy, num_rounds)
    final = [["Current round is the final" in prompt for prompt in call.prompts] for call in policy.calls]
    assert [all(each) for each in final] == [False] * (num_rounds - 2) + [True]
    assert not any(any(each) for each in final[:-1])


def test_the_prompt_of_a_later_round_is_the_references_user_message() -> None:
    later = roll_out(counting(), 3).openings[0].futures[0].turns
    assert later[1].prompt == '[system]system[user]apples? Progress in round 1: "opening p/1-0."[assistant]'
    assert later[2].prompt == (
        '[system]system[user]apples? Progress in round 2: "note-0." Current round is the final (third) round. '
        "Provide a final answer.[assistant]"
    )


def test_futures_are_grouped_to_the_opening_that_they_continue() -> None:
    given = openings_of(PROBLEMS, 2)
    rollouts = roll_out(counting(), 3)
    assert [(opening.problem, opening.turn) for opening in rollouts.openings] == given
    for opening in rollouts.openings:
        assert len(opening.futures) == 3
        assert all(future.turns[0] is opening.turn for future in opening.futures)
        assert all(opening.turn.reply.text[8:-9] in future.turns[1].prompt for future in opening.futures)
    finals = Counter(future.final.text for opening in rollouts.openings for future in opening.futures)
    assert set(finals.values()) == {1}, "no reply may serve two futures"


def test_unlike_the_reference_each_row_has_its_own_question() -> None:
    for opening in roll_out(counting(), 4).openings:
        other = next(p for p in PROBLEMS if p != opening.problem)
        for future in opening.futures:
            assert all(opening.problem.question in later.prompt for later in future.turns[1:])
            assert not any(other.question in later.prompt for later in future.turns[1:])


def test_a_reply_without_tags_passes_on_all_of_itself() -> None:
    policy = ScriptedPolicy(lambda prompt, sampling: "  just text  ")
    future = roll_out(policy, 3).openings[0].futures[0]
    assert 'Progress in round 2: "just text"' in future.turns[2].prompt


def test_progress_that_does_not_fit_is_cut_keeping_its_end_and_counted() -> None:
    frame = len('[system]system[user]apples? Progress in round 1: ""[assistant]')
    policy = ScriptedPolicy(lambda prompt, sampling: "ok", context_tokens=frame + 10 + FUTURES.max_tokens)
    first = [(PROBLEMS[0], turn("<answer>" + "x" * 90 + "0123456789</answer>"))]
    rollouts = MultiRound("system", 3).continue_openings(policy, first, 2, FUTURES, seed=1)
    prompt = policy.calls[0].prompts[0]
    assert 'round 1: "0123456789"' in prompt
    assert len(prompt) + FUTURES.max_tokens == policy.context_tokens, "no more is cut than must be"
    assert "apples?" in prompt
    assert rollouts.num_cut == 4, "two futures in round 2; in round 3 the notice leaves no room at all"


def test_progress_that_just_fits_is_not_cut() -> None:
    frame = len('[system]system[user]apples? Progress in round 1: ""[assistant]')
    policy = ScriptedPolicy(lambda prompt, sampling: "ok", context_tokens=10_000)
    first = [(PROBLEMS[0], turn("<answer>" + "x" * (10_000 - FUTURES.max_tokens - frame) + "</answer>"))]
    assert MultiRound("system", 3).continue_openings(policy, first, 1, FUTURES, seed=1).num_cut == 0
    assert len(policy.calls[0].prompts[0]) == 10_000 - FUTURES.max_tokens


def test_a_context_too_small_even_for_the_question_passes_no_progress_on() -> None:
    policy = ScriptedPolicy(lambda prompt, sampling: "ok", context_tokens=FUTURES.max_tokens + 1)
    rollouts = MultiRound("system", 2).continue_openings(policy, openings_of(PROBLEMS, 1), 1, FUTURES, seed=1)
    assert all('round 1: ""' in prompt for prompt in policy.calls[0].prompts)
    assert rollouts.num_cut == 2


def test_the_same_seed_gives_the_same_calls_and_another_seed_others() -> None:
    one, same, other = counting(), counting(), counting()
    for policy, seed in ((one, 7), (same, 7), (other, 8)):
        roll_out(policy, 4, seed=seed)
    assert one.calls == same.calls
    assert [call.prompts for call in one.calls] == [call.prompts for call in other.calls]
    assert not streams(one) & streams(other)


def test_every_future_has_a_stream_of_its_own_in_every_round_of_every_step() -> None:
    policy = counting()
    roll_out(policy, 11)
    assert len(streams(policy)) == sum(policy.widths) == 10 * len(PROBLEMS) * 2 * 3
    steps = [derive_seed(7, "futures", step) for step in range(200)]
    assert len(set(steps)) == 200
    assert steps == [derive_seed(7, "futures", step) for step in range(200)]
    assert all(0 <= seed < 2**31 for seed in steps)
    assert derive_seed(1, 23) != derive_seed(12, 3)


def agreeing(*notes: str) -> list[tuple[Problem, Turn]]:
    """A group for each word: an opening for each letter, which is the progress that it passes on."""
    return [
        (p, turn(f"thought {p.id}-{i} <answer>{note}</answer>"))
        for p, group in zip(PROBLEMS, notes, strict=False)
        for i, note in enumerate(group)
    ]


def share_out(policy: Policy, *notes: str, num_futures: int = 3, seed: int = 7) -> Rollouts:
    strategy = MultiRound("system", 3, group_size=len(notes[0]))
    return strategy.continue_openings(policy, agreeing(*notes), num_futures, FUTURES, seed=seed)


def test_shared_out_futures_too_take_one_wide_call_per_round_and_never_a_wider_one() -> None:
    policy = counting()
    rollouts = share_out(policy, "aaab", "cccc")
    assert [len(opening.futures) for opening in rollouts.openings] == [2, 2, 2, 6, 1, 1, 1, 1]
    assert policy.widths == [16, 16]


def test_openings_that_pass_on_the_same_progress_share_their_futures_and_their_reward() -> None:
    policy = ScriptedPolicy(lambda prompt, sampling: f"\\boxed{{{2 if next(flips) else 3}}}")
    flips = cycle([True, False, False])
    openings = share_out(policy, "abca").openings
    one, other = openings[0], openings[3]
    assert one.shared == other.futures
    assert other.shared == one.futures
    assert future_accuracy(one) == future_accuracy(other)
    assert all(opening.shared == () for opening in openings[1:3])
    assert all(future.turns[0] is opening.turn for opening in openings for future in opening.futures)


def test_groups_share_nothing_though_they_may_be_of_one_problem() -> None:
    twice = agreeing("ab") + agreeing("ab")
    rollouts = MultiRound("system", 3, group_size=2).continue_openings(counting(), twice, 2, FUTURES, seed=1)
    assert all(opening.shared == () for opening in rollouts.openings)


def test_progress_that_is_alike_after_it_was_cut_is_the_same_progress() -> None:
    frame = len('[system]system[user]apples? Progress in round 1: ""[assistant]')
    policy = ScriptedPolicy(lambda prompt, sampling: "ok", context_tokens=frame + 4 + FUTURES.max_tokens)
    first = [(PROBLEMS[0], turn(f"<answer>{note}</answer>")) for note in ("one, 1234", "two, 1234", "three, 5678")]
    rollouts = MultiRound("system", 3, group_size=3).continue_openings(policy, first, 2, FUTURES, seed=1)
    assert [len(opening.shared) for opening in rollouts.openings] == [1, 2, 0]


@pytest.mark.parametrize("notes", ["abcd", "aaab"])
def test_an_openings_first_futures_are_the_same_however_many_it_gets(notes: str) -> None:
    policy = ScriptedPolicy(lambda prompt, sampling: "ok")
    openings = share_out(policy, notes).openings
    dealt = [(index, future) for index, opening in enumerate(openings) for future in range(len(opening.futures))]
    assert policy.calls[0].seeds == tuple(derive_seed(7, "round", 2, *place) for place in dealt)
    fixed = ScriptedPolicy(lambda prompt, sampling: "ok")
    MultiRound("system", 3).continue_openings(fixed, agreeing(notes), 3, FUTURES, seed=7)
    places = [(index, future) for index in range(4) for future in range(3)]
    assert fixed.calls[1].seeds == tuple(derive_seed(7, "round", 3, *place) for place in places)


def test_a_real_policys_adaptive_futures_begin_with_those_that_fixed_allocation_samples(
    tiny_recipe: Callable[..., Recipe], qwen_folder: Path
) -> None:
    recipe = tiny_recipe()
    policy = backends.backend(recipe.model.backend).load(recipe, str(qwen_folder))
    question = chain_sum.problems(1, seed=1, split="test")[0]
    digits = chain_sum.digits_of(question.question)
    first = [(question, turn(chain_sum.reply(digits, 0, steps))) for steps in (4, 4, 4, 3)]
    fixed, adaptive = (
        MultiRound("", 3, size).continue_openings(policy, first, 4, recipe.rollout.futures, seed=3).openings
        for size in (None, 4)
    )
    assert [len(opening.futures) for opening in adaptive] == [3, 3, 2, 8]
    assert len({future.final.text for future in adaptive[3].futures}) == 8, "else nothing is shown"
    for one, other in zip(fixed, adaptive, strict=True):
        both = min(len(one.futures), len(other.futures))
        assert one.futures[:both] == other.futures[:both]


def test_one_future_each_is_one_each_whoever_agrees() -> None:
    rollouts = share_out(counting(), "aaab", num_futures=1)
    assert [(len(opening.futures), opening.shared) for opening in rollouts.openings] == [(1, ())] * 4


def test_a_single_round_generates_nothing_and_is_its_own_future() -> None:
    policy = counting()
    first = openings_of(PROBLEMS, 2)
    rollouts = SingleRound("system").continue_openings(policy, first, 4, FUTURES, seed=1)
    assert policy.calls == []
    assert [opening.futures[0].turns for opening in rollouts.openings] == [(each,) for _, each in first]
    assert {len(opening.futures) for opening in rollouts.openings} == {1}


def test_rounds_are_announced_with_their_width_and_their_progress_is_passed_on() -> None:
    seen: list[tuple[int, int, int]] = []
    advanced: list[TokenProgress] = []

    def on_round(round_number: int, num_rounds: int, width: int) -> OnTokens:
        seen.append((round_number, num_rounds, width))
        return advanced.append

    MultiRound("", 4).continue_openings(counting(), openings_of(PROBLEMS, 2), 3, FUTURES, seed=1, on_round=on_round)
    assert seen == [(2, 4, 12), (3, 4, 12), (4, 4, 12)]
    assert [progress.written for progress in advanced] == [12] * 3


@pytest.mark.parametrize(("strategy", "num_rounds"), [(SingleRound("s"), 1), (MultiRound("s", 3), 3)])
def test_thinking_gives_one_whole_trajectory_per_problem(strategy: SingleRound | MultiRound, num_rounds: int) -> None:
    policy = counting()
    first = Sampling(max_tokens=100, temperature=0.0)
    thought = think(policy, strategy, PROBLEMS, first, FUTURES, seed=3)
    assert policy.widths == [2] * num_rounds
    assert [call.sampling for call in policy.calls] == [first] + [FUTURES] * (num_rounds - 1)
    assert [each.problem for each in thought] == PROBLEMS
    assert {len(each.turns) for each in thought} == {num_rounds}
    assert thought[1].num_tokens == sum(each.reply.num_tokens for each in thought[1].turns)
    assert len(streams(policy)) == sum(policy.widths)


@pytest.mark.parametrize(
    ("section", "system", "num_rounds"),
    [
        (RolloutSection.model_construct(strategy="single_round"), prompts.system_prompt(1), 1),
        (RolloutSection.model_construct(strategy="multi_round", num_rounds=4), prompts.system_prompt(4), 4),
        (RolloutSection.model_construct(strategy="multi_round", num_rounds=2, system_prompt="own"), "own", 2),
        (RolloutSection.model_construct(strategy="single_round", system_prompt=""), "", 1),
    ],
)
def test_a_strategy_is_built_from_the_recipe(section: RolloutSection, system: str, num_rounds: int) -> None:
    strategy = STRATEGIES[section.strategy](section)
    assert strategy.num_rounds == num_rounds
    assert strategy.first_messages(PROBLEMS[0]) == prompts.conversation(system, "apples?")


def test_futures_are_shared_among_a_group_only_where_the_recipe_says_so() -> None:
    fixed, adaptive = (
        RolloutSection.model_construct(num_openings=6, allocation=name) for name in ("fixed", "adaptive")
    )
    assert [STRATEGIES["multi_round"](section) for section in (fixed, adaptive)] == [
        MultiRound(prompts.system_prompt(3), 3),
        MultiRound(prompts.system_prompt(3), 3, group_size=6),
    ]


def test_what_is_thought_hangs_on_the_number_of_the_problem_and_not_on_the_call() -> None:
    problems = [problem(f"{number}?") for number in range(4)]
    limits = Sampling(max_tokens=100)
    whole, parts = ScriptedPolicy(lambda prompt, sampling: "same"), ScriptedPolicy(lambda prompt, sampling: "same")
    think(whole, MultiRound("", 3), problems, limits, limits, seed=5)
    for start in (0, 3):
        think(parts, MultiRound("", 3), problems[start : start + 3], limits, limits, seed=5, start=start)
    seeds = [
        [seed for call in policy.calls[round_::3] for seed in call.seeds]
        for policy in (whole, parts)
        for round_ in range(3)
    ]
    assert seeds[:3] == seeds[3:]
