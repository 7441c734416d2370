"""The tiny task: its questions, its perfect rounds, and what counts as true progress."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motif_lite.grading.answers import is_correct
from motif_lite.rollout import reply_format
from motif_lite.tasks import chain_sum

CHAINS = st.lists(st.integers(0, 9), min_size=1, max_size=26)


def test_a_question_labels_its_digits() -> None:
    assert chain_sum.question([0, 4, 5, 3]) == "a0b4c5d3="
    assert chain_sum.digits_of("a0b4c5d3=") == [0, 4, 5, 3]


def test_problems_are_the_same_for_the_same_seed_and_split_only() -> None:
    drawn = chain_sum.problems(50, seed=1, split="train")
    assert drawn == chain_sum.problems(50, seed=1, split="train")
    questions = {problem.question for problem in drawn}
    assert not questions & {problem.question for problem in chain_sum.problems(50, seed=1, split="test")}
    assert not questions & {problem.question for problem in chain_sum.problems(50, seed=2, split="train")}
    assert drawn[:10] == chain_sum.problems(10, seed=1, split="train")
    assert len({problem.id for problem in drawn}) == 50


def test_problems_of_different_seeds_have_different_ids_or_comparisons_would_pair_them() -> None:
    ids = [{problem.id for problem in chain_sum.problems(50, seed=seed, split="test")} for seed in (1, 2)]
    assert not ids[0] & ids[1]


def test_answers_are_sums_modulo_ten_of_at_least_ten_digits() -> None:
    for problem in chain_sum.problems(200, seed=3, split="train"):
        digits = chain_sum.digits_of(problem.question)
        assert 10 <= len(digits) <= 26
        assert problem.gold == str(sum(digits) % 10)


@given(CHAINS)
def test_a_question_can_be_read_back(digits: list[int]) -> None:
    assert chain_sum.digits_of(chain_sum.question(digits)) == digits


@given(CHAINS, st.data())
def test_a_perfect_round_has_the_strict_form_and_true_progress(digits: list[int], data: st.DataObject) -> None:
    stop = data.draw(st.integers(1, len(digits)))
    start = data.draw(st.integers(0, stop - 1))
    text = chain_sum.reply(digits, start, stop)
    assert reply_format.has_strict_format(text)
    if stop == len(digits):
        assert is_correct(str(sum(digits) % 10), text)
    else:
        assert chain_sum.read_progress(chain_sum.question(digits), reply_format.progress(text)) == stop


def test_the_lines_of_a_round_are_label_digit_and_running_sum() -> None:
    text = chain_sum.reply([0, 4, 5, 3], 1, 3)
    assert "\nb44\nc59\n</reasoning>\n<answer>\nc=9\n</answer>" in text
    assert "a00" not in text


@pytest.mark.parametrize(
    ("progress", "steps"),
    [("a=0", 1), ("d=2", 4), (" d=2\n", 4), ("d=3", None), ("e=2", None), ("d2", None), ("", None), ("D=2", None),
     ("d=\uff12", None), ("=d2", None), ("dd=2", None), ("\x00=2", None), ("\ud800=2", None), ("d=2d=2", None)],
)  # fmt: skip
def test_progress_is_true_only_if_label_and_sum_agree_with_the_question(progress: str, steps: int | None) -> None:
    assert chain_sum.read_progress("a0b4c5d3=", progress) == steps


@given(st.text())
def test_any_progress_note_is_read_without_an_error(progress: str) -> None:
    assert chain_sum.read_progress("a0b4c5d3=", progress) in (None, 1, 2, 3, 4)
