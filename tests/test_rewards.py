"""Rewards with the same replies as the reference give the same numbers (design.md, section 2), but for its defects."""

import pytest

from motif_lite.nouns import Opening
from motif_lite.rollout import rewards
from tests.fakes import GOOD_FORM, opening, problem, trajectory

INSIDE = GOOD_FORM.format("\\boxed{2}")
OUTSIDE = "<answer>done</answer> so \\boxed{2}"
WRONG = GOOD_FORM.format("\\boxed{3}")


@pytest.mark.parametrize(
    ("final", "score"),
    [
        (INSIDE, 2.0),
        (OUTSIDE, 1.0),
        ("\\boxed{2}", 1.0),  # no tags: elsewhere in the reply
        ("\\boxed{2} <answer>see above</answer>", 1.0),
        ("<answer>\\boxed{2}", 2.0),  # cut off inside the section
        ("<answer>\\boxed{2}</answer> <answer>done</answer>", 1.0),  # the last section counts
        ("<answer>\\boxed{2}</answer> no, \\boxed{3}", 0.0),  # the last box counts
        ("<answer>\\boxed{3}</answer> no, \\boxed{2}", 1.0),
        (WRONG, 0.0),
        ("", 0.0),
    ],
)
def test_a_right_box_scores_2_inside_the_answer_1_elsewhere_and_0_if_wrong(final: str, score: float) -> None:
    assert rewards.answer_score("2", final) == score


@pytest.mark.parametrize("final", ["<answer>2</answer>", "the answer is 2", "<answer>1 2 3 4 5</answer>", "2"])
def test_unlike_the_reference_a_number_outside_a_box_earns_nothing(final: str) -> None:
    assert rewards.answer_score("2", final) == 0.0


@pytest.mark.parametrize(
    ("gold", "boxed", "score"),
    [("\\frac{1}{2}", "\\dfrac12", 2.0), ("025", "25", 2.0), ("2", "12", 0.0), ("2", "2.5", 0.0), ("2", "200", 0.0)],
)
def test_unlike_the_reference_answers_are_graded_by_equivalence(gold: str, boxed: str, score: float) -> None:
    assert rewards.answer_score(gold, GOOD_FORM.format(f"\\boxed{{{boxed}}}")) == score


@pytest.mark.parametrize("num_rounds", [2, 4, 11])
@pytest.mark.parametrize(
    ("finals", "mean"),
    [
        ([INSIDE] * 4, 2.0),
        ([INSIDE, INSIDE, OUTSIDE, WRONG], 1.25),
        ([OUTSIDE, WRONG, WRONG, WRONG], 0.25),
        ([INSIDE, WRONG, WRONG], 2 / 3),
        ([WRONG] * 4, 0.0),
    ],
)
def test_future_accuracy_is_the_mean_over_the_final_replies(finals: list[str], mean: float, num_rounds: int) -> None:
    between = [WRONG] * (num_rounds - 2)
    done = opening("first", *[[*between, final] for final in finals])
    assert rewards.future_accuracy(done) == pytest.approx(mean)


def test_earlier_rounds_do_not_count_for_the_accuracy() -> None:
    assert rewards.future_accuracy(opening(INSIDE, [INSIDE, WRONG])) == 0.0


def test_in_a_single_round_the_opening_is_its_own_future() -> None:
    assert rewards.future_accuracy(opening(INSIDE)) == 2.0


@pytest.mark.parametrize(
    ("first", "tag_count", "soft", "strict"),
    [
        (GOOD_FORM.format("x"), 0.5, 0.5, 0.5),
        (GOOD_FORM.format("x\ny") + "\n", 0.5, 0.5, 0.5),
        (GOOD_FORM.format("x") + "\nmore text.", 0.5 - 2 * 0.010, 0.5, 0.0),
        ("<reasoning>a</reasoning><answer>b</answer>", 0.0, 0.5, 0.0),
        ("no form", 0.0, 0.0, 0.0),
    ],
)
def test_form_rewards_look_at_the_opening_alone(first: str, tag_count: float, soft: float, strict: float) -> None:
    done = opening(first, ["no form"], ["none either"])
    assert rewards.tag_count(done) == pytest.approx(tag_count)
    assert rewards.soft_format(done) == soft
    assert rewards.strict_format(done) == strict


def test_gated_accuracy_is_earned_by_replies_in_form_alone() -> None:
    assert rewards.gated_accuracy(opening(GOOD_FORM.format("x"), [INSIDE], [WRONG])) == 1.0
    assert rewards.gated_accuracy(opening("no form", [INSIDE], [WRONG])) == 0.0


def test_every_reward_of_the_table_gives_a_number_for_any_opening() -> None:
    hostile = opening("\ud800<answer>" * 50, ["\x00\\boxed{"])
    assert all(isinstance(reward(hostile), float) for reward in rewards.REWARDS.values())
    assert list(rewards.REWARDS) == [
        "future_accuracy", "tag_count", "soft_format", "strict_format", "gated_accuracy", "random_accuracy",
    ]  # fmt: skip


def test_a_trajectory_is_solved_by_the_box_of_its_final_reply_inside_the_tags_or_not() -> None:
    gold = problem(gold="2")
    assert rewards.is_solved(trajectory(WRONG, INSIDE, of=gold))
    assert rewards.is_solved(trajectory(WRONG, OUTSIDE, of=gold))
    assert not rewards.is_solved(trajectory(INSIDE, WRONG, of=gold))


def test_a_coin_in_place_of_the_grader_is_fair_steady_and_the_same_for_all_rounds() -> None:
    """Of 2000 right answers about half score; the mean of so many coins has a deviation of 0.022 points."""
    finals = [f"{INSIDE} {number}" for number in range(2000)]
    scores = [rewards.random_accuracy(opening("note", [final])) for final in finals]
    assert set(scores) == {0.0, 2.0}
    assert sum(scores) / len(scores) == pytest.approx(1.0, abs=0.1)
    assert [rewards.random_accuracy(opening("note", [final])) for final in finals] == scores
    path = trajectory("note", "more", INSIDE)
    assert len({rewards.random_accuracy(Opening(path.problem, turn, (path,))) for turn in path.turns}) == 1
    both = opening("note", [finals[0]], [finals[1]], [finals[2]])
    assert rewards.random_accuracy(both) == pytest.approx(sum(scores[:3]) / 3)
