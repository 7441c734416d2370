"""Whatever a user gets wrong ends with exit code 2 and one readable message, never with a traceback.

Hundreds of malformed recipes, command lines, rows, model folders and runs go through the real command line, in this
process: a process of its own for each would take an hour. `tests/test_bad_input.py` starts some for real.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from motif_lite import cli
from motif_lite.errors import DataError, RecipeError
from motif_lite.jobs import checking
from motif_lite.recipe import keys, loading
from motif_lite.recipe.data import SourceSection
from motif_lite.runs.directory import RunDirectory
from motif_lite.tasks import sources

ROOT = Path(__file__).parents[2]
TINY = ROOT / "recipes" / "tiny_cpu.toml"
MINIMAL = '[model]\nname = "tiny"\nbackend = "transformers"\n[data]\ntrain = "chain_sum"\n'


@pytest.fixture(autouse=True)
def offline_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is downloaded, and relative paths lie in a folder of their own."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # the variable is read by an import
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)


def refused(*arguments: str) -> str:
    """The one message with which a command line ends."""
    done = CliRunner().invoke(cli.app, list(arguments))
    told = done.stderr
    assert done.exit_code == 2, (done.exit_code, told, done.exception)
    assert isinstance(done.exception, SystemExit), "it was let through as an exception"
    assert told.lower().count("error: ") == 1
    assert all(char == "\n" or char.isprintable() for char in told)
    assert len(told) < 11_000
    return told


def refused_recipe(content: str | bytes, *arguments: str) -> str:
    Path("recipe.toml").write_bytes(content if isinstance(content, bytes) else content.encode())
    return refused("--recipe", "recipe.toml", "--check", *arguments)


# ------------------------------------------------------------------------------------------------------- recipes

PATHS = [path for path, _, _ in keys.key_paths()]
SECTIONS = sorted({path.rpartition(".")[0] for path in PATHS if "." in path and "NAME" not in path})


def with_benchmark(path: str) -> str:
    return path.replace("NAME", "x")


@pytest.mark.parametrize("path", PATHS)
def test_a_misspelled_key_is_named_with_the_nearest_real_one(path: str) -> None:
    wrong = with_benchmark(path)[:-1] + "_"
    told = refused_recipe(MINIMAL, "--set", f"{wrong}=1")
    assert f"{wrong}: unknown key; did you mean {path}?" in told or "did you mean" in told


@pytest.mark.parametrize("path", PATHS)
def test_a_value_of_the_wrong_type_is_named_by_its_key(path: str) -> None:
    given = with_benchmark(path)
    if path == "model.chat_template_kwargs":
        given += ".enable_thinking"  # the names are the template's own
    if path.endswith(".options"):
        given += ".min_terms"  # the names are the task's own
    assert f"  {given}" in refused_recipe(MINIMAL, "--set", f"{given}={{nonsense=1}}")


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("value", ["5", '"text"', "[1]", "2026-01-01"])
def test_a_value_in_the_place_of_a_section_is_named(section: str, value: str) -> None:
    assert f"  {section}: " in refused_recipe(MINIMAL, "--set", f"{section}={value}")


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-1e300", "1e300", "0xffffffffffffffffffffffff", "-1", "true"])
@pytest.mark.parametrize(
    "path",
    [
        "seed", "training.max_steps", "training.learning_rate", "training.weight_decay", "training.max_grad_norm",
        "rollout.num_futures", "rollout.futures.temperature", "rollout.openings.top_p", "rollout.futures.top_k",
        "rewards.tag_count", "evaluation.confidence", "evaluation.num_samples", "model.memory_gib", "lora.rank",
    ],
)  # fmt: skip
def test_a_number_that_is_none_or_out_of_range_is_named_by_its_key(path: str, value: str) -> None:
    if (path, value) == ("rewards.tag_count", "-1"):
        pytest.skip("a penalty")
    assert f"  {path}: " in refused_recipe(MINIMAL + "[rewards]\nfuture_accuracy = 1.0\n", "--set", f"{path}={value}")


DEEP = "a" + ".a" * 3000

RECIPES: dict[str, tuple[str | bytes, str]] = {
    "a table of 3000 levels in a list": (f"seed = [{{{DEEP} = 1}}]\n{MINIMAL}", "  seed: "),
    "a list of 300 levels": (f"seed = {'[' * 300}{']' * 300}\n{MINIMAL}", "  seed: "),
    "a table of 3000 levels": (f"{DEEP} = 1\n{MINIMAL}", "  a: unknown key"),
    "a hexadecimal number of 5000 digits": (f"seed = 0x{'f' * 5000}\n{MINIMAL}", "  seed: "),
    "the same in a list": (f"seed = [0x{'f' * 5000}]\n{MINIMAL}", "  seed: "),
    "an integer beyond floats": (f"{MINIMAL}[training]\nweight_decay = {'9' * 400}\n", "  training.weight_decay: "),
    "an escape sequence in a key": (f'"\\u001b[2J" = 1\n{MINIMAL}', "unknown key"),
    "markup in a key": (f'"[red]x[/red]" = 1\n{MINIMAL}', "[red]x[/red]: unknown key"),
    "a key of 100,000 characters": (f"{'k' * 100_000} = 1\n{MINIMAL}", "unknown key"),
    "a value of 100,000 characters": (f'seed = "{"k" * 100_000}"\n{MINIMAL}', "  seed: "),
    "3000 unknown keys": ("\n".join(f"k{n} = 1" for n in range(3000)) + f"\n{MINIMAL}", "and 2980 more"),
    "UTF-16": (MINIMAL.encode("utf-16"), "save it as UTF-8"),
    "Latin-1": (f"# caf\xe9\n{MINIMAL}".encode("latin-1"), "save it as UTF-8"),
    "a megabyte": (MINIMAL + "#" * 1_000_000, "cannot be a recipe; check the path"),
    "null bytes": (b"\0" * 100, "is not valid TOML"),
    "JSON": ('{"seed": 1}', "is not valid TOML"),
    "YAML": ("seed: 1\n", "is not valid TOML"),
    "a key twice": (f"seed = 1\nseed = 2\n{MINIMAL}", "is not valid TOML"),
    "a section twice": (MINIMAL + MINIMAL, "is not valid TOML"),
    "a date": (f"seed = 1979-05-27\n{MINIMAL}", "  seed: "),
    "a null byte in a model's name": (MINIMAL.replace("tiny", "a\\u0000b"), "  model.name: "),
    "a null byte in a source": (MINIMAL.replace("chain_sum", "a\\u0000b"), "neither a known data set"),
    "the home of nobody": (MINIMAL.replace("chain_sum", "~nobody-here/x.jsonl"), "neither a known data set"),
    "columns of what is generated": (f'{MINIMAL}question_column = "q"\n', "has no columns"),
    "a strategy twice": (f'{MINIMAL}[evaluation]\nstrategies = ["multi_round", "multi_round"]\n', "twice"),
    "a folder as data": (MINIMAL.replace("chain_sum", "."), "neither a known data set"),
    "a device as data": (MINIMAL.replace("chain_sum", "/dev/zero"), "neither a known data set"),
}  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_a_malformed_recipe_is_refused(name: str) -> None:
    content, message = RECIPES[name]
    assert message in refused_recipe(content)


def test_a_byte_order_mark_as_of_windows_editors_is_no_mistake() -> None:
    Path("recipe.toml").write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())
    assert CliRunner().invoke(cli.app, ["--recipe", "recipe.toml", "--check"]).exit_code == 0


def test_a_chain_of_recipes_without_end_is_refused() -> None:
    for number in range(1200):
        Path(f"c{number}.toml").write_text(f'extends = "c{number + 1}.toml"')
    assert "extends chains more than" in refused("--recipe", "c0.toml", "--check")


TOML = st.recursive(
    st.one_of(st.integers(), st.floats(), st.booleans(), st.text(), st.dates(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from([*PATHS, *SECTIONS, "nonsense", "rewards.x"]), TOML)
def test_any_value_of_any_key_is_taken_or_refused_with_the_key_in_one_message(path: str, value: Any) -> None:
    whole: dict[str, Any] = {"model": {"name": "m", "backend": "transformers"}, "data": {"train": "chain_sum"}}
    *tables, key = with_benchmark(path).split(".")
    table = whole
    for name in tables:
        table = table.setdefault(name, {})
    table[key] = value
    try:
        loading.validate(whole, checking.TABLES, origin="here")
    except RecipeError as error:
        assert str(error).startswith("here: ")
        assert len(str(error)) < 10_000


# -------------------------------------------------------------------------------------------------- command lines


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "/dev/zero", "--check"], "cannot be a recipe; check the path"),
        (["--recipe", "/dev/null", "--check"], "must be given"),
        (["--recipe", "a\0b", "--check"], "null"),
        (["--recipe", "b" * 5000, "--check"], "cannot be read"),
        (["--recipe", "\x1b[2Jgone.toml", "--check"], "there is no such recipe"),
        (["--recipe", "[red]gone[/red]", "--check"], "[red]gone[/red]: there is no such recipe"),
        (["--recipe", str(TINY), "--check", "--set", "seed=0x" + "f" * 5000], "seed"),
        (["--recipe", str(TINY), "--check", "--set", f"{DEEP}=1"], "unknown key"),
        (["--recipe", str(TINY), "--check", "--set", f"model.{DEEP}=1"], "model.a: unknown key"),
        (["--recipe", str(TINY), "--check", "--set", f"seed.{DEEP}=1"], "seed is a value, not a table"),
        (["--recipe", str(TINY), "--check", "--set", ""], "write key.path=value"),
        (["--recipe", str(TINY), "--check", "--set", 'model.name="\udcff"'], "model.name"),
        (["--recipe", str(TINY), "--plan", "--vram", "nan"], "--vram nan"),
        (["--recipe", str(TINY), "--plan", "--vram", "-1"], "--vram -1"),
        (["--recipe", str(TINY), "--plan", "--vram", "24GB"], "--vram"),
        (["--recipe", str(TINY), "--plan", "--resume"], "--plan goes with"),
        (["--recipe", str(TINY), "--vram", "24"], "--vram, --gpu and --typical go with --plan"),
        (["--recipe", str(TINY), "--out", "file/run"], "is a file"),
        (["--recipe", str(TINY), "--out", "file"], "is not empty"),
        (["--recipe", str(TINY), "--out", "a\0b"], "null"),
        (["--resume", "--out", "a\0b"], "null"),
        (["--resume", "--out", "c" * 5000], "holds no run"),
        (["--evaluate-only", "--out", "file"], "holds no run"),
        (["--resume", "--out", "\x1b]0;title\x07"], "holds no run"),
    ],
    ids=lambda value: ascii(value)[-30:],
)
def test_a_command_line_that_cannot_be_followed_is_refused(arguments: list[str], message: str) -> None:
    Path("file").write_text("x")
    assert message in refused(*arguments)


@pytest.mark.parametrize("arguments", [["--recipe", "\x1b[2J"], ["--set", "a"], ["--recipe", "bytes.toml", "--check"]])
def test_a_process_of_its_own_says_the_same(arguments: list[str]) -> None:
    Path("bytes.toml").write_bytes(b"\xff")
    command = [sys.executable, str(ROOT / "run.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ), timeout=600)
    assert done.returncode == 2
    assert done.stderr.count("error: ") == 1
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stderr


# ------------------------------------------------------------------------------------------------------------ rows


def row(question: Any = "q", answer: Any = "1", **more: Any) -> str:
    return json.dumps({"question": question, "answer": answer} | more) + "\n"


DEEP_LIST = "[" * 900 + "]" * 900

FILES: dict[str, tuple[str, str | bytes, str]] = {
    "an answer beyond floats": ("a.jsonl", row() + '{"question": "q", "answer": 1e999}', "row 2: column 'answer'"),
    "an infinite answer": ("a.jsonl", '{"question": "q", "answer": Infinity}', "row 1: column 'answer' holds 'inf'"),
    "no number": ("a.json", '[{"question": "q", "answer": NaN}]', "row 1: column 'answer' holds 'nan'"),
    "a deep answer": ("a.jsonl", f'{{"question": "q", "answer": {DEEP_LIST}}}', "row 1: column 'answer' holds a list"),
    "chat messages": ("a.jsonl", row([{"role": "user", "content": "q"}]), "a list of chat messages, as in verl's"),
    "a reward model's answer": (
        "a.jsonl", row([{"content": "q"}], reward_model={"ground_truth": "3"}), "what reward_model holds"
    ),
    "an object as answer": ("a.jsonl", row(answer={"a": 1}), "row 1: column 'answer' holds a dict"),
    "an empty answer": ("a.jsonl", row() + row(answer="####"), "row 2: the final answer is empty"),
    "a long answer": ("a.jsonl", row(answer="9" * 5000), "row 1: the final answer has 5000 characters"),
    "unbalanced braces": ("a.jsonl", row(answer="\\frac{1}{"), "row 1: the final answer"),
    "a question of two megabytes": ("a.jsonl", row() + row("q" * 2_000_000), "row 2: the question has 2,000,000"),
    "a line of 20 megabytes": ("a.jsonl", row() + row("q" * 20_000_000), "line 2 has more than"),
    "many other columns": ("a.jsonl", json.dumps({f"c{n}": n for n in range(5000)}), "c9, .... Name the right one"),
    "an escape sequence as column": ("a.jsonl", '{"\\u001b[2J": 1}', "row 1 has no column 'question'"),
    "Latin-1 in JSONL": ("a.jsonl", (row() + row()).encode() + b'{"question": "\xe9"}', "line 3 cannot be read"),
    "UTF-16 in JSONL": ("a.jsonl", row().encode("utf-16"), "line 1 cannot be read"),
    "Latin-1 in CSV": ("a.csv", b"question,answer\nq,1\n\xe9,1\n", "line 3 cannot be read"),
    "UTF-16 in CSV": ("a.csv", "question,answer\nq,1\n".encode("utf-16"), "line 1 cannot be read"),
    "Latin-1 in JSON": ("a.json", b'[{"question": "\xe9"}]', "it must be UTF-8 text"),
    "a comma without quotes": ("a.csv", "question,answer\nq,1\n1, 2 or 3?,3\n", "row 2 has more fields than columns"),
    "a column twice": ("a.csv", "question,answer,answer\nq,1,2\n", "two columns have the same name"),
    "a null byte in CSV": ("a.csv", b"question,answer\nq,1\nq\0,1\n", "a.csv: "),
    "a field too long for CSV": ("a.csv", "question,answer\nq,1\n" + "q" * 200_000 + ",1\n", "line 3 cannot be read"),
    "semicolons": ("a.csv", "question;answer\nq;1\n", "its fields are parted by semicolons, not by commas"),
    "tabs": ("a.csv", "question\tanswer\nq\t1\n", "its fields are parted by tabs, not by commas"),
    "a spreadsheet's first line": ("a.csv", "sep=;\nquestion;answer\nq;1\n", "line 1 is 'sep=;'"),
    "an open quote": ("a.csv", 'question,answer\n"q,1\n', "row 1: column 'answer' holds 'None'"),
    "a header alone": ("a.csv", "question,answer\n", "holds no problems"),
    "no header": ("a.csv", "what is 1+1?,2\nwhat is 2+2?,4\n", "row 1 has no column 'question'"),
    "empty": ("a.csv", "", "holds no problems"),
    "blank lines": ("a.jsonl", "\n\n  \n", "holds no problems"),
    "an array per line": ("a.jsonl", "[1, 2]\n", "row 1 is not an object"),
    "a number per line": ("a.jsonl", "1\n2\n", "row 1 is not an object"),
    "JSON as JSONL": ("a.jsonl", json.dumps([{"question": "q"}], indent=1), "line 1 is not JSON"),
    "JSONL as JSON": ("a.json", row() + row(), "for a row per line name it .jsonl"),
    "a gzip file": ("a.jsonl", b"\x1f\x8b\x08\x00" + b"\0" * 30, "line 1 cannot be read"),
    "a gzip file as Parquet": ("a.parquet", b"\x1f\x8b\x08\x00" + b"\0" * 30, "is not a Parquet file"),
    "Parquet's mark alone": ("a.parquet", b"PAR1" + b"\0" * 30 + b"PAR1", "is not a Parquet file"),
    "a spreadsheet": ("a.xlsx", b"PK\3\4", "cannot tell its kind from '.xlsx'"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_malformed_file_of_problems_ends_a_run_at_its_row(name: str) -> None:
    file, content, message = FILES[name]
    Path(file).write_bytes(content if isinstance(content, bytes) else content.encode())
    told = refused("--recipe", str(TINY), "--set", f'data.train="{file}"')
    assert told.startswith((f"error: {file}", f"error: data.train: {file}"))
    assert message in told


def test_an_integer_answer_beyond_floats_is_an_answer() -> None:
    Path("a.jsonl").write_text('{"question": "q", "answer": ' + "9" * 400 + "}")
    assert sources.load(SourceSection(source="a.jsonl"), role="train", seed=1)[0].gold == "9" * 400


def test_rows_that_contradict_each_other_are_told(caplog: pytest.LogCaptureFixture) -> None:
    Path("a.jsonl").write_text(row() + row("r") + row(answer="2") + row())
    assert len(sources.load(SourceSection(source="a.jsonl"), role="train", seed=1)) == 4
    assert "a.jsonl: rows 1 and 3 have the same question and different answers ('1', '2')" in caplog.text


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)
ROWS = st.one_of(JSON, st.fixed_dictionaries({"question": JSON, "answer": JSON}))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(["jsonl", "json"]), st.lists(ROWS, min_size=1, max_size=3))
def test_any_rows_are_problems_or_refused_by_number(tmp_path: Path, kind: str, rows: list[Any]) -> None:
    path = tmp_path / f"any.{kind}"
    path.write_text(json.dumps(rows) if kind == "json" else "".join(json.dumps(each) + "\n" for each in rows))
    refused_or_loaded(path)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(["jsonl", "json", "csv", "parquet"]), st.binary(max_size=200))
def test_any_bytes_are_problems_or_refused_with_the_files_name(tmp_path: Path, kind: str, content: bytes) -> None:
    path = tmp_path / f"any.{kind}"
    path.write_bytes(content)
    refused_or_loaded(path)


def refused_or_loaded(path: Path) -> None:
    try:
        assert sources.load(SourceSection(source=str(path)), role="train", seed=1)
    except DataError as error:
        assert str(error).startswith(str(path))


# --------------------------------------------------------------------------------------------------------- folders


def changed_json(name: str, **changes: Any) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def written(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def removed(*names: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return change


def only(name: str, content: bytes) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        shutil.rmtree(folder)
        folder.mkdir()
        (folder / name).write_bytes(content)

    return change


WEIGHTS = "model.safetensors"
REMOTE_CODE = {"auto_map": {"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"}, "model_type": "unheard-of"}

FOLDERS: dict[str, Callable[[Path], object]] = {
    "no configuration": removed("config.json"),
    "an empty configuration": written("config.json", b""),
    "a configuration that is a list": written("config.json", b"[]"),
    "a configuration in Latin-1": written("config.json", b'{"a": "\xe9"}'),
    "a deep configuration": written("config.json", b"[" * 100_000),
    "another hidden size": changed_json("config.json", hidden_size=64),
    "another number of layers": changed_json("config.json", num_hidden_layers=3),
    "another vocabulary": changed_json("config.json", vocab_size=300),
    "a vocabulary smaller than the tokenizer's": changed_json("config.json", vocab_size=100),
    "a hidden size that is text": changed_json("config.json", hidden_size="wide"),
    "a hidden size of none": changed_json("config.json", hidden_size=0),
    "heads that do not divide": changed_json("config.json", num_attention_heads=5),
    "an unknown kind": changed_json("config.json", model_type="unheard-of"),
    "a kind that writes nothing": changed_json("config.json", model_type="clip", architectures=["CLIPModel"]),
    "code of its own": changed_json("config.json", **REMOTE_CODE),
    "no weights": removed(WEIGHTS),
    "empty weights": written(WEIGHTS, b""),
    "weights of zeros": written(WEIGHTS, b"\0" * 1000),
    "weights with a header that lies": written(WEIGHTS, b"\xff\xff\xff\xff\xff\xff\xff\x7f" + b"{" * 50),
    "pickled weights alone": lambda folder: (folder / WEIGHTS).rename(folder / "pytorch_model.bin"),
    "an index of parts that are not there": lambda folder: (folder / WEIGHTS).rename(folder / "other.safetensors")
    and written(f"{WEIGHTS}.index.json", b'{"metadata": {}, "weight_map": {"lm_head.weight": "gone"}}')(folder),
    "no tokenizer": removed("tokenizer.json", "tokenizer_config.json"),
    "a damaged tokenizer": written("tokenizer.json", b"{"),
    "a tokenizer that is a list": written("tokenizer.json", b"[]"),
    "damaged settings of the tokenizer": written("tokenizer_config.json", b"{"),
    "a template that is none": written("chat_template.jinja", b"{% for %}"),
    "a template that fails": written("chat_template.jinja", b"{{ raise_exception('no') }}"),
    "a template that leaves out the question": written("chat_template.jinja", b"hello"),
    "a template of undefined names": written("chat_template.jinja", b"{{ gone.gone }}"),
    "a template that divides by zero": written("chat_template.jinja", b"{{ 1 / 0 }}"),
    "a template that leaves the sandbox": written("chat_template.jinja", b"{{ ''.__class__.__mro__ }}"),
    "an adapter instead of a model": only("adapter_config.json", b'{"base_model_name_or_path": "no/model"}'),
    "something else altogether": only("notes.txt", b"milk, eggs"),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDERS)
def test_a_broken_model_folder_ends_a_run_with_its_name(qwen_folder: Path, name: str) -> None:
    shutil.copytree(qwen_folder, "broken-model")
    FOLDERS[name](Path("broken-model"))
    told = refused("--recipe", str(TINY), "--set", 'model.name="./broken-model"', "--set", "data.num_problems=16")
    assert "broken-model" in told
    assert not Path("runs").exists(), "no run is begun for a model that does not load"


# ------------------------------------------------------------------------------------------- runs of other versions


def changed_settings(**changes: Any) -> bytes:
    return json.dumps(checking.check(TINY, []).model_dump() | changes).encode()


SETTINGS: dict[str, tuple[bytes, str]] = {
    "a key of a later version": (changed_settings(quantum=True), "quantum: unknown key"),
    "a section of a later version": (changed_settings(credit={"kind": "tree"}), "credit: unknown key"),
    "a section that is gone": (changed_settings(model=None), "model: "),
    "another type": (changed_settings(seed="one"), "seed: input should be a valid integer"),
    "a reward that is gone": (changed_settings(rewards={"xmlcount": 1.0}), "there is no reward 'xmlcount'"),
    "no number": (changed_settings(seed=float("nan")), "seed: "),
    "a list": (b"[]", "cannot be read (not a table of settings)"),
    "half a file": (changed_settings()[:100], "cannot be read"),
    "nothing": (b"", "cannot be read"),
    "UTF-16": (changed_settings().decode().encode("utf-16"), "cannot be read"),
    "a deep file": (b"[" * 100_000, "cannot be read"),
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("how", ["--resume", "--evaluate-only"])
def test_a_run_of_another_version_is_refused(name: str, how: str) -> None:
    content, message = SETTINGS[name]
    Path("run").mkdir()
    Path("run/resolved.json").write_bytes(content)
    told = refused(how, "--out", "run")
    assert told.startswith("error: run/resolved.json: ")
    assert message in told


ADAPTERS: dict[str, Callable[[Path], object]] = {
    "of another width": lambda folder: reshaped(
        folder, lambda weights: {n: w.repeat(2, 2) for n, w in weights.items()}
    ),
    "of fewer layers": lambda folder: reshaped(folder, lambda weights: dict(list(weights.items())[:2])),
    "of other names": lambda folder: reshaped(folder, lambda weights: {f"other.{n}": w for n, w in weights.items()}),
    "of no weights": lambda folder: reshaped(folder, lambda weights: {}),
    "cut off": lambda folder: reshaped(folder, lambda weights: weights, keep_bytes=200),
}


def reshaped(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]], keep_bytes: int | None = None) -> None:
    from safetensors.torch import load_file, save_file

    path = folder / "adapter_model.safetensors"
    save_file(change(load_file(path)), path)
    path.write_bytes(path.read_bytes()[:keep_bytes])


@pytest.fixture(scope="module")
def adapter(qwen_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from motif_lite.policies import backends

    folder = tmp_path_factory.mktemp("adapter")
    recipe_ = checking.check(TINY, [f"model.name={json.dumps(str(qwen_folder))}"])
    backends.backend("transformers").load(recipe_, str(qwen_folder)).save_adapter(folder)
    return folder


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_that_does_not_fit_its_base_is_refused(qwen_folder: Path, adapter: Path, name: str) -> None:
    changes = [f"model.name={json.dumps(str(qwen_folder))}", "evaluation.benchmarks={}", "data.num_problems=16"]
    created = RunDirectory.create(Path("run"), checking.check(TINY, changes), TINY.read_text())
    shutil.copytree(adapter, created.adapter)
    ADAPTERS[name](created.adapter)
    assert refused("--evaluate-only", "--out", "run").startswith("error: run/adapter/adapter_model.safetensors: ")
