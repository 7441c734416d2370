"""The whole program as a user runs it: the command line, real files, the tiny model."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.records import Measurement, Subject, When
from tests.faults.nursery import Nursery

SAMPLED = Subject("chain_sum", "multi_round", "sampled")
ROOT = Path(__file__).parents[1]
SMALL = [
    "rollout.num_openings=4",
    "rollout.num_futures=2",
    "training.problems_per_step=2",
    "training.micro_batch_size=8",
    "training.max_steps=2",
    "data.num_problems=32",
    "evaluation.benchmarks.chain_sum.num_problems=20",
]

pytestmark = pytest.mark.usefixtures("tiny_folder")  # builds it once; the program then finds it in its cache


Finished = tuple[Path, subprocess.CompletedProcess[str]]


def words(out: Path, *arguments: str, recipe: str = "tiny_cpu", changes: list[str] | None = None) -> list[str]:
    settings = [part for change in (SMALL if changes is None else changes) for part in ("--set", change)]
    return ["--recipe", f"recipes/{recipe}.toml", "--out", str(out), *settings, *arguments]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """By a process that begins as a user's does; those of the tests below come from the nursery."""
    out = tmp_path_factory.mktemp("runs") / "finished"
    return out, run(["run.py", *words(out)])


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_one_command_trains_evaluates_and_reports(finished: Finished) -> None:
    out, process = finished
    assert process.returncode == 0, process.stderr
    for name in (
        "recipe.toml", "resolved.json", "metrics.jsonl", "rollouts.jsonl", "checkpoints/checkpoint-2",
        "adapter/adapter_model.safetensors", "evaluation.json", "report.html", "rollouts.html", "run.log",
    ):  # fmt: skip
        assert (out / name).exists(), name
    assert (out / "recipe.toml").read_text() == (ROOT / "recipes" / "tiny_cpu.toml").read_text()
    assert "step 2/2: reward" in process.stdout
    assert "gain (paired)" in process.stdout


def test_nothing_of_the_libraries_reaches_the_screen(finished: Finished) -> None:
    _, process = finished
    assert process.stderr == ""
    for noise in ("Warning", "it/s", "bitsandbytes", "Traceback"):
        assert noise not in process.stdout


def test_evaluation_json_has_the_promised_shape(finished: Finished) -> None:
    out, _ = finished
    evaluation = read(out / "evaluation.json")
    assert evaluation["version"] == 2
    names = ("benchmark", "when", "strategy", "decoding")
    keys = [tuple(each[name] for name in names) for each in evaluation["measurements"]]
    assert len(keys) == len(set(keys))
    assert {key[:3] for key in keys} == {
        ("chain_sum", when, strategy) for when in ("before", "after") for strategy in ("single_round", "multi_round")
    }
    for result in evaluation["measurements"]:
        assert result["num_problems"] == 20
        assert result["accuracy"] == result["num_correct"] / result["num_samples"]
        low, high = result["interval"]
        assert 0 <= low <= result["accuracy"] <= high <= 1
        assert result["generated_tokens"] > 0 < result["seconds"]


def measured(out: Path, when: When = "after") -> Measurement:
    """chain_sum in multi_round, sampled."""
    found = RunDirectory(out).evaluation().find(SAMPLED, when)
    assert found is not None
    return found


def test_graded_replies_are_kept_problem_by_problem(finished: Finished) -> None:
    out, _ = finished
    result = measured(out)
    lines = (out / "evaluations" / "chain_sum.after.multi_round.sampled.jsonl").read_text().splitlines()
    graded = [json.loads(line) for line in lines]
    assert sum(line["correct"] for line in graded) == result.num_correct
    assert sum(line["tokens"] for line in graded) == result.generated_tokens
    assert all(len(line["replies"]) == 3 for line in graded)


def test_a_run_is_not_overwritten(finished: Finished, nursery: Nursery) -> None:
    out, _ = finished
    process = nursery.run(*words(out))
    assert process.returncode == 2
    assert "--resume" in process.stderr
    assert "Traceback" not in process.stderr


def test_resuming_a_finished_run_with_another_recipe_is_refused(finished: Finished, nursery: Nursery) -> None:
    out, _ = finished
    process = nursery.run(*words(out, "--resume", "--set", "training.learning_rate=2e-3", "--set", "seed=9"))
    assert process.returncode == 2
    assert "seed" in process.stderr
    assert "training.learning_rate" in process.stderr


def test_resuming_with_more_steps_goes_on(finished: Finished, nursery: Nursery) -> None:
    out, _ = finished
    before = (out / "metrics.jsonl").read_text()
    process = nursery.run(*words(out, "--resume", "--set", "training.max_steps=3"))
    assert process.returncode == 0, process.stderr
    after = (out / "metrics.jsonl").read_text()
    assert after.startswith(before)
    assert json.loads(after.splitlines()[-1])["step"] == 3


def test_what_a_kill_left_of_the_last_save_is_removed(finished: Finished, nursery: Nursery) -> None:
    out, _ = finished
    (out / "report.html").unlink()
    (out / "unfinished").mkdir()
    (out / "unfinished" / "README.md").touch()
    process = nursery.run(*words(out, "--resume", "--set", "training.max_steps=3"))
    assert process.returncode == 0, process.stderr
    assert (out / "report.html").exists()
    assert not (out / "unfinished").exists()


