"""Twins of GSM8K's problems: what is changed, what follows from it, and which problems have none."""

import json
import re
from fractions import Fraction
from pathlib import Path

import pytest
import sympy

from motif_lite.errors import DataError
from motif_lite.recipe.data import SourceSection
from motif_lite.tasks import sources, twins
from motif_lite.tasks.twins import twin

SOLUTIONS = Path(__file__).parent / "data" / "twin_solutions.txt"
DISPUTED = {
    183: "half of Jan's age now, or two years ago",
    256: "ten stalls, or twenty",
    369: "three times more, or three times as many",
    769: "whether Ahmed read half of all",
    858: "the third day's water, or that of all three days",
    1310: "GSM8K's own sum takes Maryam's 400 for Sarah's 300",
}
"""Test problems of GSM8K whose own solution reads the question in another way, or is wrong."""

GSM8K = Path(__file__).parents[2] / "shared" / "data" / "gsm8k" / "test.jsonl"

DUCKS = (
    "Alice's ducks lay 16 eggs a day. She eats three and sells the others for $6 each. What does Alice earn in a week?"
)
SOLVED = "She sells 16-3 = <<16-3=13>>13.\nThat is 13*6=$<<13*6=78>>78, so 78*7=$<<78*7=546>>546.\n#### 546"


def numbers(text: str) -> list[Fraction]:
    return [Fraction(found.replace(",", "")) for found in re.findall(r"\d[\d,]*(?:\.\d+)?", text)]


def test_numbers_and_names_are_others_and_the_answer_follows_from_them() -> None:
    found = twin(DUCKS, SOLVED, "1")
    assert found is not None
    question, answer = found
    eggs, price = (int(number) for number in numbers(question))
    assert (eggs, price) != (16, 6)
    assert question.count("Alice") == 0
    name = question.partition("'")[0]
    assert question == DUCKS.replace("16", str(eggs)).replace("$6", f"${price}").replace("Alice", name)
    assert answer.endswith(f"#### {(eggs - 3) * price * 7}")
    assert twin(DUCKS, SOLVED, "1") == found
    assert len({twin(DUCKS, SOLVED, str(seed)) for seed in range(8)}) > 4


@pytest.mark.parametrize(
    ("question", "answer", "why"),
    [
        ("He has 3 bags of 10 at 30 cents.", "<<3*10=30>>30, <<30*30=900>>900\n#### 900", "30 twice over"),
        ("He has 5 pens and 5 pencils.", "<<5+5=10>>10\n#### 10", "5 twice in the question"),
        ("A fence 15 by 10 feet has 2 slats a foot.", "<<2*15=30>>, <<2*10=20>>, <<30+20=50>>\n#### 60", "not the sum"),
        ("He has 200, gives 40, 80, 30.", "<<200-40=160>>160, 160-80=80, <<80-30=50>>50\n#### 50", "a sum left out"),
        ("He has 200, gives 40, 80, 30.", "<<200-40=160>>160, <<80-30=50>>50\n#### 50", "a sum that leads nowhere"),
        ("Of 25 roses, 40 tulips, 35 daisies, what share?", "<<25+40+35=100>>, <<40/100*100=40>>40\n#### 40", "100"),
        ("He has " + "9" * 5000, "<<9*9=81>>81\n#### 81", "too long"),
        ("He has 9 bags of 9.", "<<9*9=81>>81\n#### 81", "9 may be either"),
        ("He has 3 bags of 4.", "<<3*4=12>>12\n#### 12", "small numbers may be another's"),
        ("He works 6 hours, 5 days a week.", "<<6*5=30>>30\n#### 30", "times"),
        ("Of 50 boys and 20 girls, take the lowest.", "<<50-20=30>>30\n#### 30", "it compares"),
        ("He has 30 pens at $15 and 25 cents.", "<<30*15=450>>450\n#### 450", "25 is in no sum"),
        ("He saw grades 40 - 70, and 40 of them.", "<<40*70=2800>>2800\n#### 2800", "a range"),
        ("He reads 18 pages, half of them twice.", "<<18/2=9>>9, <<18+9=28>>28\n#### 28", "a sum that is wrong"),
        ("He earns 20 a day and saves 15%.", "<<20*.15=3>>3\n#### 3", ".15 stands nowhere"),
        ("He walks 4 miles.", "4*3=12, so <<12*5=60>>60\n#### 60", "12 and 5 stand nowhere"),
        ("He walks 4 miles, twice.", "<<4*2=8>>8\n#### 9", "the answer is another one"),
        ("He walks 4 miles, twice.", "#### 8", "no sums"),
        ("He has 4 of 2.", "<<__import__('os')=8>>8\n#### 8", "no sum"),
        ("He has 4 of 5.", "<<4**5=1024>>1024\n#### 1024", "another operation"),
        ("He has 40 of 9.", "<<40*9=1e999999999>>360\n#### 1e999999999", "longer than memory"),
        ("He has 40 of 0.", "<<40/0=8>>8\n#### 8", "a division by zero"),
        ("He has 4.", f"<<{'(' * 150}4=4>>4\n#### 4", "no end"),
        ("It is 5:30 on May 7th, 1/2 of 3-day event.", "<<5+7=12>>12\n#### 12", "none of these can be changed"),
    ],
)
def test_a_problem_whose_numbers_cannot_all_be_traced_has_no_twin(question: str, answer: str, why: str) -> None:
    assert all(twin(question, answer, str(seed)) is None for seed in range(5)), why


