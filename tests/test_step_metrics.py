"""A step's figures, worked out by hand from scripted rollouts."""

import random
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest

from motif_lite.credits.assignment import TrainedRound
from motif_lite.grading import judge
from motif_lite.grading.answers import grade
from motif_lite.jobs import checking
from motif_lite.nouns import Opening
from motif_lite.recipe.keys import changed
from motif_lite.recipe.schema import Recipe
from motif_lite.rollout import totals
from motif_lite.rollout.rewards import gold_and_replies
from motif_lite.rollout.rollouts import Rollouts
from motif_lite.runs.records import RewardNoise, StepMetrics
from motif_lite.runs.rollout_lines import RolloutLine, RolloutTurn
from motif_lite.tasks import chain_sum
from motif_lite.training import reward_noise, step_metrics
from motif_lite.training.step_metrics import PerformedStep
from tests.fakes import GOOD_FORM, opening, problem, reply, trajectory

RIGHT, WRONG = GOOD_FORM.format("\\boxed{2}"), GOOD_FORM.format("\\boxed{3}")
CHAIN = problem("a0b4c5d3=", "2")


def recipe(*changes: str) -> Recipe:
    return checking.check(Path(__file__).parents[1] / "recipes" / "tiny_cpu.toml", changes)


TWO = recipe("rollout.num_openings=2", "training.micro_batch_size=2", "rewards={future_accuracy=1.0, tag_count=2.0}")


def openings() -> tuple[Opening, ...]:
    cut = reply("no form", num_tokens=32, finish="length")
    return (
        opening(reply(WRONG, num_tokens=10), [reply(WRONG, num_tokens=4), reply(RIGHT, num_tokens=6)], [cut, WRONG]),
        opening(cut, [RIGHT, RIGHT], [RIGHT, WRONG]),
    )


def summarize(rewards: dict[str, list[float]]) -> StepMetrics:
    done = PerformedStep(
        7,
        Rollouts(openings(), num_cut=3),
        rewards,
        seconds={"openings": 2.0, "futures": 4.0, "update": 1.0},
        peak_bytes={"openings": 5},
        planned_bytes={"openings": 6, "futures": 7},
        trainer_logs={"loss": 0.1, "grad_norm": 2.0, "other": 3},
        share_done=0.5,
    )
    return step_metrics.summarize(TWO, done, None)


def test_a_group_that_is_equally_right_and_differs_in_its_form_is_counted() -> None:
    """Of each of its two openings, one of two futures is right."""
    both, form, neither = [1.0, 0.0], [0.5, 0.0], [1.0, 1.0]
    assert summarize({"future_accuracy": neither, "tag_count": form}).groups_on_form_alone == 1.0
    equal = summarize({"future_accuracy": neither, "tag_count": neither})
    assert (equal.groups_on_form_alone, equal.groups_without_signal) == (0.0, 1.0)
    done = PerformedStep(
        7, Rollouts((openings()[0], opening(RIGHT, [RIGHT, RIGHT]))), {"future_accuracy": both, "tag_count": form}
    )
    assert step_metrics.summarize(TWO, done, None).groups_on_form_alone == 0.0


def test_where_all_rounds_are_trained_a_group_is_equally_right_if_its_trajectories_are() -> None:
    def share(*finals: str) -> float | None:
        members = [opening("no form", [WRONG, final]) for final in finals]
        trained = [
            TrainedRound(number, None, 0, each.turn, {"tag_count": 0.0}, 1.0) for number, each in enumerate(members)
        ]
        done = PerformedStep(
            7, Rollouts(tuple(members)), {"future_accuracy": [1.0, 1.0], "tag_count": [0.5, 0.0]}, trained
        )
        return step_metrics.summarize(TWO, done, None).groups_on_form_alone

    assert share(RIGHT, RIGHT) == share(WRONG, WRONG) == 1.0
    assert share(RIGHT, WRONG) == 0.0