def test_evaluate_only_measures_a_run_again_with_more_samples(finished: Finished, nursery: Nursery) -> None:
    out, _ = finished
    process = nursery.run("--evaluate-only", "--out", str(out), "--set", "evaluation.num_samples=3")
    assert process.returncode == 0, process.stderr
    result = measured(out)
    assert (result.num_problems, result.num_samples) == (20, 60)


def test_figures_measured_in_different_ways_are_never_compared(finished: Finished, nursery: Nursery) -> None:
    """After the test above both sides have three samples; a change of one side alone would be no gain."""
    out, _ = finished
    evaluation = read(out / "evaluation.json")
    gain = RunDirectory(out).evaluation().gain(SAMPLED)
    assert gain is not None
    assert gain.num_problems == 20
    [changed] = [
        each for each in evaluation["measurements"]
        if (each["when"], each["strategy"], each["decoding"]) == ("before", "multi_round", "sampled")
    ]  # fmt: skip
    changed["settings"]["temperature"] = 0.5
    (out / "evaluation.json").write_text(json.dumps(evaluation))
    process = nursery.run("--evaluate-only", "--out", str(out), "--set", "evaluation.num_samples=3")
    assert "before, multi_round, sampled" in process.stdout, "it is measured again, and only that"
    assert "after, multi_round, sampled" not in process.stdout


def test_an_adapter_is_not_measured_on_another_model(finished: Finished, nursery: Nursery) -> None:
    out, _ = finished
    process = nursery.run("--evaluate-only", "--out", str(out), "--set", "seed=2")
    assert process.returncode == 2
    assert "seed" in process.stderr


def test_evaluate_only_measures_a_bare_model(tmp_path: Path, nursery: Nursery) -> None:
    absent = 'data.train="gsm8k"'  # a download, which there is no network for here, nor any need of
    process = nursery.run(*words(tmp_path / "bare", "--evaluate-only", changes=[*SMALL, absent]))
    assert process.returncode == 0, process.stderr
    assert {each["when"] for each in read(tmp_path / "bare" / "evaluation.json")["measurements"]} == {"before"}
    assert not (tmp_path / "bare" / "adapter").exists()


def test_grpo_recipe_runs_the_same_way(tmp_path: Path, nursery: Nursery) -> None:
    process = nursery.run(
        *words(tmp_path / "grpo", recipe="tiny_cpu_grpo", changes=[*SMALL, "evaluation.before=false"])
    )
    assert process.returncode == 0, process.stderr


def test_real_gsm8k_under_the_real_chat_template(tmp_path: Path, nursery: Nursery) -> None:
    """Real questions, the real Qwen2.5 tokenizer, 4-bit random weights: one step."""
    shared = ROOT.parent / "shared"
    if not shared.exists():
        pytest.skip("../shared is not here")
    model = tmp_path / "model"
    tokenizer = shared / "data" / "qwen25_tokenizer"
    made = run([str(shared / "gpu" / "random_qwen.py"), str(model), str(tokenizer), "--size", "tiny"])
    assert made.returncode == 0, made.stderr
    changes = [
        'model.backend="transformers"', f'model.name="{model}"',
        f'data.train="{shared}/data/gsm8k/train.jsonl"', "data.num_problems=20",
        f'evaluation.benchmarks={{gsm8k={{source="{shared}/data/gsm8k/test.jsonl", num_problems=2}}}}',
        "training.max_steps=1", "rollout.num_openings=2", "rollout.num_futures=2", "training.micro_batch_size=2",
        "rollout.openings.max_tokens=8", "rollout.futures.max_tokens=8", "evaluation.before=false",
    ]  # fmt: skip
    process = nursery.run(*words(tmp_path / "out", recipe="motif_gsm8k", changes=changes))
    assert process.returncode == 0, process.stderr
    line = json.loads((tmp_path / "out" / "rollouts.jsonl").read_text().splitlines()[0])
    prompts = [line["opening"]["prompt"], *(turn["prompt"] for turn in line["futures"][0]["rounds"])]
    for prompt in prompts:
        assert prompt.startswith("<|im_start|>system\n")
        assert line["question"] in prompt
        assert prompt.endswith("<|im_end|>\n<|im_start|>assistant\n")
    assert "Progress in round 1" in prompts[1]
    assert "final (third) round" in prompts[2]


def test_help_names_every_option() -> None:
    environment = {**os.environ, "COLUMNS": "200"}
    process = subprocess.run(
        [sys.executable, "run.py", "--help"], cwd=ROOT, capture_output=True, text=True, env=environment, timeout=600
    )
    assert process.returncode == 0
    for option in ("--recipe", "--check", "--set", "--out", "--resume", "--evaluate-only"):
        assert option in process.stdout


def test_the_tiny_recipe_learns_to_think_in_rounds(tmp_path: Path, nursery: Nursery) -> None:
    """The demonstration itself, on half as many test problems: at least 15 points, intervals that do not touch."""
    changes = [
        "evaluation.greedy=false", 'evaluation.strategies=["multi_round"]',
        "evaluation.benchmarks.chain_sum.num_problems=200",
    ]  # fmt: skip
    process = nursery.run(*words(tmp_path / "demo", changes=changes))
    assert process.returncode == 0, process.stderr
    before, after = measured(tmp_path / "demo", "before"), measured(tmp_path / "demo")
    assert before.num_problems == after.num_problems == 200
    assert after.accuracy >= before.accuracy + 0.15
    assert before.interval[1] < after.interval[0]
