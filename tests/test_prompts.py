"""What the policy is told; the user messages follow the reference code to the letter (design.md, section 2)."""

import pytest

from motif_lite.rollout import prompts


@pytest.mark.parametrize(
    ("round_number", "num_rounds", "notice"),
    [
        (1, 3, ' Progress in round 1: "x=2"'),
        (2, 3, ' Progress in round 2: "x=2" Current round is the final (third) round. Provide a final answer.'),
        (1, 2, ' Progress in round 1: "x=2" Current round is the final (second) round. Provide a final answer.'),
        (2, 4, ' Progress in round 2: "x=2"'),
        (3, 4, ' Progress in round 3: "x=2" Current round is the final (fourth) round. Provide a final answer.'),
        (9, 11, ' Progress in round 9: "x=2"'),
        (10, 11, ' Progress in round 10: "x=2" Current round is the final (11th) round. Provide a final answer.'),
    ],
)
def test_the_notice_of_each_round_is_the_references_text(round_number: int, num_rounds: int, notice: str) -> None:
    assert prompts.progress_notice(round_number, num_rounds, "x=2") == notice


def test_a_recipe_may_end_the_last_notice_in_its_own_words() -> None:
    own = "End with:\n<answer>\n\\boxed{...}\n</answer>"
    assert prompts.progress_notice(1, 3, "x=2", own) == ' Progress in round 1: "x=2"'
    assert prompts.progress_notice(2, 3, "x=2", own).endswith(f"is the final (third) round. {own}")
    assert prompts.progress_notice(2, 3, "x=2", "").endswith("is the final (third) round.")


@pytest.mark.parametrize("num_rounds", [2, 3, 4, 11])
def test_only_the_last_round_is_announced_as_final(num_rounds: int) -> None:
    notices = [prompts.progress_notice(done, num_rounds, "") for done in range(1, num_rounds)]
    assert ["final" in notice for notice in notices] == [False] * (num_rounds - 2) + [True]


@pytest.mark.parametrize(
    ("number", "word"),
    [(1, "first"), (3, "third"), (10, "tenth"), (11, "11th"), (12, "12th"), (13, "13th"), (20, "20th"), (21, "21st"),
     (22, "22nd"), (23, "23rd"), (100, "100th"), (101, "101st"), (111, "111th"), (112, "112th"), (121, "121st")],
)  # fmt: skip
def test_ordinals_are_english(number: int, word: str) -> None:
    assert prompts.ordinal(number) == word


@pytest.mark.parametrize("num_rounds", [2, 3, 4, 11])
def test_the_system_prompt_names_the_rounds_the_tags_and_the_box(num_rounds: int) -> None:
    text = prompts.system_prompt(num_rounds)
    assert f"over {num_rounds} rounds" in text
    assert f"the final ({prompts.ordinal(num_rounds)}) one" in text
    for mark in ("<reasoning>", "</reasoning>", "<answer>", "</answer>", "\\boxed{}"):
        assert mark in text


def test_the_system_prompt_of_a_single_round_speaks_of_no_rounds() -> None:
    text = prompts.system_prompt(1)
    assert "round" not in text
    assert "progress" not in text
    assert "\\boxed{}" in text


def test_a_conversation_has_a_system_message_only_if_there_is_a_system_prompt() -> None:
    assert prompts.conversation("be careful", "1+1?") == [
        {"role": "system", "content": "be careful"},
        {"role": "user", "content": "1+1?"},
    ]
    assert prompts.conversation("", "1+1?") == [{"role": "user", "content": "1+1?"}]
