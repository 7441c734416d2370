r"""Solutions cut into rounds, worked out by hand, and hostile ones."""

import time

import pytest

from motif_lite.grading.answers import boxes
from motif_lite.rollout import cutting, reply_format
from motif_lite.rollout.reply_format import written

CLIPS = (
    "Natalia sold 48/2 = 24 clips in May. So we add both months.\n"
    "\n"
    "Altogether she sold 48+24 = 72 clips! The answer is $\\boxed{72}$."
)


def test_a_solution_of_four_sentences_in_three_rounds() -> None:
    """36, 22, 37 and 19 characters: a third, 38, is nearest to the end of the first, two thirds, 76, to 58 of 95."""
    assert cutting.replies(CLIPS, 3) == (
        written("Natalia sold 48/2 = 24 clips in May.", "Natalia sold 48/2 = 24 clips in May."),
        written("So we add both months.", "Natalia sold 48/2 = 24 clips in May."),
        written("Altogether she sold 48+24 = 72 clips!\nThe answer is $72$.", "\\boxed{72}"),
    )


def test_in_two_rounds_the_progress_has_all_results_and_no_more() -> None:
    assert cutting.replies(CLIPS, 2) == (
        written("Natalia sold 48/2 = 24 clips in May.\nSo we add both months.", "Natalia sold 48/2 = 24 clips in May."),
        written("Altogether she sold 48+24 = 72 clips!\nThe answer is $72$.", "\\boxed{72}"),
    )


def test_in_one_round_it_is_a_whole_reply() -> None:
    [reply] = cutting.replies(CLIPS, 1) or ()
    assert reply == written(
        "Natalia sold 48/2 = 24 clips in May.\nSo we add both months.\nAltogether she sold 48+24 = 72 clips!\n"
        "The answer is $72$.",
        "\\boxed{72}",
    )


def test_a_round_before_the_first_result_passes_on_its_last_step() -> None:
    assert cutting.replies("Let us think. We know it. It is 2.\n\\boxed{2}", 3) == (
        written("Let us think.", "Let us think."),
        written("We know it.", "We know it."),
        written("It is 2.", "\\boxed{2}"),
    )


def test_a_display_is_one_step_with_the_line_that_it_begins_in_and_a_number_ends_no_sentence() -> None:
    display = "\\[\nx = 2. \\\\\ny = 3.\n\\]"
    solution = f"1. Double it:\n{display}\n2) Add: 5. Done. \\[\n\\boxed{{5}}\n\\] And more: 7"
    assert cutting.replies(solution, 3) == (
        written("1. Double it:", "1. Double it:"),
        written(display, f"1. Double it:\n{display}"),
        written("2) Add: 5. Done. \\[\n5\n\\] And more: 7", "\\boxed{5}"),
    )
    assert cutting.replies(solution, 4) is None


def test_what_follows_the_final_answer_and_what_is_thought_before_the_solution_are_left_out() -> None:
    assert cutting.replies(
        "<think>\nHm 9. \\boxed{9}\n</think>\nFirst 1.\nThen 2.\n\\boxed{2}\nI hope 3 helps.", 2
    ) == (
        written("First 1.", "First 1."),
        written("Then 2.", "\\boxed{2}"),
    )


def test_earlier_boxes_are_taken_off_and_the_last_one_is_the_answer() -> None:
    assert cutting.replies("A half is $\\boxed{\\frac{1}{2}}$.\nTwice that is \\boxed{1}, so \\boxed{ 1 }", 2) == (
        written("A half is $\\frac{1}{2}$.", "A half is $\\frac{1}{2}$."),
        written("Twice that is 1, so  1", "\\boxed{ 1 }"),
    )


def test_the_tiny_models_own_form_is_taken_apart() -> None:
    solution = "<reasoning>\n=0\na00\nb44\nc59\n</reasoning>\n<answer>\n\\boxed{9}\n</answer>"
    assert cutting.replies(solution, 2) == (written("=0\na00", "=0\na00"), written("b44\nc59", "\\boxed{9}"))


@pytest.mark.parametrize("num_rounds", [1, 2, 3, 100])
@pytest.mark.parametrize(
    "solution", ["", " \n\n ", "\\boxed{7}", "The answer is 7.", "\\boxed{", "<answer>\\boxed{7}</answer>"]
)
def test_what_has_no_step_or_no_box_is_not_cut(solution: str, num_rounds: int) -> None:
    assert cutting.replies(solution, num_rounds) is None


