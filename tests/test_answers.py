"""The one judge: every gold answer passes its own box, and nothing that is not the answer does."""

import json
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motif_lite.grading import judge as judging
from motif_lite.grading.answers import boxes, equivalent, grade, is_beyond_judging, is_correct, is_lost, last_boxed
from motif_lite.recipe.data import SourceSection
from motif_lite.tasks import sources
from tests import processor_time

DATA = Path(__file__).parents[2] / "shared" / "data"
GOLD_FILES = ("gsm8k/train.jsonl", "gsm8k/test.jsonl", "math500/test.jsonl", "aime24/test.jsonl")


def golds(name: str) -> list[str]:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not here")
    answers = [json.loads(line)["answer"] for line in path.read_text(encoding="utf-8").splitlines()]
    return [answer.rpartition("####")[2].strip() for answer in answers]


def in_thread(work: Callable[[], bool]) -> bool:
    done: list[bool] = []
    thread = threading.Thread(target=lambda: done.append(work()))
    thread.start()
    thread.join()
    return done[0]


# ---------------------------------------------------------------------------------------------- real gold answers

FROM_THE_QUESTION = {
    # equal values, which public graders accept: a fraction for a decimal, a surd that is not in lowest terms
    (r"11\sqrt2", r"\sqrt{242}"), ("0.15", r"\frac{3}{20}"), (r"\frac{\sqrt{3}}{3}", r"\frac{3}{\sqrt{27}}"),
    (r"\frac{1}{2}", "0.5"), ("4.5", r"\frac{9}{2}"), (".35625", r"\frac{57}{160}"), ("2", "2.00"), ("6", "6.00"),
    # the gold answer is an expression: any that is equivalent to it counts
    ("2k+2", "(-k + 4) + (-2 + 3k)"), ("(a+5)(b+2)", "ab+5b+2a+10"), ("15x - 80", "19x + 1 - 4x - 81."),
    ("6r^2-4r-24", "4(3r^3+5r-6)-6(2r^3-r^2+4r)"), ("5r^5", r"\frac{(10r^3)(4r^6)}{8r^4}"),
    # an ordinal, and equations by their right sides, as answers to "what is a + b + c + d?" are written
    ("12", r"12^{\mathrm{th}}"), ("0", "a + b + c + d = 0."), ("1", r"\omega^3 = 1."),
}  # fmt: skip
"""What passes on MATH-500 and the test set of GSM8K although it was copied from the question and is not the gold answer
as it is written: (gold answer, copied text)."""


def test_a_text_of_the_question_passes_only_where_it_is_the_answer() -> None:
    """Every formula and number of a question, boxed: a policy could learn to copy what it need not work out."""
    passing = set()
    for name in ("math500/test.jsonl", "gsm8k/test.jsonl"):
        if not (DATA / name).exists():
            pytest.skip(f"{DATA / name} is not here")
        problems = sources.load(SourceSection(source=str(DATA / name)), role="test", seed=1)
        pairs = [(each.gold, text) for each in problems for text in sorted(set(QUOTED.findall(each.question)))]
        pairs = [(gold, text.strip("$")) for gold, text in pairs]
        grade([(gold, f"\\boxed{{{text}}}") for gold, text in pairs])
        passing |= {pair for pair in pairs if is_correct(pair[0], f"\\boxed{{{pair[1]}}}")}
    assert {(gold, text) for gold, text in passing if as_written(gold) != as_written(text)} == FROM_THE_QUESTION
    assert len(passing) > 40, "most of what passes is the gold answer"


QUOTED = re.compile(r"\$[^$]+\$|-?\d[\d,]*\.?\d*")


def as_written(text: str) -> str:
    """Without what does not change an answer's look: spaces, an end of sentence, commas of thousands."""
    return re.sub(r"[\s,$.]+$|\s|,(?=\d{3})", "", text.replace("\\dfrac", "\\frac").replace("\\!", ""))


@pytest.mark.parametrize(("name", "number"), zip(GOLD_FILES, (7473, 1319, 500, 30), strict=True))
def test_every_gold_answer_passes_when_it_is_boxed(name: str, number: int) -> None:
    answers = golds(name)
    assert len(answers) == number
    assert [gold for gold in answers if not is_correct(gold, f"So it is \\boxed{{{gold}}}.")] == []