def test_a_step_is_summed_up_in_one_line() -> None:
    line = summarize({"future_accuracy": [1.0, 1.0], "tag_count": [0.5, 0.0]})
    assert StepMetrics.model_validate_json(line.model_dump_json()) == line
    assert (line.step, line.reward) == pytest.approx((7, (1.0 + 2 * 0.5 + 1.0) / 2))
    assert line.rewards == {"future_accuracy": 1.0, "tag_count": 0.25}
    assert line.accuracy == 0.5
    assert line.accuracy_by_round == (0.0, 0.5, 0.5)
    assert line.broken_form == 0.5
    assert line.grader_failures == 0
    assert line.cut_off == {"openings": 0.5, "futures": 1 / 8}
    assert line.progress_cut == 3
    assert (line.futures_per_opening, line.distinct_progress) == (2.0, 1.0)
    assert line.tokens == {"openings": 42, "futures": 4 + 6 + 32 + 5 * len(RIGHT)}
    assert line.mean_tokens == {"openings": 21.0, "futures": (42 + 5 * len(RIGHT)) / 8}
    assert line.tokens_per_second == {"openings": 21.0, "futures": (42 + 5 * len(RIGHT)) / 4.0}
    assert line.peak_memory_bytes == {"openings": 5}
    assert line.planned_memory_bytes == {"openings": 6, "futures": 7}
    assert (line.loss, line.grad_norm) == (0.1, 2.0)
    assert line.round_correct is None
    assert line.share_done == 0.5


@pytest.mark.parametrize(
    ("values", "share"), [([1.0, 1.0, 0.0, 2.0], 0.5), ([1.0, 1.0, 2.0, 2.0], 1.0), ([0.0, 1.0, 0.0, 1.0], 0.0)]
)
def test_a_group_whose_rewards_are_all_alike_has_no_signal(values: list[float], share: float) -> None:
    four = Rollouts(openings() * 2)
    line = step_metrics.summarize(TWO, PerformedStep(1, four, {"future_accuracy": values}), None)
    assert line.groups_without_signal == share
    assert line.tokens_per_second == {}


@pytest.mark.parametrize("aggregation", ["sum_then_normalize", "normalize_then_sum"])
def test_a_reward_that_counts_nothing_is_no_signal(aggregation: str) -> None:
    weights = {"future_accuracy": 1.0, "tag_count": 0.0}
    counts = changed(TWO, {"rewards": weights, "training.multi_objective_aggregation": aggregation})
    rewards = {"future_accuracy": [1.0, 1.0, 0.0, 2.0], "tag_count": [0.0, 0.5, 0.5, 0.5]}
    assert totals.have_signal(counts, rewards, ["stop"] * 4) == [False, True]


def test_rewards_whose_normalised_sum_cancels_out_are_no_signal() -> None:
    weights = {"soft_format": 1.0, "strict_format": 1.0}
    two = changed(TWO, {"rewards": weights, "training.multi_objective_aggregation": "normalize_then_sum"})
    rewards = {"soft_format": [0.5, 0.0, 0.5, 0.0], "strict_format": [0.0, 0.5, 0.5, 0.5]}
    assert totals.have_signal(two, rewards, ["stop"] * 4) == [False, True]


@pytest.mark.parametrize(
    ("values", "cut", "has_signal"),
    [
        ([2.0, 0.0, 0.0], "100", True),
        ([2.0, 1.0, 0.0], "101", False),
        ([2.0, 1.0, 0.0], "100", True),
        ([2.0, 1.0, 0.0], "111", False),
    ],
    ids=["others are below the mean", "the other is at the mean", "two others", "no others"],
)
def test_a_group_has_signal_only_by_openings_that_are_trained(values: list[float], cut: str, has_signal: bool) -> None:
    three = changed(TWO, {"rollout.num_openings": 3, "training.mask_truncated_completions": True})
    members = [opening(reply("!", finish="length" if each == "1" else "stop"), [RIGHT]) for each in cut]
    done = PerformedStep(1, Rollouts(tuple(members)), {"future_accuracy": values})
    line = step_metrics.summarize(three, done, None)
    assert line.groups_without_signal == (not has_signal)
    assert (line.trained_tokens != 0) == (cut != "111")
    all_trained = changed(three, {"training.mask_truncated_completions": False})
    assert step_metrics.summarize(all_trained, done, None).groups_without_signal == 0


def test_rewards_are_added_up_with_the_recipes_weights() -> None:
    rewards = {"future_accuracy": [2.0, 0.0], "tag_count": [0.5, 0.25]}
    assert totals.total_rewards(TWO, rewards) == [3.0, 0.5]


def test_a_single_round_has_no_futures_to_count() -> None:
    alone = Rollouts((opening(RIGHT), opening(WRONG)))
    single = changed(TWO, {"rollout.strategy": "single_round"})
    line = step_metrics.summarize(single, PerformedStep(1, alone, {"future_accuracy": [2.0, 0.0]}), None)
    assert line.accuracy_by_round == (0.5,)
    assert line.mean_tokens["futures"] == 0
    assert line.cut_off["futures"] == 0.0
    assert next(step_metrics.lines(single, PerformedStep(1, alone, {}))).interval is None


