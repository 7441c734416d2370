r"""The tag contract; expected numbers are worked out by hand from design.md, section 2."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motif_lite.nouns import TAGS
from motif_lite.rollout import reply_format
from motif_lite.rollout.reply_format import has_soft_format, has_strict_format, tag_points

STRICT = "<reasoning>\nthought\n</reasoning>\n<answer>\n5\n</answer>\n"
MANY_LINES = "<reasoning>\none\ntwo\n\nthree\n</reasoning>\n<answer>\nfour\nfive\n</answer>\n"
ONE_LINE = "<reasoning>thought</reasoning> <answer>5</answer>"
TAG_SOUP = st.lists(st.one_of(st.sampled_from([*TAGS, "\n", " ", "x"]), st.text(max_size=3))).map("".join)


@pytest.mark.parametrize(
    ("text", "progress"),
    [
        ("<answer>half done</answer>", "half done"),
        ("<reasoning>\nr\n</reasoning>\n<answer>\n  a=2\nb=3 \n</answer>", "a=2\nb=3"),
        ("<answer>first</answer> then <answer>second</answer> and more", "second"),
        ("<answer>cut off in the mid", "cut off in the mid"),
        ("  no tags at all\n", "no tags at all"),
        ("before</answer>after", "before"),
        ("<answer></answer>", ""),
        ("<answer>a</answer>b</answer>", "a"),
        ("<answer><answer>x", "x"),
        ("<reasoning>only thinking</reasoning>", "<reasoning>only thinking</reasoning>"),
        ("", ""),
    ],
)
def test_progress_follows_the_last_answer_tag_up_to_its_end(text: str, progress: str) -> None:
    assert reply_format.progress(text) == progress


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [("ab<answer>cd</answer>ef", 10, 12), ("<answer>x</answer><answer>yz", 26, 28), ("no tags", 7, 7), ("", 0, 0)],
)
def test_the_answer_section_is_the_last_one(text: str, start: int, end: int) -> None:
    assert (reply_format.answer_start(text), reply_format.answer_end(text)) == (start, end)


@pytest.mark.parametrize(
    ("text", "soft", "strict"),
    [
        (STRICT, True, True),
        (STRICT + "one more thing", True, False),
        ("Sure! " + STRICT, False, False),
        (ONE_LINE, True, False),
        ("<reasoning>a</reasoning><answer>b</answer>", True, False),
        ("<reasoning>a</reasoning> then <answer>b</answer>", False, False),
        ("<answer>b</answer><reasoning>a</reasoning>", False, False),
        ("<reasoning>\na\n</reasoning>\n<answer>\nb", False, False),
        ("<reasoning>\na\n</reasoning>\n\n<answer>\nb\n</answer>\n", True, False),
        ("<reasoning>\na\n</reasoning>\n<answer>\nb</answer>\n", True, False),
        (STRICT + STRICT, True, False),
        ("<reasoning>\na <answer> b\n</reasoning>\n<answer>\nb\n</answer>\n", True, False),
        ("", False, False),
    ],
)
def test_soft_and_strict_form(text: str, soft: bool, strict: bool) -> None:
    assert (reply_format.has_soft_format(text), reply_format.has_strict_format(text)) == (soft, strict)


def test_unlike_the_reference_dots_match_newlines_so_many_lines_have_a_form() -> None:
    assert reply_format.has_soft_format(MANY_LINES)
    assert reply_format.has_strict_format(MANY_LINES)


def test_unlike_the_reference_a_missing_final_newline_is_free() -> None:
    assert reply_format.has_strict_format(STRICT.removesuffix("\n"))
    assert reply_format.tag_points(STRICT.removesuffix("\n")) == 0.5


@pytest.mark.parametrize(
    ("text", "points"),
    [
        (STRICT, 0.5),
        (MANY_LINES, 0.5),
        ("", 0.0),
        ("just text", 0.0),
        (ONE_LINE, 0.0),  # no tag stands on a line of its own
        ("<reasoning>\n", 0.125),
        ("<reasoning>\na\n</reasoning>\n", 0.25),
        ("\n<answer>\nb\n</answer>\n", 0.25),
        (STRICT + "x" * 10, 0.5 - 2 * 0.010),
        (STRICT + "x" * 125, 0.25),  # the answer tags have paid all they earned
        (STRICT + "x" * 62 + "\n" + "x" * 62, 0.25),
        (STRICT + "x" * 2000, 0.25),  # and lose no more than that
        (STRICT.replace("\n</answer>", "</answer>") + "x" * 2000, 0.25),  # nor less without the line break
        (STRICT + "x" * 2000 + "</answer>", 0.25),  # nor with a second tag at the end
        (STRICT + "x" * 2000 + "<answer>", 0.25),
        ("<reasoning>\n" + STRICT, 0.375),  # a tag that stands twice earns nothing
        (STRICT.replace("\n</answer>", "</answer>"), 0.375),
        (STRICT.replace("\n<answer>\n", "\n<answer>"), 0.375),
        (STRICT.replace("</reasoning>", ""), 0.375),
    ],
)
def test_each_tag_on_its_own_line_earns_an_eighth_and_trailing_text_costs(text: str, points: float) -> None:
    assert reply_format.tag_points(text) == pytest.approx(points)


@given(st.one_of(st.text(), TAG_SOUP, st.text(st.characters(categories=["Cs", "Cc", "Cf"]))))
def test_any_text_is_read_without_an_error(text: str) -> None:
    assert reply_format.progress(text) in text
    assert 0 <= reply_format.answer_start(text) <= reply_format.answer_end(text) <= len(text)
    assert reply_format.tag_points(text) <= 0.5
    assert reply_format.has_soft_format(text) or not reply_format.has_strict_format(text)


@pytest.mark.parametrize(
    "text",
    [
        "<reasoning>" * 90_000,
        "<reasoning>" + "</reasoning><answer>" * 50_000,
        "<reasoning>\n" + "\n</reasoning>\n<answer>\n" * 45_000,
        "<reasoning></reasoning>" + " " * 1_000_000,
        "<answer>" * 120_000,
    ],
    ids=lambda text: text[:40],
)
def test_a_hostile_megabyte_is_judged_in_under_a_second(text: str) -> None:
    started = time.perf_counter()
    assert not reply_format.has_soft_format(text)
    assert not reply_format.has_strict_format(text)
    reply_format.tag_points(text)
    reply_format.progress(text)
    assert time.perf_counter() - started < 1.0


GOOD = "<reasoning>\nthought\n</reasoning>\n<answer>\n5\n</answer>"


@pytest.mark.parametrize(
    "before",
    [
        "<think>\nfirst\n</think>\n\n", "<think></think>", "\n<think>\n\n</think>\n", "so\n</think>\n\n", "</think>",
        "I must write <reasoning> and <answer>\n5\n</answer> tags.\n</think>\n", "[THINK]so[/THINK]",
        "<thinking>so</thinking>\n", "<think>\n<reasoning>\nno\n</reasoning>\n</think>\n",
    ],
)  # fmt: skip
def test_the_form_is_that_of_what_follows_a_think_block(before: str) -> None:
    assert has_strict_format(before + GOOD)
    assert has_soft_format(before + GOOD)
    assert tag_points(before + GOOD) == tag_points(GOOD) == 0.5


@pytest.mark.parametrize("text", ["<think>" + GOOD, "<think>\nendless", "<think>so</think>", "</think>"])
def test_a_think_block_alone_has_no_form(text: str) -> None:
    assert not has_soft_format(text)
    assert not has_strict_format(text)
    assert tag_points(text) == 0


@pytest.mark.parametrize("text", ["\n" + GOOD, "assistant\n" + GOOD, "x" + GOOD])
def test_without_a_think_block_the_form_is_the_papers(text: str) -> None:
    assert not has_soft_format(text)
    assert not has_strict_format(text)


def test_a_closing_mark_inside_the_form_changes_nothing() -> None:
    text = GOOD.replace("thought", "thought </think> more")
    assert has_strict_format(text)
    assert tag_points(text) == 0.5