@pytest.mark.parametrize("name", GOLD_FILES)
def test_a_gold_answer_plus_one_never_passes(name: str) -> None:
    accepted = []
    for gold in dict.fromkeys(golds(name)):
        digits = gold.replace(",", "")
        wrong = str(int(digits) + 1) if digits.lstrip("-").isdigit() else f"{gold} + 1"
        if is_correct(gold, f"\\boxed{{{wrong}}}"):
            accepted.append((gold, wrong))
    assert accepted == []


@pytest.mark.parametrize("name", GOLD_FILES[1:])
def test_a_gold_answer_outside_a_box_never_passes(name: str) -> None:
    assert [gold for gold in golds(name) if is_correct(gold, f"<answer>{gold}</answer> ${gold}$ #### {gold}")] == []


@pytest.mark.parametrize("name", GOLD_FILES[1:])
def test_a_right_box_before_a_wrong_one_never_passes(name: str) -> None:
    replies = [(gold, f"\\boxed{{{gold}}} or rather \\boxed{{-987654321}}") for gold in golds(name)[:100]]
    assert [gold for gold, reply in replies if is_correct(gold, reply)] == []


# ------------------------------------------------------------------------------------------------------ equivalence

SAME = [
    ("42", "42"), ("42", " 42 "), ("42", "$42$"), ("42", "42."), ("42", "042"), ("42", "42.0"), ("42", "+42"),
    ("025", "25"), ("25", "025"), ("1,234", "1234"), ("1234", "1,234"), ("1234567", "1,234,567"), ("1234", "1{,}234"),
    ("10000", "10{,}000"), ("1000", "1{,}000"), ("1000", "1\\!000"), ("18", "\\$18"), ("18", "18\\text{ dollars}"),
    ("-3", "\u22123"), ("0.5", "\\frac{1}{2}"), ("\\frac{1}{2}", "\\dfrac12"), ("\\frac{1}{2}", "\\tfrac{1}{2}"),
    ("\\frac{1}{2}", "0.50"), ("\\frac{1}{2}", "1/2"), ("\\frac{1}{2}", "\\frac{2}{4}"),
    ("-\\frac{1}{2}", "\\frac{-1}{2}"), ("2\\sqrt{3}", "\\sqrt{12}"), ("3\\sqrt{13}", "3 \\sqrt {13}"),
    ("\\sqrt{2}", "2^{1/2}"), ("\\frac{\\pi}{2}", "\\pi/2"),
    ("\\left( 3, \\frac{\\pi}{2} \\right)", "(3,\\frac{\\pi}{2})"), ("(0,1)", "(0, 1)"),
    ("[0,\\infty)", "[0, \\infty)"), ("\\{1,2\\}", "\\{2,1\\}"), ("90^\\circ", "90"), ("x^2+2x+1", "(x+1)^2"),
    ("p - q", "-q+p"), ("6 - 5i", "6-5i"), ("\\text{Evelyn}", "Evelyn"), ("\\text{Evelyn}", "\\textbf{evelyn}"),
    ("\\text{(C)}", "C"), ("\\text{even}", "\\mathrm{even}"), ("2516_8", "2516_8"),
    ("3", "x=3"), ("3", "\\frac{6}{2}=3"), ("3", "x=6/2=3"), ("3", "f(2)=3"), ("1,2", "x=1, x=2"), ("(3,4)", "x=3,y=4"),
    ("y=2x+1", "2x+1=y"), ("x^2+1", "f(x)=x^2+1"), ("6", "\\binom{4}{2}=6"), ("\\sqrt{2}", "x=\\sqrt{2}"),
    ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "\\begin{pmatrix}1\\\\2\\end{pmatrix}"),
]  # fmt: skip