def test_a_number_stays_of_its_size_and_as_round_and_whole_results_stay_whole() -> None:
    for seed in range(30):
        found = twin(
            "A farm of 12,000 acres has 3 owners. What does each have?", "<<12000/3=4000>>\n#### 4000", str(seed)
        )
        assert found is not None
        acres, owners = numbers(found[0])
        assert acres % 1000 == 0 and 6000 <= acres <= 20000 and f"{int(acres):,}" in found[0]
        assert 2 <= owners <= 6 and acres % owners == 0


needs_gsm8k = pytest.mark.skipif(not GSM8K.exists(), reason=f"needs GSM8K, no part of this project, at {GSM8K}")


@pytest.mark.parametrize(
    "question",
    [
        "If a tip is over $10, he is glad. He gets 20 tips of $30. What does he get?",
        "He has 20 pens. If he finds 30 more, he is glad. How many would he have?",
        "He has 20 pens. How many would he have if he found more than 30 ones?",
    ],
)
def test_an_if_that_may_be_a_condition_has_no_twin(question: str) -> None:
    answer = "<<20*30=600>>600\n#### 600"
    assert all(twin(question, answer, str(seed)) is None for seed in range(5))
    assert twin("He has 20 pens. How many has he if each of them counts for 30 ones?", answer, "1") is not None


def in_numbers_of(question: str, expression: str) -> sympy.Rational:
    """An expression of `SOLUTIONS`, computed."""
    names = {letter: sympy.Rational(str(value)) for letter, value in zip("abcdefgh", numbers(question), strict=False)}
    return sympy.sympify(expression, locals=names, rational=True)


@needs_gsm8k
def test_290_twins_have_the_answer_that_somebody_found_who_knew_the_question_alone() -> None:
    """On three seeds each, and so have the problems that they come from."""
    rows = [json.loads(line) for line in GSM8K.read_text(encoding="utf-8").splitlines()]
    lines = [line.split(" ") for line in SOLUTIONS.read_text().splitlines() if not line.startswith("#")]
    solutions = {int(number): expression for number, expression in lines}
    made = {number: [twin(row["question"], row["answer"], str(seed)) for seed in range(3)]
            for number, row in enumerate(rows, start=1)}  # fmt: skip
    assert {number for number, twins_of_it in made.items() if any(twins_of_it)} <= solutions.keys()
    disputed = set[int]()
    for number, expression in solutions.items():
        row = rows[number - 1]
        for question, answer in filter(None, [(row["question"], row["answer"]), *made[number]]):
            gold = sympy.Rational(answer.rpartition("#### ")[2].replace(",", ""))
            if in_numbers_of(question, expression) != gold:
                disputed.add(number)
    assert disputed == DISPUTED.keys()
    assert sum(made[number][0] is not None for number in solutions.keys() - disputed) >= 290