def test_a_round_counts_as_kept_true_only_if_it_began_true() -> None:
    true = [GOOD_FORM.format(note) for note in ("a=0", "c=9", "\\boxed{2}")]
    paths = [
        trajectory(*true, of=CHAIN),
        trajectory(true[0], "c=8", true[2], of=CHAIN),  # goes wrong in round 2; what follows is not counted
        trajectory("lost", true[1], true[2], of=CHAIN),  # goes wrong in round 1
        trajectory(true[0], true[1], WRONG, of=CHAIN),
    ]
    assert step_metrics.round_correct(
        [Opening(CHAIN, paths[0].turns[0], tuple(paths))], chain_sum.read_progress, 3
    ) == (
        3 / 4,
        2 / 3,
        1 / 2,
    )


def test_openings_count_alike_however_many_futures_each_has() -> None:
    often, once = opening(RIGHT, [RIGHT], [RIGHT], [RIGHT], of=CHAIN), opening("lost", [WRONG], of=CHAIN)
    line = step_metrics.summarize(
        TWO, PerformedStep(1, Rollouts((often, once)), {"tag_count": [0.0, 0.0]}), chain_sum.read_progress
    )
    assert (line.accuracy, line.accuracy_by_round) == (0.5, (0.5, 0.5, 0.5))
    assert line.round_correct is not None
    assert line.round_correct[:2] == pytest.approx((0.5, 1.0))
    assert line.round_correct[2] is None, "there was no third round: every step has as many figures"
    assert line.futures_per_opening == 2.0


def test_shared_futures_count_for_the_value_and_are_written_once() -> None:
    own, others = opening(WRONG, [WRONG]), opening(WRONG, [RIGHT], [RIGHT], [WRONG])
    both = Rollouts((replace(own, shared=others.futures), replace(others, shared=own.futures)))
    lines = list(step_metrics.lines(TWO, PerformedStep(1, both, {})))
    assert [(line.futures_used, line.accuracy) for line in lines] == [(4, 0.5), (4, 0.5)]
    assert [len(line.futures) for line in lines] == [1, 3]
    assert lines[0].interval == pytest.approx([0.15, 0.85], abs=1e-3), "Wilson's of two in four"
    metrics = step_metrics.summarize(TWO, PerformedStep(1, both, {"tag_count": [0.0, 0.0]}), None)
    assert metrics.distinct_progress == 0.5


def test_a_round_that_nobody_began_true_has_no_share() -> None:
    lost = opening("lost", ["lost", "lost"], of=CHAIN)
    assert step_metrics.round_correct([lost], chain_sum.read_progress, 3) == (0.0, None, None)


def test_replies_that_the_grader_could_not_judge_are_counted() -> None:
    tower = "\\boxed{5^{5^{5^{5^5}}}}"
    rollouts = Rollouts(
        (opening(tower, [RIGHT, tower], [RIGHT, RIGHT]), opening(RIGHT, [RIGHT, RIGHT], [RIGHT, WRONG]))
    )
    line = step_metrics.summarize(TWO, PerformedStep(1, rollouts, {"future_accuracy": [1.0, 1.5]}), None)
    assert (line.grader_failures, line.grader_losses, line.grader_retries) == (2, 0, 0)
    assert line.accuracy == 0.5


def test_replies_that_equal_the_answer_but_leave_an_operation_to_do_are_counted_and_score_nothing() -> None:
    undone = GOOD_FORM.format("\\boxed{1+1}")
    rollouts = Rollouts((opening(undone, [RIGHT, undone], [RIGHT, RIGHT]), opening(RIGHT, [RIGHT, WRONG])))
    line = step_metrics.summarize(TWO, PerformedStep(1, rollouts, {"future_accuracy": [1.0, 0.0]}), None)
    assert (line.undone_answers, line.grader_failures, line.accuracy) == (2, 0, 0.25)