DIFFERENT = [
    ("42", "43"), ("42", "-42"), ("42", "420"), ("42", "4.2"), ("42", "4 2"), ("42", "42, 43"), ("42", "41, 42, 43"),
    ("42", "42 \\text{ or } 43"), ("42", "\\{42, 43\\}"), ("42", "[41, 43]"), ("42", "41 < 42 < 43"), ("42", "42 43"),
    ("42", "\\pm 42"), ("42", "42!"), ("42", ""), ("42", "  "), ("42", "x"), ("42", "no"), ("42", "42\\neq 43"),
    ("1,234", "1.234"), ("1234", "1,23,4"), ("0.5", "0.05"), ("0.5", "5"), ("\\frac{1}{2}", "\\frac{2}{1}"),
    ("\\frac{1}{2}", "1, 2"), ("\\frac{1}{3}", "0.33"), ("2\\sqrt{3}", "3\\sqrt{2}"), ("(0,1)", "(1,0)"),
    ("(0,1)", "[0,1]"), ("\\{1,2\\}", "\\{1,2,3\\}"), ("x^2+1", "x^2-1"), ("\\text{Evelyn}", "Evelyn or Briana"),
    ("\\text{even}", "neve"), ("\\text{(C)}", "(D)"), ("\\text{(C)}", "A B C D"), ("6 - 5i", "6 + 5i"),
    ("2516_8", "2516_7"), ("34", "3\\quad 4"), ("14", "14_{15}"), ("2516_8", "2516"),
    ("2516_8", "x=2516"), ("3", "4=3"), ("3", "3=4"), ("3", "x=4=3"), ("3", "4=x=3"), ("3", "4==3"), ("3", "4!=3"),
    ("\\sqrt{2}", "\\sqrt{3}=\\sqrt{2}"), ("1,2", "5=1,7=2"), ("\\frac{1}{2}", "3=\\frac{1}{2}"), ("3", "2x=4=3"),
    ("\\pi", "3.14"), ("3", "3 \\\\ 4"), ("3", "3; 4"),
]  # fmt: skip


@pytest.mark.parametrize(("gold", "answer"), SAME)
def test_answers_that_mean_the_same_pass(gold: str, answer: str) -> None:
    assert equivalent(gold, answer)
    assert is_correct(gold, f"<answer>\\boxed{{{answer}}}</answer>")


@pytest.mark.parametrize(("gold", "answer"), DIFFERENT)
def test_answers_that_mean_something_else_fail(gold: str, answer: str) -> None:
    assert not equivalent(gold, answer)


@pytest.mark.parametrize(
    "reply",
    [
        "The answer is 42.", "42", "<answer>42</answer>", "$42$", "#### 42", "boxed{42}", "\\fbox{42}", "\\boxed 42",
        "\\boxed{}", "\\boxed{", "\\boxed{42", "40 41 42 43", "\\boxed{42} \\boxed{43}", "\\boxed{42} so \\boxed{}",
        "\\boxed{40, 41, 42, 43}", "\\boxed{41 \\boxed{42}}", "\\\\boxed{43} 42", "", "\x00", "\ud800",
    ],
)  # fmt: skip
def test_a_reply_without_42_alone_in_its_last_box_fails(reply: str) -> None:
    assert not is_correct("42", reply)


FULL_WIDTH, ARABIC, DEVANAGARI, BOLD = "\uff14\uff12", "\u0664\u0662", "\u096a\u0968", "\U0001d7d2\U0001d7d0"
ODD = [FULL_WIDTH, ARABIC, DEVANAGARI, BOLD, "4\xb2", "42\x00", "\x0042", "42\ud800", "\udfff", "42\u200b"]


@pytest.mark.parametrize("answer", ODD, ids=ascii)
def test_unusual_characters_are_judged_without_an_error(answer: str) -> None:
    assert is_correct("42", f"\\boxed{{{answer}}}") in (True, False)
    assert not is_correct("24", f"\\boxed{{{answer}}}")
    assert is_correct("42", "\\boxed{42}"), "the judge is still there"


HEDGES = [
    "{a}={b}", "{b}={a}", "x={a}={b}", "{a},{b}", "{a} \\text{{ or }} {b}", "\\{{{a},{b}\\}}", "[{a},{b}]",
    "x={a},x={b}", "{a}\\neq {b}", "{a}\\approx {b}", "{a}\\implies {b}", "{a}\\pm {b}", "{a}\\equiv {b}", "{a}<{b}",
    "\\text{{{a}}}={b}", "{a} \\text{{ (or {b})}}", "\\max({a},{b})", "{a}_{{{b}}}", "{a}\\quad {b}", "{a};{b}",
    "\\begin{{cases}}{a}\\\\{b}\\end{{cases}}", "({a}={b})", "{a}\\%={b}", "{a}\\cup {b}", "{a}\\vee {b}", "{a}/{b}",
    "{a}:{b}", "{a}\\to {b}",
]  # fmt: skip


@pytest.mark.parametrize("hedge", HEDGES)
def test_no_answer_is_right_for_two_different_golds(hedge: str) -> None:
    answer = hedge.format(a=3, b=4)
    assert not (equivalent("3", answer) and equivalent("4", answer))


def test_what_looks_like_code_is_compared_and_never_run(tmp_path: Path) -> None:
    file = tmp_path / "made_by_a_reply"
    for code in (
        f"__import__('pathlib').Path('{file}').touch()",
        f"\\text{{open('{file}','w')}}",
        f"\\write18{{touch {file}}}",
    ):
        assert not is_correct("x+1", f"\\boxed{{{code}}}")
    assert not file.exists()


