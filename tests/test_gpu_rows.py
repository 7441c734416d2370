"""tests/gpu in its CPU mode: what a GPU will run, at tiny size, so that it does not fail there for a typo."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.version import Version

from motif_lite.policies.engine import batch
from motif_lite.runs.directory import RunDirectory
from tests.fakes import opening
from tests.faults.nursery import Nursery
from tests.gpu import measurements, rows
from tests.gpu.any_reward import any_text
from tests.gpu.bench import Bench, CheckError, Settings
from tests.gpu.command import digest

ROOT = Path(__file__).parents[1]
TINY = ["--gpu-device", "cpu", "--gpu-size", "tiny", "--gpu-tokens", "8", "8"]
SETTINGS = Settings("cpu", "tiny", "transformers", 24.0, None, None, 8, 8)
TITLES = [
    "it runs", "time", "resume", "logit chunks", "peak memory", "batching pays", "ways of generating",
    "padding is right", "the adapter is live",
]  # fmt: skip
"""In the order in which they are measured: the last five with the policy in their own process."""

Whole = tuple[subprocess.CompletedProcess[str], Path]


def words(out: Path, *arguments: str) -> list[str]:
    return ["-rs", "-p", "no:cacheprovider", "-m", "gpu", "tests/gpu", *TINY, "--gpu-out", str(out), *arguments]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, nursery: Nursery) -> Whole:
    """All of them, by the command that measures on a GPU."""
    out = tmp_path_factory.mktemp("gpu")
    return nursery.run(*words(out), program="pytest"), out


def measured(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = measurements.read(out / "measurements.json")["rows"]
    return found


def test_every_row_is_measured_in_order_printed_and_as_it_should_be(whole: Whole) -> None:
    done, out = whole
    found = {title: entry["status"] for title, entry in measured(out).items()}
    assert list(found.items()) == [(title, "skipped" if title == "logit chunks" else "passed") for title in TITLES], (
        done.stdout
    )
    assert done.returncode == 0, done.stdout
    assert (out / "logs" / "steps.traces").exists()
    assert measurements.markdown(measured(out)) in done.stdout
    assert measured(out)["logit chunks"]["summary"] == "only Unsloth on a GPU computes logits in chunks"


def test_rows_say_where_when_and_with_what(whole: Whole) -> None:
    for entry in measured(whole[1]).values():
        assert Version(entry["versions"]["torch"]).public == Version(torch.__version__).public
        assert entry["machine"]["cpu"]
        assert "--gpu-device cpu --gpu-size tiny" in entry["command"]
        assert entry["date"].startswith("20")


def test_the_rows_hold_figures_that_were_measured(whole: Whole) -> None:
    found = {title: entry.get("figures") for title, entry in measured(whole[1]).items()}
    assert len(found["it runs"]["metrics"]) == 3
    for line in found["it runs"]["metrics"]:  # a few of the random replies end by themselves
        assert 64 < line["tokens"]["openings"] <= 16 * 8
        assert 512 < line["tokens"]["futures"] <= 16 * 4 * 2 * 8
    memory, padding, resume = found["peak memory"], found["padding is right"], found["resume"]
    assert set(memory["measured_bytes"]) == {"load", "openings", "futures", "update"}
    assert set(memory["planned_bytes"]) == set(memory["measured_bytes"])
    assert 0 < memory["longest_prompt_tokens"] <= memory["planned_prompt_tokens"]
    assert found["batching pays"]["replies_by_round"] == [64, 64]
    assert {"engine", "the model's generate"} < found["ways of generating"].keys()
    assert padding["share_of_identical_tokens"] == 1.0
    assert padding["prompt_tokens"] == sorted(set(padding["prompt_tokens"]))
    assert found["the adapter is live"]["model_was_in_train_mode"] is True
    assert (resume["stopped_after"] in (1, 2), resume["state_equal_bit_by_bit"]) == (True, True), (
        "1: while it was saved"
    )
    assert resume["largest_adapter_weight_moved"] > 0


def test_the_markdown_is_made_from_the_file_alone(whole: Whole) -> None:
    path = whole[1] / "measurements.json"
    command = [sys.executable, "-m", "tests.gpu.measurements", str(path)]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [line.split(" | ")[0].removeprefix("| ") for line in printed.splitlines()] == TITLES
    assert printed.splitlines()[3].startswith("| logit chunks | skipped: only Unsloth")


def test_rows_that_are_done_are_not_measured_again_unless_asked(whole: Whole, nursery: Nursery, tmp_path: Path) -> None:
    out = tmp_path / "gpu"
    shutil.copytree(whole[1], out)
    before = measured(out)
    done = nursery.run(*words(out), program="pytest")
    assert (done.returncode, "9 skipped" in done.stdout, "--gpu-again repeats it" in done.stdout) == (0, True, True)
    assert measured(out) == before
    again = nursery.run(*words(out, "-k", "time", "--gpu-again"), program="pytest")
    assert again.returncode == 0, again.stdout
    assert [title for title in TITLES if measured(out)[title] != before[title]] == ["time"]


def test_a_run_that_fails_says_why_and_goes_on_with_what_is_missing(
    whole: Whole, nursery: Nursery, tmp_path: Path
) -> None:
    shutil.copytree(whole[1] / "model", tmp_path / "model")
    arguments = ["--gpu-data", str(tmp_path / "missing.jsonl"), "-k", "runs or time or padding"]
    done = nursery.run(*words(tmp_path, *arguments), program="pytest")
    found = measured(tmp_path)
    assert done.returncode == 1
    assert {title: entry["status"] for title, entry in found.items()} == {
        "it runs": "failed", "time": "failed", "padding is right": "passed",
    }  # fmt: skip
    assert "missing.jsonl: is neither a known data set" in " ".join(found["it runs"]["summary"].split())
    assert "CheckError" in found["it runs"]["error"]
    assert "| time | failed: tests.gpu.bench.CheckError" in measurements.markdown(found)


def test_what_is_measured_stays_when_a_call_is_cut_off(whole: Whole, tmp_path: Path) -> None:
    shutil.copytree(whole[1] / "model", tmp_path / "model")
    asked = [sys.executable, "-m", "pytest", *words(tmp_path, "-k", "padding or adapter")]
    with subprocess.Popen(asked, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not (tmp_path / "measurements.json").exists():
            time.sleep(0.1)
        process.terminate()
        printed, _ = process.communicate()
    assert process.returncode == pytest.ExitCode.INTERRUPTED, printed
    assert {title: entry["status"] for title, entry in measured(tmp_path).items()} == {"padding is right": "passed"}
    assert "| padding is right |" in printed


@pytest.fixture(scope="module")
def bench(whole: Whole) -> Bench:
    """The model and the runs of the whole table, for rows that are called here."""
    made = Bench(SETTINGS, whole[1])
    assert made.loaded.policy.device_type == "cpu"
    return made


def test_the_padding_row_fails_an_engine_whose_rows_see_beyond_their_ends(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unmasked(batch: Any, positions: torch.Tensor, columns: int) -> torch.Tensor:
        return torch.zeros(*positions.shape, len(batch._columns[:columns]))

    assert rows.padding(bench).passed
    monkeypatch.setattr(batch.Batch, "_mask", unmasked)
    assert not rows.padding(bench).passed


def test_the_padding_row_fails_a_wide_call_that_sees_its_padding(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = bench.loaded.policy

    def unmasked(**inputs: Any) -> Any:
        return generate(**inputs | {"attention_mask": torch.ones_like(inputs["attention_mask"])})

    monkeypatch.setattr(policy, "engine", None)  # as a model of Unsloth's
    generate = policy.model.generate
    assert rows.padding(bench).passed
    monkeypatch.setattr(policy.model, "generate", unmasked)
    assert not rows.padding(bench).passed


def test_the_lora_row_fails_a_policy_that_writes_with_its_base_model(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = bench.loaded.policy
    generate = policy.generate

    def of_the_base(*arguments: Any, **named: Any) -> Any:
        with policy.model.disable_adapter():
            return generate(*arguments, **named)

    monkeypatch.setattr(policy, "generate", of_the_base)
    finding = rows.lora_is_live(bench)
    assert not finding.passed
    assert finding.figures["mean_log_probability_differences"]["trained"] == 0


def test_the_resume_row_fails_a_run_that_went_another_way(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "stopped"
    shutil.copytree(bench.out / "runs" / "stopped", other)
    lines = (other / "rollouts.jsonl").read_text().splitlines()
    index = next(index for index, line in enumerate(lines) if json.loads(line)["step"] == 3)
    lines[index] = json.dumps(json.loads(lines[index]) | {"gold": "another"})
    (other / "rollouts.jsonl").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(bench, "train_with_a_stop", lambda *_, **__: (RunDirectory(other), 2))
    finding = rows.resume(bench)
    assert not finding.passed
    assert finding.summary.endswith("different from a run that was not stopped: rollouts")


def test_the_resume_row_fails_a_state_that_was_loaded_otherwise(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    states = bench.out / "runs" / "stopped.states"
    lines = [line.split() for line in states.read_text().splitlines()]
    monkeypatch.setattr(bench, "train_with_a_stop", lambda *_, **__: (RunDirectory(bench.out / "runs" / "stopped"), 2))
    assert rows.resume(bench).passed
    states.write_text("\n".join(" ".join(pair) for pair in [*lines[:2], (lines[0][0], lines[2][1])]))
    finding = rows.resume(bench)
    assert not finding.passed
    assert "otherwise than they were left" in finding.summary


def test_a_digest_tells_any_two_states_apart() -> None:
    weight = torch.nn.Parameter(torch.zeros(3, dtype=torch.bfloat16))
    optimizer = torch.optim.AdamW([weight], lr=0.1)
    found = [digest(optimizer)]
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    found += [digest(optimizer), digest(optimizer)]
    optimizer.state[weight]["exp_avg"][1] += 0.01
    found.append(digest(optimizer))
    assert found[1] == found[2]
    assert len(set(found)) == 3


def test_a_run_that_was_cut_off_goes_on_where_it_was(
    whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(whole[1] / "runs" / "steps", tmp_path / "runs" / "steps")
    shutil.rmtree(tmp_path / "runs" / "steps" / "adapter")
    cut_off = Bench(SETTINGS, tmp_path)
    commands: list[list[str]] = []
    monkeypatch.setattr(cut_off, "_python", lambda name, command, *_, **__: commands.append(command))
    with pytest.raises(CheckError, match="is not complete"):
        rows.three_steps(cut_off)
    assert [command[2:] for command in commands] == [["--resume", "--out", str(tmp_path / "runs" / "steps")]]


def test_measurements_of_other_settings_are_not_mixed(whole: Whole, nursery: Nursery) -> None:
    done = nursery.run(*words(whole[1], "--gpu-memory-gib", "12"), program="pytest")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "choose another --gpu-out" in done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_without_a_gpu_it_says_so_at_once(nursery: Nursery, tmp_path: Path) -> None:
    done = nursery.run(*words(tmp_path, "--gpu-device", "cuda"), program="pytest")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--gpu-device cpu --gpu-size tiny" in done.stderr


def test_nothing_is_imported_before_unsloth() -> None:
    probe = "import sys, tests.gpu.test_gpu; sys.exit(sorted({'torch', 'transformers', 'trl'} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_measurements_page_has_each_row() -> None:
    page = (ROOT / "docs" / "measurements.md").read_text()
    assert [title for title in TITLES if f"| {title} |" not in page or f"- **{title}**" not in page] == []


def test_the_stand_in_reward_tells_any_two_texts_apart() -> None:
    assert any_text(opening("a", ["b"])) != any_text(opening("a", ["c"]))