def test_verdicts_that_were_lost_are_counted_apart_as_are_comparisons_made_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(judge, "WALL_SECONDS", 0.001)
    monkeypatch.setattr(judge, "MOST_TIMES", 2)
    judged = GOOD_FORM.format("\\boxed{x+2-x}")
    rollouts = Rollouts((opening(judged, [RIGHT, judged], [RIGHT, RIGHT]), opening(RIGHT, [RIGHT, RIGHT])))
    num_retries = grade(gold_and_replies(rollouts.openings))
    done = PerformedStep(1, rollouts, {"future_accuracy": [1.0, 2.0]}, num_retries=num_retries)
    line = step_metrics.summarize(TWO, done, None)
    assert (line.grader_failures, line.grader_losses, line.grader_retries) == (0, 2, 1)
    assert line.accuracy == 0.75


def test_futures_may_end_in_different_rounds_and_part_where_the_step_says() -> None:
    """The first of them goes on for longer than the second."""
    uneven = opening(WRONG, [WRONG, RIGHT], [RIGHT])
    assert [len(future.turns) for future in uneven.futures] == [3, 2]
    done = PerformedStep(7, Rollouts((uneven, uneven)), {"tag_count": [0.0, 0.0]})
    assert [line.branch for line in step_metrics.lines(TWO, done)] == [1, 1]
    assert [line.branch for line in step_metrics.lines(TWO, replace(done, branches=[3, 2]))] == [3, 2]


def test_rewards_by_round_stand_at_their_round_and_leave_out_what_was_not_trained() -> None:
    first, second = openings()
    trained = [
        TrainedRound(0, None, 0, first.turn, {"tag_count": 0.25}, 1.0, weight=0.0),
        TrainedRound(0, None, 2, first.futures[0].turns[2], {"tag_count": 0.5}, 1.0),
        TrainedRound(1, None, 2, second.futures[0].turns[2], {"tag_count": 1.0}, 1.0),
    ]
    done = PerformedStep(7, Rollouts((first, second)), {"tag_count": [0.5, 1.0]}, trained)
    line = step_metrics.summarize(TWO, done, None)
    assert line.rewards_by_round == {"tag_count": (None, None, 0.75)}
    assert StepMetrics.model_validate_json(line.model_dump_json()) == line


def test_rollouts_are_written_with_prompts_replies_rewards_and_verdicts() -> None:
    rewards = {"future_accuracy": [1.0, 0.5], "tag_count": [0.5, 0.0]}
    lines = list(step_metrics.lines(TWO, PerformedStep(7, Rollouts(openings()), rewards)))
    assert [RolloutLine.model_validate_json(line.model_dump_json()) for line in lines] == lines
    assert [line.rewards for line in lines] == [
        {"future_accuracy": 1.0, "tag_count": 0.5},
        {"future_accuracy": 0.5, "tag_count": 0.0},
    ]
    assert lines[0].opening == RolloutTurn(prompt="prompt", reply=WRONG, tokens=10, finish="stop")
    assert [future.correct for future in lines[0].futures] == [True, False]
    assert [line.futures_used for line in lines] == [2, 2]
    assert [line.accuracy for line in lines] == [0.5, 0.5]
    assert lines[0].interval == pytest.approx([0.0945, 0.9055], abs=1e-4), "Wilson's of one in two"
    assert [turn.finish for turn in lines[0].futures[1].rounds] == ["length", "stop"]
    assert (lines[0].step, lines[0].problem, lines[0].gold) == (7, "test/1", "2")


def test_answers_kept_are_the_right_ones_that_a_later_round_does_not_give_up() -> None:
    line = summarize({"tag_count": [0.0, 0.0]})
    assert line.answers_kept == (None, None), "no first round has the answer"
    keeps = Rollouts((opening(RIGHT, [RIGHT, WRONG], [WRONG, RIGHT]), opening(RIGHT, [RIGHT, RIGHT], [RIGHT, RIGHT])))
    line = step_metrics.summarize(TWO, PerformedStep(1, keeps, {"tag_count": [0.0, 0.0]}), None)
    assert line.answers_kept == pytest.approx((3 / 4, 2 / 3))


def test_the_share_of_clipped_replies_is_one_of_those_that_are_trained() -> None:
    """TRL takes it of all rows: here there are six, of which two are rounds that two early ends left."""
    chain = recipe(
        'training.credit="chain"', "rollout.num_openings=2", "rollout.num_futures=1", "training.problems_per_step=1",
        "training.micro_batch_size=2", 'training.importance_sampling_level="sequence"', "training.num_iterations=2",
        'training.loss_type="grpo"',
    )  # fmt: skip
    members = (opening(WRONG, [RIGHT]), opening(WRONG, [RIGHT]))
    rounds = [
        TrainedRound(number, None, index, turn, {}, 1.0)
        for number, each in enumerate(members)
        for index, turn in enumerate(each.futures[0].turns)
    ]
    done = PerformedStep(
        1, Rollouts(members), {"future_accuracy": [2.0, 0.0]}, trained=rounds,
        trainer_logs={"clip_ratio/region_mean": 1 / 3},
    )  # fmt: skip
    assert len(rounds) == 4
    assert step_metrics.summarize(chain, done, None).clip_ratio == pytest.approx(0.5)
    of_tokens = changed(chain, {"training.importance_sampling_level": "token"})
    assert step_metrics.summarize(of_tokens, done, None).clip_ratio == pytest.approx(1 / 3)