def test_an_answer_that_cannot_be_judged_is_wrong_and_can_be_counted() -> None:
    assert not is_correct("3", "\\boxed{6^{6^{6^{6}}}}")
    assert is_beyond_judging("3", "\\boxed{6^{6^{6^{6}}}}")
    assert not any(
        is_beyond_judging("3", reply) for reply in ("\\boxed{3}", "\\boxed{x}", "\\boxed{}", "6^{6^{6^{6}}}")
    )


@pytest.mark.parametrize("length", [1000, 4000, 5000, 100_000])
def test_numbers_longer_than_python_reads_are_compared_as_text(length: int) -> None:
    assert is_correct("9" * length, f"\\boxed{{{'9' * length}}}")
    assert not is_correct("9" * length, f"\\boxed{{{'9' * length}.5}}")


# ------------------------------------------------------------------------------------------------- hostile replies

HOSTILE = [
    "9^{9^{9^9}}", "10^{10^{10}}", "(9^{9^9})!", "999999!!!!", "\\prod_{k=1}^{10^7} k", "\\int_0^1 x^{x^x} dx",
    "\\binom{10^9}{5\\cdot 10^8}", "(x+1)^{10000}", "{" * 300 + "1" + "}" * 300, "(" * 450 + "1" + ")" * 450,
    "1+" * 400 + "1", "x^" * 400 + "2", "\\sqrt{" * 100 + "2" + "}" * 100, "\\frac{1}{" * 70 + "2" + "}" * 70,
    "\\sin(" * 150 + "x" + ")" * 150, "9" * 999, "1e999999999", "\\x" * 400,
]  # fmt: skip


@pytest.mark.parametrize("answer", HOSTILE, ids=lambda answer: answer[:20])
def test_a_hostile_answer_takes_seconds_of_processor_time_at_most(answer: str) -> None:
    is_correct("x+1", "\\boxed{1+x}")  # the server's start is no part of it
    started = processor_time.seconds()
    assert not is_correct("3", f"\\boxed{{{answer}}}")
    assert processor_time.seconds() - started < 4  # one and a half, and twice that where two share a core
    assert not is_lost("3", f"\\boxed{{{answer}}}")


@pytest.mark.parametrize("answer", ["9^{9^{9^9}}+1", "8^{8^{8^8}}"])
def test_a_hostile_answer_costs_as_little_in_another_thread(answer: str) -> None:
    started = processor_time.seconds()
    assert not in_thread(lambda: is_correct("3", f"\\boxed{{{answer}}}"))
    assert processor_time.seconds() - started < 4  # one and a half, and twice that where two share a core
    assert in_thread(lambda: is_correct("x^2-1", "\\boxed{(x-1)(x+1)}"))


def test_the_same_hostile_answer_is_paid_for_once() -> None:
    reply = "\\boxed{7^{7^{7^{7}}}}"
    is_correct("3", reply)
    started = time.process_time()
    assert not is_correct("3", reply)
    assert time.process_time() - started < 0.05


def test_many_replies_are_judged_at_once_and_each_is_paid_for_once() -> None:
    pairs = [("7x", f"\\boxed{{{n}x+{7 - n}x}}") for n in range(1, 6)] + [("7x", "no box"), ("8", "\\boxed{8}")]
    told: list[tuple[int, int]] = []
    assert grade([*pairs, *pairs], lambda done, total: told.append((done, total))) == 0
    assert told[-1] == (5, 5), "what needs no algebra, or is there twice, is not asked about"
    assert grade(pairs, lambda *_: pytest.fail("all of it is known")) == 0
    assert [is_correct(*pair) for pair in pairs] == [True] * 5 + [False, True]


def test_a_lost_verdict_stands_until_the_next_batch_and_is_then_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair = ("5y", "\\boxed{2y+3y}")
    with monkeypatch.context() as patched:
        patched.setattr(judging, "WALL_SECONDS", 0.001)
        patched.setattr(judging, "MOST_TIMES", 2)
        assert grade([pair]) == 1
    assert is_lost(*pair)
    assert not is_correct(*pair)
    assert not is_beyond_judging(*pair), "the comparison itself did nothing wrong"
    assert grade([pair]) == 0
    assert not is_lost(*pair)
    assert is_correct(*pair)


