"""Advantages worked out by hand, on trajectories that are written here."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from motif_lite.credits.assignment import Scale, Scheme, TrainedRound, rewards_by_round, trained_rounds
from motif_lite.credits.base import RoundsCredit
from motif_lite.credits.table import CREDITS
from motif_lite.nouns import Opening, Reply, Trajectory, Turn
from motif_lite.recipe.training import LossType, TrainingSection
from motif_lite.rollout.rewards import REWARDS
from tests.fakes import GOOD_FORM, problem

RIGHT, WRONG = GOOD_FORM.format("\\boxed{2}"), GOOD_FORM.format("\\boxed{3}")
NOTE = GOOD_FORM.format("so far")


def path(*texts: str, tokens: Sequence[int] = ()) -> Trajectory:
    lengths = tokens or [10] * len(texts)
    replies = [Reply(text, length, "stop") for text, length in zip(texts, lengths, strict=True)]
    return Trajectory(problem(), tuple(Turn(f"prompt {i}", reply) for i, reply in enumerate(replies, start=1)))


def opening(*futures: Trajectory) -> Opening:
    return Opening(problem(), futures[0].turns[0], futures)


def credited(
    credit: str,
    openings: Sequence[Opening],
    *rewards: str,
    group_size: int | None = None,
    scale: Scale = "none",
    loss_type: LossType = "bnpo",
    apart: bool = False,
    branches: Sequence[int] | None = None,
    trains_truncated: bool = True,
) -> dict[tuple[int, int | None, int], TrainedRound]:
    names = rewards or ("future_accuracy",)
    kind = CREDITS[credit]
    assert isinstance(kind, RoundsCredit)
    scheme = Scheme(
        advantages=kind.advantages,
        weights=dict.fromkeys(names, 1.0),
        apart=apart,
        scale=scale,
        loss_type=loss_type,
        most_tokens=1000,
        trains_truncated=trains_truncated,
    )
    size = group_size or len(openings)
    earned = rewards_by_round(openings, lambda each: {name: REWARDS[name](each) for name in names})
    found = trained_rounds(scheme, openings, size, earned, branches)
    return {(each.opening, each.future, each.index): each for each in found}


def advantages(*arguments: object, **named: object) -> dict[tuple[int, int | None, int], float]:
    return {place: each.advantage for place, each in credited(*arguments, **named).items()}  # type: ignore[arg-type]


CHAINS = [opening(path(NOTE, NOTE, RIGHT)), opening(path(NOTE, NOTE, WRONG)), opening(path(NOTE, NOTE, WRONG)),
          opening(path(NOTE, NOTE, RIGHT))]  # fmt: skip


def test_every_round_of_a_chain_has_the_chains_advantage() -> None:
    # 2, 0, 0, 2 points: the mean is 1
    found = advantages("chain", CHAINS)
    assert found == {
        (number, 0 if index else None, index): value
        for number, value in enumerate([1.0, -1.0, -1.0, 1.0])
        for index in range(3)
    }


def test_a_chains_advantage_is_divided_by_the_deviation_of_its_group() -> None:
    # squared differences 1 each: their sum over 4 - 1 is 4/3
    found = advantages("chain", CHAINS, scale="group")
    assert found[0, None, 0] == found[0, 0, 2] == pytest.approx(1 / ((4 / 3) ** 0.5 + 1e-4))


def test_a_round_of_a_chain_answers_for_its_own_form() -> None:
    """Tag counts 0.5 for good form, 0 without: the second round of the first chain alone is without."""
    formless = [opening(path(NOTE, "so far", RIGHT)), opening(path(NOTE, NOTE, RIGHT))]
    found = advantages("chain", formless, "future_accuracy", "tag_count")
    assert found == {
        (0, None, 0): 0.0, (0, 0, 1): -0.25, (0, 0, 2): 0.0, (1, None, 0): 0.0, (1, 0, 1): 0.25, (1, 0, 2): 0.0,
    }  # fmt: skip


TREE = [
    opening(path(NOTE, NOTE, RIGHT), path(NOTE, NOTE, WRONG)),
    opening(path(NOTE, NOTE, WRONG), path(NOTE, NOTE, WRONG)),
]


def test_in_a_tree_openings_compete_with_openings_and_futures_with_those_of_their_opening() -> None:
    # futures earn 2, 0 and 0, 0; openings so 1 and 0: each less the only other one
    assert advantages("tree", TREE) == {
        (0, None, 0): 1.0, (1, None, 0): -1.0,
        (0, 0, 1): 2.0, (0, 0, 2): 2.0, (0, 1, 1): -2.0, (0, 1, 2): -2.0,
        (1, 0, 1): 0.0, (1, 0, 2): 0.0, (1, 1, 1): 0.0, (1, 1, 2): 0.0,
    }  # fmt: skip


def test_a_tree_has_one_scale_for_openings_and_futures() -> None:
    # of the four futures 2, 0, 0, 0: mean 0.5, squared differences 2.25 + 3 * 0.25 = 3, over 4 - 1 is 1
    found = advantages("tree", TREE, scale="group")
    assert found[0, None, 0] == pytest.approx(1.0 / 1.0001)
    assert found[0, 0, 1] == pytest.approx(2.0 / 1.0001)


def test_a_trees_baselines_are_means_over_the_others() -> None:
    futures = [path(NOTE, NOTE, RIGHT), path(NOTE, NOTE, WRONG), path(NOTE, NOTE, WRONG), path(NOTE, NOTE, RIGHT)]
    found = advantages("tree", [opening(*futures), *[opening(*futures[1:2] * 4)] * 2])
    assert found[0, None, 0] == pytest.approx(1.0)  # 1 less the mean of 0 and 0
    assert found[1, None, 0] == pytest.approx(-0.5)  # 0 less the mean of 1 and 0
    assert found[0, 0, 1] == pytest.approx(2 - 2 / 3)
    assert found[0, 1, 2] == pytest.approx(0 - 4 / 3)


# Futures of the first chain part after round 1, those of the third after round 2; the second is trained in its last.
RESET = [
    opening(path(NOTE, NOTE, RIGHT, tokens=(10, 5, 5)), path(NOTE, NOTE, WRONG, tokens=(10, 6, 6))),
    opening(path(NOTE, NOTE, WRONG, tokens=(7, 7, 20))),
    opening(path(NOTE, NOTE, RIGHT, tokens=(8, 30, 5)), path(NOTE, NOTE, RIGHT, tokens=(8, 30, 9))),
]
PARTED = [1, 3, 2]


def test_of_each_chain_the_round_that_was_drawn_is_trained_with_the_mean_over_its_futures() -> None:
    # the chains are worth 1, 0 and 2 at each of their rounds: the group's mean is 1
    found = advantages("reset", RESET, branches=PARTED)
    assert found == {(0, None, 0): 0.0, (1, None, 2): -1.0, (2, None, 1): 1.0}
    # squares 0, 1 and 1 over 3 - 1 are 1
    scaled = advantages("reset", RESET, branches=PARTED, scale="group")
    assert scaled == {place: pytest.approx(value / 1.0001) for place, value in found.items()}


def test_a_round_is_compared_with_the_same_round_of_the_other_chains() -> None:
    """The second chain's last round alone has no form, where the others' have 0.5: 0 against 1.5 and 2.5."""
    chains = [RESET[0], opening(path(NOTE, NOTE, "\\boxed{3}")), RESET[2]]
    found = advantages("reset", chains, "future_accuracy", "tag_count", branches=PARTED)
    assert found == {(0, None, 0): 0.0, (1, None, 2): pytest.approx(-4 / 3), (2, None, 1): 1.0}


def test_with_all_futures_after_round_1_reset_is_the_papers_credit() -> None:
    # openings are worth 1 and 0: less their mean, over their deviation, as TRL has it
    found = advantages("reset", TREE, branches=[1, 1], scale="group")
    divisor = (0.25 + 0.25) ** 0.5 + 1e-4
    assert found == {(0, None, 0): pytest.approx(0.5 / divisor), (1, None, 0): pytest.approx(-0.5 / divisor)}


def test_with_the_batchs_scale_rounds_differ_from_the_steps_mean_at_their_round() -> None:
    """Groups worth 2, 0 and 0, 0: means 0.5; squares 2.25, 0.25, 0.25 and 0.25 over 4 - 1 are 1."""
    chains = [opening(path(NOTE, RIGHT)), *[opening(path(NOTE, WRONG))] * 3]
    found = advantages("reset", chains, branches=[2, 2, 1, 2], scale="batch", group_size=2)
    assert found == {(0, None, 1): pytest.approx(1 / 1.0001), (1, None, 1): pytest.approx(-1 / 1.0001),
                     (2, None, 0): 0.0, (3, None, 1): 0.0}  # fmt: skip


@pytest.mark.parametrize(
    ("loss_type", "weights"),
    [  # the rounds have 10, 20 and 30 tokens, 60 in all, of at most 1000 each
        ("bnpo", [1.0, 1.0, 1.0]),
        ("cispo", [1.0, 1.0, 1.0]),
        ("grpo", [60 / 3 / 10, 60 / 3 / 20, 60 / 3 / 30]),
        ("dr_grpo", [60 / 3000] * 3),
        ("luspo", [60 / 3] * 3),
    ],
)
def test_a_round_that_is_trained_alone_is_weighed_by_its_own_tokens(loss_type: LossType, weights: list[float]) -> None:
    found = credited("reset", RESET, branches=PARTED, loss_type=loss_type)
    assert [each.weight for each in found.values()] == pytest.approx(weights)


def test_a_chain_that_has_ended_before_its_round_is_not_trained_and_still_counts_in_the_mean() -> None:
    chains = [RESET[0], opening(path(NOTE, RIGHT, tokens=(7, 20))), RESET[2]]
    found = credited("reset", chains, branches=PARTED)
    assert {place: each.advantage for place, each in found.items()} == {
        (0, None, 0): pytest.approx(1 - 5 / 3),
        (1, None, 1): pytest.approx(2 - 5 / 3),
        (2, None, 1): pytest.approx(2 - 5 / 3),
    }
    assert [each.weight > 0 for each in found.values()] == [True, False, True]
    # 40 of 60 tokens are trained, so each weighs 60 / 40 in a mean over all 60
    assert found[0, None, 0].weight == found[2, None, 1].weight == pytest.approx(1.5)


def test_where_all_chains_have_ended_before_their_rounds_nothing_is_trained() -> None:
    chains = [opening(path(NOTE, RIGHT)), opening(path(NOTE, WRONG))]
    for scale in ("none", "group", "batch"):
        found = credited("reset", chains, branches=[3, 3], scale=scale)
        assert {place: each.weight for place, each in found.items()} == {(0, None, 1): 0.0, (1, None, 1): 0.0}


def test_replies_that_were_cut_off_are_compared_and_not_trained() -> None:
    cut = Trajectory(problem(), (CHAINS[1].futures[0].turns[0],
                                 replace(CHAINS[1].futures[0].turns[1], reply=Reply(NOTE, 10, "length")),
                                 CHAINS[1].futures[0].turns[2]))  # fmt: skip
    chains = [CHAINS[0], opening(cut)]
    found = credited("chain", chains, trains_truncated=False)
    assert {place: each.advantage for place, each in found.items()} == advantages("chain", chains)
    # six rounds of ten tokens, of which fifty are trained
    assert {place for place, each in found.items() if not each.weight} == {(1, 0, 1)}
    assert {each.weight for each in found.values() if each.weight} == {60 / 50}


@pytest.mark.parametrize(
    ("loss_type", "divisors"),
    [("dapo", [61, 61]), ("cispo", [61, 61]), ("sapo", [3 * 20, 3 * 40]), ("luspo", [3, 3])],
)
def test_trls_averages_are_known(loss_type: str, divisors: list[float]) -> None:
    """Of rows of 20 and 40 tokens and one of a single token: over all 61, over each row and then rows, over rows."""
    from motif_lite.training.rounds_step import what_trl_divides_by

    assert what_trl_divides_by(loss_type, [20, 40], 1) == divisors


def test_rounds_that_differ_in_their_form_have_one_divisor_for_all_that() -> None:
    """Of second rounds, one of two has form: 2.5 and 0 against 2.5 and 0.5, variances 3.125 and 2."""
    chains = [opening(path(NOTE, NOTE, RIGHT)), opening(path(NOTE, "so far", WRONG))]
    plain = advantages("chain", chains, "future_accuracy", "tag_count")
    scaled = advantages("chain", chains, "future_accuracy", "tag_count", scale="group")
    divisor = ((2 + 3.125 + 2) / 3) ** 0.5 + 1e-4
    assert scaled == {place: pytest.approx(value / divisor) for place, value in plain.items()}
    assert (plain[0, None, 0], plain[0, 0, 1]) == (1.0, 1.25)


def test_rewards_apart_count_by_their_weight_whatever_their_scale() -> None:
    """One chain of four is right, another one alone has no form in any round: both stand out equally."""
    chains = [opening(path(NOTE, NOTE, RIGHT)), *[opening(path(NOTE, NOTE, WRONG))] * 2,
              opening(path("so far", "so far", "\\boxed{3}"))]  # fmt: skip
    found = advantages("chain", chains, "future_accuracy", "tag_count", scale="group", apart=True)
    together = advantages("chain", chains, "future_accuracy", "tag_count", scale="group")
    # Of four, one stands 1.5 deviations apart from its group's mean, and the three others 0.5 on the other side.
    apart = {0: 1.5 + 0.5, 1: -0.5 + 0.5, 3: -0.5 - 1.5}
    ratio = found[0, None, 0] / apart[0]
    for number, value in apart.items():
        assert found[number, None, 0] == pytest.approx(value * ratio, rel=1e-3, abs=1e-3)
    assert abs(together[3, None, 0]) < together[0, None, 0]


def test_rewards_apart_are_scaled_by_the_rounds_that_are_trained() -> None:
    """The first and the third chain; the second has ended before its round, with the largest advantage of all."""
    chains = [RESET[0], opening(path(NOTE, RIGHT, tokens=(7, 20))), opening(path(NOTE, NOTE, WRONG))]
    found = credited("reset", chains, branches=[1, 3, 2], apart=True)
    kept = [each.advantage for each in found.values() if each.weight]
    # worth 1, 2 and 0, so 0 and -1 from the mean: squares 0.25 each over 2 - 1
    assert kept == pytest.approx([0.0, -1 / (0.5**0.5 + 1e-4)])
    single = credited("reset", [chains[1], chains[2]], branches=[3, 2], apart=True).values()
    assert [each.advantage for each in single if each.weight] == [-1.0]


def test_groups_are_judged_apart_and_scaled_together_by_the_batch() -> None:
    groups = [CHAINS[0], CHAINS[1], *[opening(path(NOTE, NOTE, RIGHT))] * 2]
    apart = advantages("chain", groups, group_size=2)
    assert [apart[number, None, 0] for number in range(4)] == [1.0, -1.0, 0.0, 0.0]
    # 2, 0, 2, 2: mean 1.5, squared differences 3 * 0.25 + 2.25 = 3, over 4 - 1 is 1
    together = advantages("chain", groups, group_size=2, scale="batch")
    assert together[0, None, 0] == pytest.approx(1.0 / 1.0001)
    assert together[2, None, 0] == 0.0


def test_a_chain_that_ended_early_is_still_compared_with_and_trains_no_round_that_it_did_not_have() -> None:
    found = advantages("chain", [opening(path(RIGHT)), opening(path(NOTE, NOTE, WRONG))])
    assert found == {(0, None, 0): 1.0, (1, None, 0): -1.0, (1, 0, 1): -1.0, (1, 0, 2): -1.0}


def test_a_group_that_agrees_has_no_signal() -> None:
    for credit in ("chain", "tree"):
        assert set(advantages(credit, [TREE[1], TREE[1]], scale="group").values()) == {0.0}


def of_unequal_lengths(credit: str) -> list[Opening]:
    width = 1 if credit == "chain" else 2
    short = [path(NOTE, NOTE, RIGHT, tokens=(5, 5, 2)), path(NOTE, NOTE, RIGHT, tokens=(5, 3, 4))]
    long = [path(NOTE, NOTE, WRONG, tokens=(90, 200, 1)), path(NOTE, NOTE, WRONG, tokens=(90, 30, 40))]
    ended = [path(RIGHT, tokens=(7,))]
    return [opening(*short[:width]), opening(*long[:width]), opening(*ended)]


@pytest.mark.parametrize("credit", ["chain", "tree"])
def test_with_grpo_every_opening_weighs_alike_however_long_it_is(credit: str) -> None:
    found = credited(credit, of_unequal_lengths(credit), loss_type="grpo")
    weights = [
        sum(each.weight * each.turn.reply.num_tokens for (number, _, _), each in found.items() if number == wanted)
        for wanted in range(3)
    ]
    assert weights == [pytest.approx(weights[0])] * 3
    assert sum(weights) == pytest.approx(sum(each.turn.reply.num_tokens for each in found.values()))


@pytest.mark.parametrize("loss_type", ["bnpo", "dapo", "dr_grpo"])
@pytest.mark.parametrize("credit", ["chain", "tree"])
def test_with_the_other_losses_every_token_of_a_step_has_one_weight_shared_among_futures(
    credit: str, loss_type: LossType
) -> None:
    openings = of_unequal_lengths(credit)
    found = credited(credit, openings, loss_type=loss_type)
    shares = {place: 1 if place[1] is None else 1 / len(openings[place[0]].futures) for place in found}
    weight = found[0, None, 0].weight
    assert {place: each.weight for place, each in found.items()} == {
        place: pytest.approx(weight * share) for place, share in shares.items()
    }
    num_tokens = sum(each.turn.reply.num_tokens for each in found.values())
    whole = sum(each.weight * each.turn.reply.num_tokens for each in found.values())
    if (
        loss_type == "dr_grpo"
    ):  # the loss is a mean over tokens: this makes it a sum over 3 openings of 1000 tokens each
        assert weight == pytest.approx(num_tokens / 3000)
    else:
        assert whole == pytest.approx(num_tokens)


def test_a_round_keeps_the_prompt_that_was_used_in_it() -> None:
    for credit in ("chain", "tree"):
        for (_, _, index), each in credited(credit, TREE[:1] * 2 if credit == "tree" else CHAINS).items():
            assert each.turn.prompt == f"prompt {index + 1}"


def test_the_recipes_documentation_names_every_credit() -> None:
    described = TrainingSection.model_fields["credit"].description or ""
    assert [name for name in CREDITS if f"`{name}`" not in described] == []


def test_nothing_asks_a_credit_for_its_name() -> None:
    modules = (Path(__file__).parents[1] / "motif_lite").rglob("*.py")
    assert [path.name for path in modules if re.search(r"credit (==|!=) ", path.read_text(encoding="utf-8"))] == []


def test_rewards_are_those_of_the_round_itself() -> None:
    broken = replace(CHAINS[0], futures=(path(NOTE, "no form", RIGHT),))
    found = credited("chain", [broken, CHAINS[1]], "future_accuracy", "tag_count")
    assert found[0, 0, 1].rewards == {"future_accuracy": 2.0, "tag_count": 0.0}
    assert found[0, 0, 2].rewards == {"future_accuracy": 2.0, "tag_count": 0.5}