def test_with_reset_a_chain_that_has_no_futures_left_to_sample_has_no_noise() -> None:
    """Scores 2 and 0 of the first chain, 0 of the second, whose round was its last one."""
    chains = [opening(WRONG, [WRONG, RIGHT], [WRONG, WRONG]), opening(WRONG, [WRONG, WRONG])]
    assert reward_noise.reward_noise(chains, 2) is None
    assert reward_noise.reward_noise(chains, 2, resets=True) == RewardNoise(between_openings=0.5, sampling=1 / 2)
    assert reward_noise.reward_noise(chains[1:] * 2, 2, resets=True) is None, "with one future of each"


def test_reward_noise_sets_the_spread_of_the_futures_beside_that_of_the_openings() -> None:
    sure, unsure = opening(WRONG, [WRONG], [WRONG]), opening(WRONG, [RIGHT], [WRONG])
    noise = reward_noise.reward_noise([sure, unsure, sure, sure], 2)
    # scores 0, 0 against 2, 0, whose mean is 1 and whose variance is 2, and a group of no spread at all
    assert noise == RewardNoise(between_openings=0.5 / 2, sampling=(0 + 2 / 2) / 2 / 2)


def test_openings_that_share_their_futures_differ_by_no_noise() -> None:
    first, second = opening(WRONG, [RIGHT], [WRONG]), opening(WRONG, [RIGHT], [RIGHT])
    shared = [replace(first, shared=second.futures), replace(second, shared=first.futures)]
    other = opening(WRONG, [RIGHT], [WRONG])
    assert reward_noise.reward_noise(shared, 2) == RewardNoise(between_openings=0.0, sampling=0.0)
    noise = reward_noise.reward_noise([*shared, other], 3)
    # means 1.5, 1.5 and 1; variances 1 of four scores for two openings, 2 of two for one
    assert noise is not None
    assert (noise.between_openings, noise.sampling) == pytest.approx((1 / 12, (1 / 4 * 2 + 2 / 2 * 2) / 6))


def test_one_future_of_each_shows_no_noise() -> None:
    assert reward_noise.reward_noise([opening(WRONG, [RIGHT]), opening(WRONG, [WRONG])], 2) is None
    assert reward_noise.reward_noise([opening(WRONG), opening(RIGHT)], 2) is None


def test_an_opening_that_has_ended_has_no_noise() -> None:
    """Right for sure, beside one whose futures earn 2 and 0: their means 2 and 1 differ by a variance of 0.5."""
    ended, sampled = opening(RIGHT), opening(WRONG, [RIGHT], [WRONG])
    found = reward_noise.reward_noise([ended, sampled], 2)
    assert found == RewardNoise(between_openings=0.5, sampling=0.5)


def test_groups_in_which_an_opening_has_one_future_are_left_out() -> None:
    whole = [opening(WRONG, [RIGHT], [WRONG]), opening(WRONG, [WRONG], [WRONG])]
    lacking = [opening(WRONG, [RIGHT]), opening(WRONG, [WRONG], [WRONG])]
    assert reward_noise.reward_noise([*lacking, *whole], 2) == reward_noise.reward_noise(whole, 2)


def test_openings_that_are_all_alike_differ_by_the_noise_alone_and_it_is_estimated_without_bias() -> None:
    chance = random.Random(5)
    noises = [
        reward_noise.reward_noise(
            [opening(WRONG, *([RIGHT if chance.random() < 0.7 else WRONG] for _ in range(4))) for _ in range(8)], 8
        )
        for _ in range(300)
    ]
    truth = 4 * 0.7 * 0.3 / 4  # of the mean of four scores that are 2 or 0
    for part in ("between_openings", "sampling"):
        assert fmean(getattr(noise, part) for noise in noises if noise) == pytest.approx(truth, rel=0.1)