@pytest.mark.parametrize(
    "reply",
    [
        "\\boxed{" * 150_000,
        "\\boxed{" * 70_000 + "}" * 70_000,
        "\\boxed{3}" * 110_000 + "\\boxed{4}",
        "{" * 1_000_000,
        "}" * 1_000_000,
        "\\" * 1_000_000,
        "\\boxed{" + "3" * 1_000_000 + "}",
        "\\boxed" + " " * 1_000_000,
        "\x00" * 1_000_000,
        "3\n" * 500_000,
    ],
    ids=lambda reply: repr(reply[:12]),
)
def test_a_reply_of_a_megabyte_is_judged_in_two_seconds(reply: str) -> None:
    started = time.process_time()
    assert not is_correct("3", reply)
    assert time.process_time() - started <= 2.0


def test_a_right_box_at_the_end_of_a_megabyte_passes() -> None:
    assert is_correct("3", "\\boxed{4} {" * 100_000 + " \\boxed{3}")


# --------------------------------------------------------------------------------------------------- finding the box


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ("\\boxed{5}", "5"),
        ("a \\boxed{1} b \\boxed{2} c", "2"),
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed {5}", "5"),
        ("\\boxed{\\{1,2\\}}", "\\{1,2\\}"),
        ("\\boxed{\\boxed{3}}", "\\boxed{3}"),
        ("\\boxed{1} \\boxed{2", "1"),
        ("{ \\boxed{1}", "1"),
        ("} \\boxed{1}", "1"),
        ("\\boxed{1}}", "1"),
        ("\\boxed{}", ""),
        ("\\boxed{a\nb}", "a\nb"),
        ("\\boxed{1 \\\\}", "1 \\\\"),
        ("\\boxed{", None),
        ("\\boxed5", None),
        ("\\{\\boxed", None),
        ("", None),
    ],
)
def test_the_last_balanced_box_is_found(reply: str, text: str | None) -> None:
    boxed = last_boxed(reply)
    assert (boxed and boxed.text) == text
    if boxed:
        assert reply[boxed.start :].startswith("\\boxed")
        assert reply[boxed.end - 1] == "}"


def test_boxes_in_a_box_are_no_boxes_of_the_reply() -> None:
    reply = "\\boxed{1} \\boxed{2 \\boxed{3} \\boxed{4}} \\boxed{ \\boxed{5}"
    assert [box.text for box in boxes(reply)] == ["1", "2 \\boxed{3} \\boxed{4}", "5"]
    assert boxes("none") == []


def obvious_last_box(reply: str) -> str | None:
    """For every box the brace that closes it, step by step; of the closed ones, that which closes last."""
    found: list[tuple[int, str]] = []
    at = 0
    while at < len(reply):
        if reply[at] != "\\":
            at += 1
            continue
        command = reply[at:]
        if not command.startswith("\\boxed"):
            at += 2
            continue
        content = at + len("\\boxed")
        while content < len(reply) and reply[content].isspace():
            content += 1
        if content < len(reply) and reply[content] == "{":
            depth, end = 1, content + 1
            while end < len(reply) and depth:
                depth += {"{": 1, "}": -1}.get(reply[end], 0)
                end += 2 if reply[end] == "\\" and not reply[end:].startswith("\\boxed") else 1
            if not depth:
                found.append((end, reply[content + 1 : end - 1]))
        at += 2
    return max(found)[1] if found else None


LATEX = st.lists(st.sampled_from(["\\boxed{", "\\boxed {", "{", "}", "\\{", "\\}", "\\\\", "\\", "1", " ", "\n", "x"]))


@settings(max_examples=300, deadline=None)
@given(st.one_of(LATEX.map("".join), st.text()))
def test_the_box_is_the_one_that_an_obvious_search_finds(reply: str) -> None:
    boxed = last_boxed(reply)
    assert (boxed.text if boxed else None) == obvious_last_box(reply)


@settings(max_examples=200, deadline=None)
@given(st.text().filter(lambda text: "\\boxed" not in text))
def test_no_text_without_a_box_is_ever_right(reply: str) -> None:
    assert not is_correct("3", reply)
    assert not is_correct(reply, reply)


@settings(max_examples=200, deadline=None)
@given(st.integers(-(10**12), 10**12), st.integers(-(10**12), 10**12))
def test_integers_are_the_same_if_and_only_if_they_are_equal(gold: int, answer: int) -> None:
    assert equivalent(str(gold), f"{answer:,}") == (gold == answer)
    assert equivalent(f"{gold:,}", str(gold))
    assert equivalent(f"{gold}", f"{gold}.00")
