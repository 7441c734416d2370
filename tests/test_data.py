"""Files to problems; a malformed row is named by its number."""

import csv
import json
import logging
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from motif_lite.errors import DataError
from motif_lite.nouns import Problem
from motif_lite.recipe.data import SourceSection
from motif_lite.tasks import fitting, sources
from motif_lite.tasks import held_out as held_out_problems
from tests.fakes import problem

REAL = Path(__file__).parents[2] / "shared" / "data"
ROWS: list[dict[str, Any]] = [
    {"question": "1+1?", "answer": "2"},
    {"question": "long?", "answer": "so <<2*617=1234>>\n#### 1,234"},
    {"question": "half?", "answer": 0.5},
    {"question": "seven?", "answer": 7},
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    match path.suffix:
        case ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        case ".json":
            path.write_text(json.dumps(rows), encoding="utf-8")
        case ".csv":
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        case ".parquet":
            text = [{key: str(value) for key, value in row.items()} for row in rows]
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(text), path)
    return path


def load(path: Path | str, **keys: Any) -> list[Problem]:
    return sources.load(SourceSection(source=str(path), **keys), role="train", seed=1)


def complaint(path: Path | str, **keys: Any) -> str:
    with pytest.raises(DataError) as caught:
        load(path, **keys)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet"])
def test_every_kind_of_file_gives_the_same_problems(tmp_path: Path, kind: str) -> None:
    problems = load(write(tmp_path / f"mine.{kind}", ROWS))
    assert [each.id for each in problems] == ["mine/1", "mine/2", "mine/3", "mine/4"]
    assert [each.question for each in problems] == ["1+1?", "long?", "half?", "seven?"]
    assert [each.gold for each in problems] == ["2", "1,234", "0.5", "7"]


@pytest.mark.parametrize(
    ("name", "number", "first"),
    [("gsm8k/train", 7473, "72"), ("gsm8k/test", 1319, "18"),
     ("math500/test", 500, "\\left( 3, \\frac{\\pi}{2} \\right)"), ("aime24/test", 30, None)],
)  # fmt: skip
def test_the_real_files_load_without_naming_their_columns(
    caplog: pytest.LogCaptureFixture, name: str, number: int, first: str | None
) -> None:
    path = REAL / f"{name}.jsonl"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    problems = load(path)
    assert len(problems) == len({each.id for each in problems}) == number
    assert first in (None, problems[0].gold)
    assert not any("#" in each.gold for each in problems)
    assert not caplog.text, "no final answer of theirs is odd"


@pytest.mark.parametrize(
    "choices",
    [
        ["Rome", "Paris"],
        {"text": ["Rome", "Paris"], "label": ["A", "B"]},
        {"A": "Rome", "B": "Paris"},
        "A) Rome\nB) Paris",
    ],
    ids=["a list", "as ARC's", "by letter", "lines"],
)
def test_choices_that_no_prompt_shows_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture, choices: Any) -> None:
    row = {"question": "Which is in France?", "choices": choices, "answer": 1}
    load(write(tmp_path / "a.jsonl", [row, row | {"question": "Which is in Italy?"}]))
    assert (
        "a.jsonl: the choices in column 'choices' are in no prompt, as only the question is (row 1 and 1" in caplog.text
    )
    caplog.clear()
    load(write(tmp_path / "b.jsonl", [row | {"question": "Which is in France: A) Rome or B) Paris?"}]))
    assert not caplog.text


def test_choices_in_columns_of_their_own_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    row = {"question": "Which is in France?", "A": "Rome", "B": "Paris", "C": "Bonn", "D": "Oslo", "answer": "B"}
    load(write(tmp_path / "a.csv", [row]))
    assert "the choices in the columns 'A' to 'D' are in no prompt" in caplog.text


def test_numbers_of_a_parquet_file_are_those_that_were_written(tmp_path: Path) -> None:
    columns = {
        "float": pyarrow.array([0.1, 1234567.8], pyarrow.float32()),
        "half": pyarrow.array([np.float16(0.1), np.float16(3)], pyarrow.float16()),
        "decimal": pyarrow.array([Decimal("1.50"), Decimal("-20.00")]),
    }
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"question": ["q", "r"], **columns}), path)
    golds = {name: [each.gold for each in load(path, answer_column=name)] for name in columns}
    assert golds == {"float": ["0.1", "1234567.8"], "half": ["0.1", "3.0"], "decimal": ["1.50", "-20.00"]}


def test_columns_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.jsonl", [{"question": "no", "answer": "no", "frage": "1+1?", "antwort": "2"}])
    assert load(path, question_column="frage", answer_column="antwort")[0].question == "1+1?"