def test_one_sentence_is_a_solution_for_one_round_alone() -> None:
    assert cutting.replies("Two and two is \\boxed{4}", 1) == (written("Two and two is 4", "\\boxed{4}"),)
    assert cutting.replies("Two and two is \\boxed{4}", 2) is None


HOSTILE = {
    "tags": "One 1. </reasoning> Two 2. <answer>\\boxed{8}</answer> Three 3. <reasoning>\n\\boxed{7}",
    "a tag in pieces around a tag": "One 1.\n<reas<answer>oning> Two 2.\nThree 3. \\boxed{7}",
    "a tag in pieces around a box": "One 1.\n<rea\\boxed{soning>} Two 2.\nThree 3. \\boxed{7}",
    "a tag in the answer": "One 1.\nTwo 2.\nThree 3. \\boxed{</answer>}",
    "a box in pieces around a box": "One 1.\n\\bo\\boxed{xed{5}} Two 2.\nThree 3. \\boxed{7}",
    "a box in pieces around its name": "One 1.\n\\bo\\boxedxed{5} Two 2.\nThree 3. \\boxed{7}",
    "boxes in a box": "One 1.\nTwo 2.\nThree 3. \\boxed{\\boxed{7}}",
    "a display without end": "One 1.\n\\[ Two 2.\nThree 3.\nFour 4.\n\\boxed{7}",
    "more ends than beginnings": "\\] \\end{a} One 1.\n\\] Two 2.\nThree 3. \\boxed{7}",
    "strange characters": "One \x00 1.\u2028Two \ud800 2.\x85Three 3. \\boxed{7}",
    "many dots": "One 1." + ". " * 30_000 + "\nTwo 2.\nThree 3. \\boxed{7}",
    "much space": "One 1." + " " * 100_000 + "\nTwo 2.\nThree 3. \\boxed{7}",
    "many boxes": "\\boxed{1}\n" * 30_000 + "Three 3. \\boxed{7}",
    "many unclosed boxes": "One 1.\n" + "\\boxed{" * 30_000 + " Two 2.\n" + "Three 3. \\boxed{7}",
    "many signs of displays": "One 1. $$ ``` \\[ \\begin{a}" * 20_000 + "\nTwo 2.\n \\boxed{7}",
    "many sentences": "So it is 5. " * 30_000 + "\\boxed{7}",
    "many numbers": "1. 2) " * 30_000 + "\nTwo 2.\n\\boxed{7}",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("num_rounds", [1, 3, 100])
def test_a_hostile_solution_gives_replies_in_the_strict_format_or_none(name: str, num_rounds: int) -> None:
    started = time.process_time()
    replies = cutting.replies(HOSTILE[name], num_rounds)
    assert time.process_time() - started < 5
    if replies is not None:
        assert len(replies) == num_rounds
        assert all(map(reply_format.has_strict_format, replies))
        assert not any(boxes(reply) for reply in replies[:-1])
        assert len(boxes(replies[-1])) == 1


def test_tags_in_a_solution_are_line_breaks() -> None:
    assert cutting.replies(HOSTILE["tags"], 3) == (
        written("One 1.", "One 1."),
        written("Two 2.\n8", "One 1.\nTwo 2.\n8"),
        written("Three 3.", "\\boxed{7}"),
    )
    assert cutting.replies(HOSTILE["a tag in pieces around a box"], 3) is None
    assert cutting.replies(HOSTILE["a box in pieces around a box"], 3) is None


def test_a_huge_solution_is_cut_into_equal_shares() -> None:
    replies = cutting.replies("".join(f"Step {n} gives {n}.\n" for n in range(10_000, 20_000)) + "\\boxed{7}", 4)
    assert replies is not None
    counts = [reply.partition("</reasoning>")[0].count("Step") for reply in replies]
    assert counts == [2500] * 4
    assert replies[2].count("Step") == 2500 + 7500


def test_the_random_shapes_keep_every_step_in_order() -> None:
    for num_steps in range(1, 12):
        for num_rounds in range(1, num_steps + 1):
            steps = [f"{'very ' * (n % 4)}long {n}." for n in range(num_steps)]
            replies = cutting.replies(" ".join(steps) + " \\boxed{3}", num_rounds)
            assert replies is not None
            reasoning = [reply.partition("<reasoning>\n")[2].partition("\n</reasoning>")[0] for reply in replies]
            assert "\n".join(reasoning) == "\n".join(steps)
            assert all(reasoning)