@needs_gsm8k
def test_of_gsm8ks_test_problems_more_than_one_in_five_has_one_and_another_program_agrees_with_every_sum() -> None:
    rows = [json.loads(line) for line in GSM8K.read_text(encoding="utf-8").splitlines()]
    found = [(row, made) for row in rows if (made := twin(row["question"], row["answer"], "0")) is not None]
    assert len(found) > 290
    for row, (question, answer) in found:
        assert question != row["question"]
        known = set(numbers(question)) | {Fraction(2), Fraction(100)}
        constants = {number for left, _ in re.findall(r"<<(.+?)=(.+?)>>", row["answer"]) for number in numbers(left)}
        sums = re.findall(r"<<(.+?)=(.+?)>>", answer)
        for left, right in sums:
            assert sympy.Rational(right) == sympy.sympify(left, rational=True) > 0
            assert set(numbers(left)) <= known | constants
            known.add(Fraction(right))
        assert answer.endswith(f"#### {sums[-1][1]}")


def test_where_names_run_out_some_stay() -> None:
    question = f"{', '.join(sorted(twins._NAMES[0]))} have 20 pens and 7 more."
    found = twin(question, "<<20+7=27>>27\n#### 27", "1")
    assert found is not None
    assert "pens" in found[0]


def test_an_answer_of_nothing_but_spaces_takes_no_time() -> None:
    assert twin("He has 20 pens and 7 more.", "=" + " " * 10**6, "1") is None


def test_what_is_measured_is_not_trained_as_a_twin_nor_its_original(tmp_path: Path) -> None:
    file = tmp_path / "some.jsonl"
    other = {"question": "He has 20 pens and 7 more.", "answer": "<<20+7=27>>27\n#### 27"}
    file.write_text("".join(f"{json.dumps(row)}\n" for row in ({"question": DUCKS, "answer": SOLVED}, other)))
    plain, twinned = SourceSection(source=str(file)), SourceSection(source=str(file), twins="instead")
    for measured, trained in ((plain, twinned), (twinned, plain)):
        held_out = {"evaluation.validation": sources.load(measured, role="test", seed=1)[:1]}
        [left] = sources.load(trained, role="train", seed=2, held_out=held_out)
        assert left.id.endswith("/2")


def test_the_order_of_all_numbers_stays() -> None:
    question, answer = "He has 20 pens, 3 of them red, and gives 18 away.", "<<20-18=2>>2, <<2+3=5>>5\n#### 5"
    for seed in range(30):
        found = twin(question, answer, str(seed))
        assert found is not None
        pens, red, given = numbers(found[0])
        assert pens > given > red == 3


def test_a_source_gives_twins_in_place_of_its_problems(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "some.jsonl"
    rows = [{"problem": DUCKS, "gold": SOLVED}, {"problem": "Why?", "gold": "#### 8"}]
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    source = SourceSection(source=str(file), twins="instead")
    [problem] = sources.load(source, role="test", seed=3)
    made = twin(DUCKS, SOLVED, "3")
    assert made is not None
    assert (problem.id, problem.question) == ("some-twin/1", made[0])
    assert made[1].endswith(f"#### {problem.gold}")
    assert "1 of 2 problems have a twin, the others are left out" in caplog.text
    [original] = sources.load(source.model_copy(update={"twins": "originals"}), role="test", seed=3)
    assert (original.id, original.question, original.gold) == ("some/1", DUCKS, "546")
    file.write_text(json.dumps(rows[1]))
    with pytest.raises(DataError, match="no problem has a twin; answers must hold their sums"):
        sources.load(source, role="test", seed=3)


@pytest.mark.parametrize("name", ["math500", "chain_sum"])
def test_a_data_set_without_sums_is_refused_before_it_is_downloaded(name: str) -> None:
    with pytest.raises(DataError, match="its problems have no twins"):
        sources.check(SourceSection(source=name, twins="instead"), role="test")
