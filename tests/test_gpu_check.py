"""gpu_check.py in its CPU mode: what a GPU will run, at tiny size, so that it does not fail there for a typo."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.version import Version

from benchmarks import gpu_check, rows
from benchmarks.any_reward import any_text, registered
from benchmarks.bench import Bench, CheckError
from benchmarks.rows import ROWS, Finding, Row
from motif_lite.policies.engine import engine
from motif_lite.rollout.rewards import REWARDS
from motif_lite.runs.directory import RunDirectory
from tests.fakes import opening

ROOT = Path(__file__).parents[1]
TINY = ["--device", "cpu", "--size", "tiny", "--limits", "8", "8"]
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "UNSLOTH_DISABLE_STATISTICS",
           "HF_HUB_DISABLE_PROGRESS_BARS", "TRANSFORMERS_VERBOSITY")  # fmt: skip


@pytest.fixture(autouse=True)
def environment_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OFFLINE:
        monkeypatch.setenv(name, "error" if name.endswith("VERBOSITY") else "1")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """The whole table by the real command, from another folder and without installation."""
    out = tmp_path_factory.mktemp("gpu_check")
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu_check.py"), *TINY, "--out", "measured", "--markdown"]
    return subprocess.run(command, cwd=out, capture_output=True, text=True, check=False), out / "measured"


def results(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / "results.json").read_text()))


@pytest.mark.versions
def test_every_row_is_measured_printed_and_as_it_should_be(
    whole: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    done, out = whole
    found = {name: (row["status"], row["summary"]) for name, row in results(out)["rows"].items()}
    expected = dict.fromkeys(ROWS, "passed") | {"logit_chunks": "not applicable"}
    assert {name: status for name, (status, _) in found.items()} == expected, found
    assert done.returncode == 0, done.stderr
    table = done.stdout.rpartition("what was found")[2]
    assert [row.title for row in ROWS.values() if row.title not in table] == []
    assert "not measured" not in table


@pytest.mark.versions
def test_results_say_where_when_and_with_what(whole: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    for row in results(whole[1])["rows"].values():
        noted, imported = Version(row["versions"]["torch"]), Version(torch.__version__)
        assert noted.public == imported.public, "metadata of the ordinary CUDA wheel lacks its local version"
        assert row["machine"]["cpu"]
        assert "gpu_check.py --device cpu --size tiny" in row["command"]
        assert row["date"].startswith("20")


def test_the_rows_hold_figures_that_were_measured(whole: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    found = {name: row.get("figures") for name, row in results(whole[1])["rows"].items()}
    assert len(found["steps"]["metrics"]) == 3
    for line in found["steps"]["metrics"]:  # a few of the random replies end by themselves
        assert 32 < line["tokens"]["openings"] <= 8 * 8
        assert 256 < line["tokens"]["futures"] <= 8 * 4 * 2 * 8
    assert set(found["memory"]["measured_bytes"]) == {"load", "openings", "futures", "update"}
    assert set(found["memory"]["planned_bytes"]) == set(found["memory"]["measured_bytes"])
    assert 0 < found["memory"]["longest_prompt_tokens"] <= found["memory"]["planned_prompt_tokens"]
    assert found["batching"]["replies_by_round"] == [32, 32]
    assert found["padding"]["share_of_identical_tokens"] == 1.0
    assert found["padding"]["prompt_tokens"] == sorted(set(found["padding"]["prompt_tokens"]))
    assert found["lora"]["model_was_in_train_mode"] is True
    assert found["resume"]["stopped_after"] == 2
    assert found["resume"]["largest_adapter_weight_moved"] > 0


def test_rows_that_are_done_are_not_done_again_unless_asked(
    whole: tuple[subprocess.CompletedProcess[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, out = whole
    before = results(out)["rows"]
    with counted(monkeypatch) as calls:
        assert gpu_check.main([*TINY, "--out", str(out)]) == 0
        assert calls == []
        assert gpu_check.main([*TINY, "--out", str(out), "--only", "time", "padding", "--again"]) == 0
        assert calls == ["time", "padding"]
    after = results(out)["rows"]
    assert [name for name in ROWS if after[name] != before[name]] == ["time", "padding"]


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch, **failing: Exception) -> Iterator[list[str]]:
    """Rows that only note that they were called, or fail."""
    calls: list[str] = []

    def stand_in(name: str) -> Row:
        def measure(bench: Bench) -> Finding:
            calls.append(name)
            if name in failing:
                raise failing[name]
            return Finding(f"{name} measured", True, {})

        return replace(ROWS[name], measure=measure)

    with monkeypatch.context() as patch:
        for name in list(ROWS):
            patch.setitem(ROWS, name, stand_in(name))
        yield calls


def test_only_the_rows_that_are_named_are_measured_and_all_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with counted(monkeypatch) as calls:
        assert gpu_check.main([*TINY, "--out", str(tmp_path), "--only", "resume", "steps"]) == 0
    assert calls == ["steps", "resume"]
    printed = capsys.readouterr().out
    assert [row.title for row in ROWS.values() if row.title not in printed] == []
    assert printed.count("not measured") == len(ROWS) - 2
    assert list(results(tmp_path)["rows"]) == ["steps", "resume"]


def test_rows_that_take_the_gpu_for_this_process_come_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with counted(monkeypatch) as calls:
        gpu_check.main([*TINY, "--out", str(tmp_path)])
    assert [ROWS[name].in_process for name in calls] == sorted(row.in_process for row in ROWS.values())
    assert calls[-1] == "lora", "it leaves a changed adapter behind"


def test_a_row_that_fails_is_recorded_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with counted(monkeypatch, time=RuntimeError("out of [memory]"), padding=rows.NotApplicable("no")) as calls:
        assert gpu_check.main([*TINY, "--out", str(tmp_path)]) == 1
    assert sorted(calls) == sorted(ROWS)
    found = results(tmp_path)["rows"]
    assert found["time"]["status"] == "failed"
    assert found["time"]["summary"] == "RuntimeError: out of [memory]"
    assert "Traceback" in found["time"]["error"]
    assert found["padding"]["status"] == "not applicable"
    assert "out of [memory]" in capsys.readouterr().out
    with counted(monkeypatch) as calls:  # the next call tries what failed, and nothing else
        assert gpu_check.main([*TINY, "--out", str(tmp_path)]) == 0
    assert calls == ["time"]


def test_what_is_done_stays_when_a_call_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cut_off: Any = KeyboardInterrupt()
    with counted(monkeypatch, resume=cut_off), pytest.raises(KeyboardInterrupt):
        gpu_check.main([*TINY, "--out", str(tmp_path)])
    assert list(results(tmp_path)["rows"]) == ["steps", "time"]
    assert "LoRA is live" in capsys.readouterr().out, "the table is printed all the same"


def test_a_run_that_fails_says_why_and_rows_without_it_pass(
    whole: tuple[subprocess.CompletedProcess[str], Path], tmp_path: Path
) -> None:
    shutil.copytree(whole[1] / "model", tmp_path / "model")
    data = ["--data", str(tmp_path / "missing.jsonl"), "--only", "steps", "padding"]
    assert gpu_check.main([*TINY, "--out", str(tmp_path), *data]) == 1
    found = results(tmp_path)["rows"]
    assert found["steps"]["status"] == "failed"
    assert "missing.jsonl: is neither a known data set" in " ".join(found["steps"]["summary"].split())
    assert found["padding"]["status"] == "passed"


@pytest.fixture(scope="module")
def bench(whole: tuple[subprocess.CompletedProcess[str], Path]) -> Bench:
    """The model and the runs of the whole table, for rows that are called here."""
    made = Bench(gpu_check._settings(gpu_check._parsed(TINY)), whole[1])
    with registered():
        assert made.loaded.policy.device_type == "cpu"
    return made


def test_the_padding_row_fails_an_engine_whose_rows_see_beyond_their_ends(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unmasked(batch: Any, positions: torch.Tensor, columns: int) -> torch.Tensor:
        return torch.zeros(*positions.shape, len(batch._columns[:columns]))

    assert rows.padding(bench).passed
    monkeypatch.setattr(engine._Batch, "_mask", unmasked)
    assert not rows.padding(bench).passed


def test_the_padding_row_fails_a_wide_call_that_sees_its_padding(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = bench.loaded.policy

    def unmasked(**inputs: Any) -> Any:
        return generate(**inputs | {"attention_mask": torch.ones_like(inputs["attention_mask"])})

    monkeypatch.setattr(policy, "engine", None)  # as a model of Unsloth's
    monkeypatch.delattr(policy.model, "generate")  # which was the engine's
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
    with registered():
        finding = rows.lora_is_live(bench)
    assert not finding.passed
    assert finding.figures["mean_log_probability_differences"]["trained"] == 0


@pytest.mark.parametrize(("step", "words"), [(3, "rollouts differ"), (1, "says nothing of resuming")])
def test_the_resume_row_fails_a_run_that_went_another_way(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, words: str
) -> None:
    other = tmp_path / "stopped"
    shutil.copytree(bench.out / "runs" / "stopped", other)
    lines = (other / "rollouts.jsonl").read_text().splitlines()
    index = next(index for index, line in enumerate(lines) if json.loads(line)["step"] == step)
    lines[index] = json.dumps(json.loads(lines[index]) | {"gold": "another"})
    (other / "rollouts.jsonl").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(bench, "train_with_a_stop", lambda *_, **__: (RunDirectory(other), 2))
    with registered():
        finding = rows.resume(bench)
    assert not finding.passed
    assert words in finding.summary


def test_a_run_that_was_cut_off_goes_on_where_it_was(
    whole: tuple[subprocess.CompletedProcess[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(whole[1] / "runs" / "steps", tmp_path / "runs" / "steps")
    shutil.rmtree(tmp_path / "runs" / "steps" / "adapter")
    cut_off = Bench(gpu_check._settings(gpu_check._parsed(TINY)), tmp_path)
    commands: list[list[str]] = []
    monkeypatch.setattr(cut_off, "_python", lambda name, command, *_, **__: commands.append(command))
    with pytest.raises(CheckError, match="is not complete"):
        rows.three_steps(cut_off)
    assert [command[1:] for command in commands] == [["--resume", "--out", str(tmp_path / "runs" / "steps")]]
    assert cut_off.was_resumed("steps"), "it cannot stand for a run that was not stopped"


def test_results_of_other_settings_are_not_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with counted(monkeypatch) as calls:
        gpu_check.main([*TINY, "--out", str(tmp_path), "--only", "steps"])
        with pytest.raises(SystemExit) as refused:
            gpu_check.main([*TINY, "--out", str(tmp_path), "--memory-gib", "12"])
    assert refused.value.code == 2
    assert "choose another --out" in capsys.readouterr().err
    assert calls == ["steps"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_without_a_gpu_it_says_so_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        gpu_check.main(["--out", str(tmp_path)])
    assert refused.value.code == 2
    assert "--device cpu --size tiny" in capsys.readouterr().err


def test_the_measurements_page_has_a_row_for_each_of_the_table() -> None:
    page = (ROOT / "docs" / "measurements.md").read_text()
    assert [row.title for row in ROWS.values() if f"| {row.title} |" not in page] == []


def test_the_stand_in_reward_tells_any_two_texts_apart_and_does_not_stay() -> None:
    assert any_text(opening("a", ["b"])) != any_text(opening("a", ["c"]))
    with registered():
        assert REWARDS["any_text"] is any_text
    assert "any_text" not in REWARDS