def test_blank_lines_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"question": "a", "answer": "1"}\r\n\r\n  \r\n{"question": "b", "answer": "2"}')
    assert [each.question for each in load(path)] == ["a", "b"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "q"}, "row 2 has no column 'answer'; it has: question. Name the right one with answer_column"),
        ({"answer": "1"}, "row 2 has no column 'question'; it has: answer"),
        ({}, "row 2 has no column 'question'; it has: none"),
        ({"question": "q", "answer": None}, "row 2: column 'answer' holds 'None', not text"),
        ({"question": "q", "answer": True}, "row 2: column 'answer' holds 'True', not text"),
        ({"question": "q", "answer": ["1"]}, "row 2: column 'answer' holds a list, not text"),
        ({"question": " ", "answer": "1"}, "row 2: column 'question' holds ' ', not text"),
        ({"question": "q", "answer": ""}, "row 2: column 'answer' holds '', not text"),
        ({"question": "q", "answer": "sum ####  "}, "row 2: the final answer is empty"),
        ({"question": "q", "answer": "x" * 1001}, "row 2: the final answer has 1001 characters"),
        ({"question": "lone \ud800", "answer": "1"}, "row 2"),
        ({"question": "q", "answer": "\udfff"}, "row 2"),
        ([1, 2], "row 2 is not an object with columns"),
        ("text", "row 2 is not an object with columns"),
        (None, "row 2 is not an object with columns"),
    ],
    ids=lambda value: repr(value)[:30],
)
@pytest.mark.parametrize("kind", ["jsonl", "json"])
def test_a_malformed_row_is_named_by_its_number(tmp_path: Path, kind: str, row: Any, message: str) -> None:
    path = write(tmp_path / f"mine.{kind}", [ROWS[0], row])
    told = complaint(path)
    assert told.startswith(str(path))
    assert message in told


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"question": "q", "answer": "1"}\n{"question": ', "line 2 is not JSON"),
        ("a.jsonl", b"[" * 100_000, "line 1 is not JSON"),
        ("a.jsonl", b'{"question": "q", "answer": ' + b"1" * 5000 + b"}", "line 1 is not JSON"),
        ("a.jsonl", b"", "holds no problems"),
        ("a.jsonl", b"\xff\xfe", "cannot be read"),
        ("a.json", b'{"question": "q", "answer": "1"}', "must hold a list of objects"),
        ("a.json", b"[1, ", "is not JSON"),
        ("a.json", b"[" + b"1" * 5000 + b"]", "is not JSON"),
        ("a.json", b"[]", "holds no problems"),
        ("a.csv", b"question,answer\n", "holds no problems"),
        ("a.csv", b"question,answer\nq\n", "row 1: column 'answer' holds 'None'"),
        ("a.csv", b"question,answer\n" + b"q" * 200_000 + b",1\n", "cannot be read"),
        ("a.parquet", b"not parquet at all", "is not a Parquet file"),
        ("a.parquet", b"", "is not a Parquet file"),
        ("a.txt", b"q", "cannot tell its kind from '.txt'; use one of .jsonl, .json, .csv, .parquet"),
        ("a", b"q", "cannot tell its kind from ''"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_a_malformed_file_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    told = complaint(tmp_path / name)
    assert told.startswith(str(tmp_path / name))
    assert message in told
    assert "\n" not in told


@pytest.mark.parametrize("source", ["gone.jsonl", "gsm9k", ".", "a\0b", "a" * 5000], ids=lambda text: text[:10])
def test_a_source_that_is_neither_a_name_nor_a_file_is_refused(source: str) -> None:
    known = "gsm8k, math, dapo17k, deepscaler, countdown, math500, aime24, aime25, hmmt25, chain_sum, chain_sum_26, "
    assert f"neither a known data set ({known}reasoning_gym:NAME) nor a file" in complaint(source)


@pytest.mark.parametrize("name", ["math500", "aime24"])
def test_nobody_trains_on_a_benchmark(name: str) -> None:
    assert "for the final evaluation only" in complaint(name)


@pytest.mark.parametrize("words", ["no network\nat all", ""])
def test_a_download_that_fails_is_one_line(monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    import datasets

    def offline(*_: object, **__: object) -> None:
        raise ConnectionError(words)

    monkeypatch.setattr(datasets, "load_dataset", offline)
    told = complaint("gsm8k")
    assert told.startswith("openai/gsm8k: cannot be downloaded (ConnectionError")
    assert "\n" not in told


def test_a_subset_is_drawn_by_seed_and_kept_in_order(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.jsonl", [{"question": f"q{n}", "answer": n} for n in range(100)])
    source = SourceSection(source=str(path), num_problems=10)
    drawn = sources.load(source, role="train", seed=1)
    numbers = [int(each.gold) for each in drawn]
    assert len(set(numbers)) == 10
    assert numbers == sorted(numbers)
    assert [each.id for each in drawn] == [f"mine/{number + 1}" for number in numbers]
    assert drawn == sources.load(source, role="train", seed=1)
    assert drawn != sources.load(source, role="train", seed=2)


def test_a_subset_larger_than_the_file_is_the_file_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert len(load(write(tmp_path / "mine.jsonl", ROWS), num_problems=5)) == 4
    assert "has 4 problems, fewer than the 5 asked for" in caplog.text


def test_chain_sum_is_generated_with_different_problems_for_each_role() -> None:
    source = SourceSection(source="chain_sum", num_problems=20)
    train, test = (sources.load(source, role=role, seed=1) for role in ("train", "test"))
    assert len(train) == len(test) == 20
    assert not {each.question for each in train} & {each.question for each in test}


def test_only_chain_sum_can_tell_whether_progress_is_true() -> None:
    read_progress = sources.progress_reader("chain_sum")
    assert read_progress is not None
    assert read_progress("a1b2=", "b=3") == 2
    assert sources.progress_reader("gsm8k") is None
    assert sources.progress_reader("mine.jsonl") is None


def test_long_problems_are_left_out_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    problems = [problem("x" * size) for size in (5, 10, 11, 50)]
    with caplog.at_level(logging.WARNING):
        kept = fitting.drop_long(problems, lambda each: len(each.question), 10, source="mine")
    assert kept == problems[:2]
    assert "mine: 2 of 4 problems left out" in caplog.text
    with pytest.raises(DataError, match=r"mine: every prompt is longer than rollout\.max_prompt_tokens = 4"):
        fitting.drop_long(problems, lambda each: len(each.question), 4, source="mine")


def test_fewer_problems_than_a_step_takes_are_refused() -> None:
    problems = sources.load(SourceSection(source="chain_sum", num_problems=1), role="train", seed=1)
    fitting.require_enough(problems, 1, source="chain_sum")
    with pytest.raises(DataError, match="problems_per_step = 2"):
        fitting.require_enough(problems, 2, source="chain_sum")


@pytest.mark.parametrize("gold", ["NaN", "1e999", '"\\\\frac{1}{"'])
def test_a_gold_answer_that_nothing_could_match_is_refused(tmp_path: Path, gold: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "q", "answer": ' + gold + "}\n")
    with pytest.raises(DataError, match="row 1"):
        sources.load(SourceSection(source=str(path)), role="test", seed=1)


def rows_of(path: Path, number: int) -> Path:
    path.write_text("".join(f'{{"question": "{n}+1=", "answer": "{n + 1}"}}\n' for n in range(number)))
    return path


def test_held_out_problems_are_left_out_before_any_are_drawn(tmp_path: Path) -> None:
    file = str(rows_of(tmp_path / "mine.jsonl", 50))
    held_out = sources.load(SourceSection(source=file, num_problems=20), role="validation", seed=1)
    measured = {held_out_problems.VALIDATION: held_out}
    train = sources.load(SourceSection(source=file, num_problems=30), role="train", seed=1, held_out=measured)
    assert len(train) == 30
    assert not {problem.question for problem in train} & {problem.question for problem in held_out}
    every = [*held_out, *train]
    with pytest.raises(DataError, match=r"all of its problems are in evaluation\.validation, .* lower num_problems"):
        sources.load(SourceSection(source=file), role="train", seed=1, held_out={held_out_problems.VALIDATION: every})


def test_problems_of_a_benchmark_are_not_trained_on_whatever_their_file_is_called(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By content: the benchmark is a part of the training file, under another name and with other line breaks."""
    file, part = rows_of(tmp_path / "mine.jsonl", 50), tmp_path / "another.jsonl"
    part.write_text("".join(file.read_text().replace("+1=", " + 1 =").splitlines(keepends=True)[:20]))
    file.write_text(file.read_text().replace("+1=", " +  1\\n="))
    test = sources.load(SourceSection(source=str(part)), role="test", seed=1)
    train = sources.load(
        SourceSection(source=str(file)), role="train", seed=1, held_out={"evaluation.benchmarks.mine": test}
    )
    assert [problem.gold for problem in train] == [str(n + 1) for n in range(20, 50)]
    assert (
        f"{file}: 20 of 50 problems are in evaluation.benchmarks.mine, too, and are left out of training"
        in caplog.messages
    )


def test_training_on_a_benchmark_s_own_file_is_refused(tmp_path: Path) -> None:
    source = SourceSection(source=str(rows_of(tmp_path / "mine.jsonl", 5)))
    measured = {"evaluation.benchmarks.mine": sources.load(source, role="test", seed=1)}
    with pytest.raises(DataError, match=r"all of its problems are in evaluation\.benchmarks\.mine, .* take other data"):
        sources.load(source, role="train", seed=1, held_out=measured)


def test_problems_of_a_benchmark_are_not_measured_along_the_way(tmp_path: Path) -> None:
    file = str(rows_of(tmp_path / "mine.jsonl", 50))
    held_out, test = (
        sources.load(SourceSection(source=file, num_problems=20), role=role, seed=1) for role in ("validation", "test")
    )
    with pytest.raises(DataError, match="20 of its problems are in the benchmark mine, too; take them from other data"):
        held_out_problems.require_apart(held_out, test, benchmark="mine")
    held_out_problems.require_apart(held_out, [], benchmark="mine")
