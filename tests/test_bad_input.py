"""What users get wrong: each gives exit code 2 and one readable message that names it, and never a traceback.

Whatever needs no torch goes through the real command line; rows and folders, which are read after the model, go
through the same calls that ``run.py`` makes, in this process.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from motif_lite.errors import MotifError
from motif_lite.jobs import checking, train_job
from motif_lite.runs.directory import RunDirectory
from tests.fakes import RecordingObserver
from tests.faults.nursery import Nursery

ROOT = Path(__file__).parents[1]
TINY = ROOT / "recipes" / "tiny_cpu.toml"
MINIMAL = '[model]\nname = "tiny"\nbackend = "transformers"\n[data]\ntrain = "chain_sum"\n'


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(nursery: Nursery, tmp_path: Path) -> Command:
    """Runs the program in a folder of its own."""
    return partial(nursery.run, folder=tmp_path)


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The one message of a command that ended with exit code 2."""
    assert "Traceback" not in done.stderr
    assert done.returncode == 2, done.stderr
    assert len(re.findall(r"^error: ", done.stderr, re.MULTILINE | re.IGNORECASE)) == 1
    return done.stderr


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("", "2 mistakes in the recipe\n  model: must be given"),
        ("seed = ", "recipe.toml: is not valid TOML"),
        ("seed = " + "[" * 3000, "recipe.toml: is not valid TOML"),
        ('extends = "recipe.toml"', "extends is circular"),
        ('extends = "gone.toml"', "gone.toml: there is no such recipe"),
        ('extends = "a\\u0000b"', "cannot be read"),
        (MINIMAL + "[training]\nmax_stepz = 5\n", "training.max_stepz: unknown key; did you mean training.max_steps?"),
        (MINIMAL + "[training]\nlearning_rate = nan\n", "training.learning_rate: input should be a finite number"),
        (MINIMAL + "[lora]\nrank = 'big'\n", "lora.rank: input should be a valid integer"),
        (MINIMAL.replace("chain_sum", "gsm9k"), "gsm9k: is neither a known data set"),
        (MINIMAL.replace("chain_sum", "rows.txt"), "rows.txt: cannot tell its kind"),
        (MINIMAL.replace("chain_sum", "math500"), "math500: is for the final evaluation only"),
        (MINIMAL.replace("chain_sum", "a" * 5000), "is neither a known data set"),
        (MINIMAL + '[evaluation.benchmarks.x]\nsource = "gone.csv"\n', "gone.csv: is neither a known data set"),
        (MINIMAL + "[evaluation.benchmarks.x]\n", "evaluation.benchmarks.x.source: must be given"),
        (MINIMAL + '[evaluation.benchmarks."a/b"]\nsource = "chain_sum"\n', "a/b"),
        (MINIMAL + '[evaluation.benchmarks."../up"]\nsource = "chain_sum"\n', "../up"),
    ],
    ids=lambda text: re.sub(r"\W+", "-", text[-40:]),
)
def test_a_malformed_recipe_is_refused_in_one_message(
    tmp_path: Path, command: Command, recipe: str, message: str
) -> None:
    (tmp_path / "recipe.toml").write_text(recipe)
    (tmp_path / "rows.txt").write_text("x")
    done = command("--recipe", "recipe.toml", "--check")
    assert message in refused(done)
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no recipe given; use --recipe FILE"),
        (["--recipe", "gone.toml", "--check"], "gone.toml: there is no such recipe"),
        (["--recipe", ".", "--check"], "cannot be read as a text file"),
        (["--recipe", "bytes.toml", "--check"], "bytes.toml: cannot be read as a text file"),
        (["--bogus"], "--bogus"),
        (["--recipe"], "--recipe"),
        (["recipe.toml"], "recipe.toml"),
        (["--recipe", str(TINY), "--check", "--set", "seed"], "--set seed: write key.path=value"),
        (["--recipe", str(TINY), "--check", "--set", "model.name=Qwen"], "text needs quotes"),
        (["--recipe", str(TINY), "--check", "--set", "seed=" + "1" * 5000], "is not a TOML value"),
        (["--recipe", str(TINY), "--check", "--set", "\udcff=1"], "(got '\\udcff')"),
        (["--recipe", str(TINY), "--out", "used"], "used: is not empty; continue that run with --resume"),
        (["--recipe", str(TINY), "--out", "bytes.toml"], "bytes.toml: is not empty"),
        (["--recipe", str(TINY), "--out", "a" * 300], "a" * 300),
        (["--recipe", str(TINY), "--out", "/proc/x"], "/proc/x: cannot be written (no folder can be made in /proc: "),
        (["--recipe", "loop.toml", "--check"], "loop.toml: "),
        (["--resume", "--out", "used"], "used: holds no run"),
        (["--resume"], "no run to resume; give --out"),
        (["--resume", "--recipe", str(TINY)], "no run to resume"),
        (["--resume", "--evaluate-only", "--out", "used"], "cannot be combined"),
        (["--evaluate-only"], "nothing to evaluate"),
        (["--evaluate-only", "--out", "used"], "used: holds no run"),
        (["--resume", "--out", "run", "--set", "seed=99"], "run: was started with different settings for seed"),
        (["--resume", "--out", "damaged"], "resolved.json: cannot be read"),
        (["--resume", "--out", "foreign", "--set", "seed=1"], "resolved.json"),
        (["--evaluate-only", "--out", "foreign"], "resolved.json"),
    ],
    ids=lambda value: re.sub(r"\W+", "-", " ".join(value)[-40:]) if isinstance(value, list) else "",
)
def test_a_command_line_that_cannot_be_followed_is_refused_in_one_message(
    tmp_path: Path, command: Command, arguments: list[str], message: str
) -> None:
    for folder, content in (("used", None), ("damaged", b"\xff{"), ("foreign", b"[]")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / ("resolved.json" if content else "file")).write_bytes(content or b"")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    (tmp_path / "loop.toml").symlink_to("loop.toml")
    RunDirectory.create(tmp_path / "run", checking.check(TINY, []), TINY.read_text())
    assert message in refused(command(*arguments)).replace("\n", "")


def test_a_recipe_for_a_gpu_says_at_once_that_there_is_none_and_names_one_that_needs_none(
    tmp_path: Path, command: Command
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    told = refused(command("--recipe", str(ROOT / "recipes" / "motif_gsm8k.toml")))
    assert "unsloth" in told
    assert "recipes/tiny_cpu.toml" in told
    assert list(tmp_path.glob("runs/*")) == [], "no run was begun"


# ---------------------------------------------------------------------------------------------- rows and folders


def attempt(tmp_path: Path, model: Path | str, *changes: str, resume: bool = False, evaluate_only: bool = False) -> str:
    """The message of a run that must fail with an error of ours, on one line."""
    settings = [f"model.name={json.dumps(str(model))}", "training.max_steps=1", "evaluation.before=false", *changes]
    with pytest.raises(MotifError) as caught:
        job = train_job.job(TINY, settings, tmp_path / "run", resume=resume, evaluate_only=evaluate_only)
        job.perform(RecordingObserver())
    told = str(caught.value)
    assert "\n" not in told
    return told


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.jsonl", '{"question": "q", "answer": "1"}\n{"question": "q"}\n', "rows.jsonl: row 2 has no column"),
        ("rows.jsonl", '{"question": "q", "answer": "1"}\n{"quest', "rows.jsonl: line 2 is not JSON"),
        ("rows.jsonl", '{"question": "q", "answer": null}', "rows.jsonl: row 1: column 'answer' holds 'None'"),
        ("rows.jsonl", '{"question": "\\ud800", "answer": "1"}', "rows.jsonl: row 1"),
        ("rows.jsonl", "", "rows.jsonl: holds no problems"),
        ("rows.json", '{"question": "q"}', "rows.json: must hold a list"),
        ("rows.csv", "question,answer\nq,\n", "rows.csv: row 1: column 'answer' holds ''"),
        ("rows.parquet", "text", "rows.parquet: is not a Parquet file"),
        ("rows.jsonl", (json.dumps({"question": "q" * 500, "answer": "1"}) + "\n") * 8, "every prompt is longer than"),
    ],
)
def test_malformed_rows_end_a_run_with_one_message(
    tmp_path: Path, qwen_folder: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content)
    source = f"data.train={json.dumps(str(tmp_path / name))}"
    assert message in attempt(tmp_path, qwen_folder, source, "evaluation.benchmarks={}")
    assert message in attempt(
        tmp_path / "other", qwen_folder, source.replace("data.train", "evaluation.benchmarks.chain_sum.source")
    )


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("empty", "the folder must hold config.json"),
        ("no weights", "the folder must hold config.json"),
        ("cut weights", "the folder must hold config.json"),
        ("bad config", "the folder must hold config.json"),
        ("unknown architecture", "cannot be loaded"),
        ("no template", "its tokenizer has no chat template; use an instruct model"),
        ("a file", "cannot be loaded"),
    ],
)
def test_a_broken_model_folder_is_named(tmp_path: Path, qwen_folder: Path, broken: str, message: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(qwen_folder, folder)
    weights = folder / "model.safetensors"
    match broken:
        case "empty":
            shutil.rmtree(folder)
            folder.mkdir()
        case "no weights":
            weights.unlink()
        case "cut weights":
            weights.write_bytes(weights.read_bytes()[:1000])
        case "bad config":
            (folder / "config.json").write_text("{")
        case "unknown architecture":
            (folder / "config.json").write_text('{"model_type": "nonesuch"}')
        case "no template":
            (folder / "chat_template.jinja").unlink()
        case "a file":
            shutil.rmtree(folder)
            folder.write_text("")
    told = attempt(tmp_path, folder)
    assert told.startswith(str(folder))
    assert message in told
    assert not (tmp_path / "run").exists(), "no run is begun for a model that does not load"


def test_lora_targets_that_the_model_does_not_have_are_named(tmp_path: Path, qwen_folder: Path) -> None:
    told = attempt(tmp_path, qwen_folder, 'lora.targets=["nonesuch"]')
    assert "lora.targets" in told
    assert "nonesuch" in told


def test_a_wish_for_cuda_where_there_is_none_is_refused(tmp_path: Path, qwen_folder: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    assert "PyTorch sees no CUDA GPU" in attempt(tmp_path, qwen_folder, 'model.device="cuda"')


@pytest.mark.parametrize("adapter", ["empty", "damaged", "of another rank"])
def test_an_adapter_that_does_not_fit_is_named(tmp_path: Path, qwen_folder: Path, adapter: str) -> None:
    from motif_lite.policies import backends

    changes = [f"model.name={json.dumps(str(qwen_folder))}", "training.max_steps=1", "evaluation.before=false"]
    recipe = checking.check(TINY, changes)
    run = RunDirectory.create(tmp_path / "run", recipe, TINY.read_text())
    run.adapter.mkdir()
    if adapter == "damaged":
        (run.adapter / "adapter_model.safetensors").write_bytes(b"\0" * 100)
    if adapter == "of another rank":
        other = checking.check(TINY, [*changes, "lora.rank=2"])
        backends.backend("transformers").load(other, str(qwen_folder)).save_adapter(run.adapter)
    told = attempt(tmp_path, qwen_folder, evaluate_only=True)
    assert told.startswith(str(run.adapter / "adapter_model.safetensors"))


@pytest.mark.parametrize(("name", "how"), [("metrics.jsonl", "resume"), ("evaluation.json", "evaluate_only")])
def test_a_damaged_file_of_a_run_is_named(tmp_path: Path, qwen_folder: Path, name: str, how: str) -> None:
    changes = [f"model.name={json.dumps(str(qwen_folder))}", "training.max_steps=1", "evaluation.before=false"]
    run = RunDirectory.create(tmp_path / "run", checking.check(TINY, changes), TINY.read_text())
    (run.root / name).write_text("{damaged\n")
    assert name in attempt(tmp_path, qwen_folder, **{how: True})
