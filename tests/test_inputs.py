"""What a run stands on: problems, benchmarks and weights that change under their names are noticed, never mixed."""

import io
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from motif_lite.errors import RunError
from motif_lite.evaluation.benchmarks import agree, is_complete
from motif_lite.jobs import checking, train_job
from motif_lite.nouns import Problem
from motif_lite.runs import inputs
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.parts import Parts
from motif_lite.runs.records import MeasuredPart, PartsHeader, Subject
from motif_lite.views.tables import print_closing
from tests.fakes import RecordingObserver

ROOT = Path(__file__).parents[1]
TINY = ROOT / "recipes" / "tiny_cpu.toml"
GREEDY = Subject("two", "multi_round", "greedy")


def rows(path: Path, golds: Sequence[int]) -> Path:
    lines = [{"question": f"a{n}b4=", "answer": str(gold)} for n, gold in enumerate(golds)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def changes(folder: Path, model: Path) -> list[str]:
    return [
        f'model.name="{model}"', f'data.train="{folder / "train.jsonl"}"', "lora.rank=4", "rollout.num_rounds=2",
        "rollout.num_openings=2", "rollout.num_futures=1", "rollout.openings.max_tokens=4",
        "rollout.futures.max_tokens=4", "training.problems_per_step=1", "training.micro_batch_size=2",
        "training.max_steps=1", 'evaluation.strategies=["multi_round"]', "evaluation.num_samples=0",
        f'evaluation.benchmarks={{two={{source="{folder / "two.jsonl"}"}}}}',
    ]  # fmt: skip


def perform(out: Path, given: Sequence[str] = (), recipe: Path | None = None, **how: Any) -> list[str]:
    """Perform a job; what it noted."""
    observer = RecordingObserver()
    train_job.job(recipe, given, out, **how).perform(observer)
    return observer.notes


@pytest.fixture(scope="module")
def finished(qwen_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, problems, and the run that was trained and measured on them."""
    folder = tmp_path_factory.mktemp("inputs")
    shutil.copytree(qwen_folder, folder / "model")
    rows(folder / "train.jsonl", [4, 5, 6])
    rows(folder / "two.jsonl", [4, 5])
    perform(folder / "run", changes(folder, folder / "model"), TINY)
    return folder


@pytest.fixture
def again(finished: Path) -> Iterator[Path]:
    """The same folder, put back as it was afterwards; the run's paths name it."""
    kept = finished.with_name("kept")
    shutil.copytree(finished, kept)
    yield finished
    shutil.rmtree(finished)
    kept.rename(finished)


LONGER = ["training.max_steps=2"]


def test_a_run_keeps_the_sums_of_what_it_stands_on(finished: Path) -> None:
    found = inputs.kept(finished / "run")
    assert found is not None
    assert found.validation is None
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= found.model.keys()
    measured = RunDirectory(finished / "run").evaluation().measurements
    assert {each.settings.problems is None for each in measured if each.settings} == {False}
    before, after = (next(each for each in measured if each.when == when) for when in ("before", "after"))
    assert before.settings == after.settings
    assert before.policy != after.policy


def test_nothing_has_changed_so_nothing_is_refused_or_measured_again(again: Path) -> None:
    assert not [note for note in perform(again / "run", LONGER, resume=True) if "again" in note]


def test_other_training_problems_are_refused(again: Path) -> None:
    rows(again / "train.jsonl", [4, 5, 7])
    with pytest.raises(RunError, match=r"the problems of data\.train have changed since the run was started"):
        perform(again / "run", LONGER, resume=True)


@pytest.mark.parametrize("how", ["resume", "evaluate_only"])
def test_other_weights_are_refused(again: Path, how: str) -> None:
    weights = again / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(RunError, match=r"has changed since the run was started \(model\.safetensors\)"):
        resumes = how == "resume"
        perform(again / "run", LONGER if resumes else [], resume=resumes, evaluate_only=not resumes)


def test_another_chat_template_is_refused_and_another_readme_is_not(again: Path) -> None:
    (again / "model" / "README.md").write_text("read me")
    perform(again / "run", evaluate_only=True)
    template = again / "model" / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    with pytest.raises(RunError, match=r"\(chat_template\.jinja\)"):
        perform(again / "run", evaluate_only=True)


def test_a_benchmark_whose_golds_were_corrected_is_measured_again_and_pairs_with_nothing_older(again: Path) -> None:
    rows(again / "two.jsonl", [4, 8])
    notes = perform(again / "run", evaluate_only=True)
    assert [note for note in notes if "the problems have changed" in note and "before" in note]
    assert [note for note in notes if "the problems have changed" in note and "after" in note]
    run = RunDirectory(again / "run")
    assert [graded.gold for graded in run.graded(GREEDY, "before")] == ["4", "8"]
    assert [graded.gold for graded in run.graded(GREEDY, "after")] == ["4", "8"]


def test_another_adapter_is_measured_again(again: Path) -> None:
    run = RunDirectory(again / "run")
    earlier = next(each for each in run.evaluation().measurements if each.when == "after")
    newest = run.newest_checkpoint()
    assert newest is not None
    for path in run.adapter.iterdir():
        path.unlink()
    from safetensors.torch import load_file, save_file

    weights = load_file(newest[0] / "adapter_model.safetensors")
    save_file({name: weight + 1 for name, weight in weights.items()}, run.adapter / "adapter_model.safetensors")
    notes = perform(again / "run", evaluate_only=True)
    assert [note for note in notes if "the adapter has changed" in note]
    assert next(each for each in run.evaluation().measurements if each.when == "after").policy != earlier.policy


def test_a_measurement_goes_on_with_the_same_problems_only(finished: Path, tmp_path: Path) -> None:
    measured = RunDirectory(finished / "run").evaluation().find(GREEDY, "before")
    assert measured is not None and measured.settings is not None
    graded = tuple(RunDirectory(finished / "run").graded(GREEDY, "before"))
    header = PartsHeader(settings=measured.settings, width=8, policy="a")
    Parts(tmp_path / "x.jsonl", header).add(MeasuredPart(seconds=1.0, peak_memory_bytes=1, graded=graded))
    assert len(Parts(tmp_path / "x.jsonl", header).graded) == 2
    wider = header.settings.model_copy(update={"confidence": 0.99})
    assert len(Parts(tmp_path / "x.jsonl", header.model_copy(update={"settings": wider})).graded) == 2, "it is no part"
    other = Parts(tmp_path / "x.jsonl", header.model_copy(update={"policy": "b"}))
    assert (other.graded, other.num_dropped) == ([], 1)


def test_settings_of_an_earlier_version_are_compared_by_what_it_kept(finished: Path) -> None:
    run = RunDirectory(finished / "run")
    settings = run.evaluation().measurements[0].settings
    assert settings is not None
    older = settings.model_copy(update={"problems": None})
    assert agree(settings, older) and agree(older, settings)
    assert not agree(settings, settings.model_copy(update={"problems": "other"}))
    assert not agree(older, settings.model_copy(update={"confidence": 0.5}))
    assert settings.prompts is not None
    before_prompts = settings.model_copy(update={"prompts": None})
    reworded = settings.model_copy(update={"prompts": {**settings.prompts, "system_prompt": "Think."}})
    assert agree(settings, before_prompts) and agree(before_prompts, reworded)
    assert not agree(settings, reworded)
    assert is_complete(run.resolved(checking.TABLES), run)


def test_a_run_of_an_earlier_version_is_taken_as_it_is_and_recorded_from_then_on(again: Path) -> None:
    (again / "run" / inputs.FILE).unlink()
    rows(again / "train.jsonl", [4, 5, 7])
    perform(again / "run", LONGER, resume=True)
    assert inputs.kept(again / "run") is not None


def test_a_finished_run_says_that_its_problems_have_changed(again: Path) -> None:
    changed = "the problems of data.train have changed since the run was started"
    for golds, number in ([4, 5, 6], 0), ([4, 5, 7], 1):
        rows(again / "train.jsonl", golds)
        notes = perform(again / "run", resume=True)
        assert any("this run is finished" in note for note in notes)
        assert sum(changed in note for note in notes) == number


def test_a_folder_that_was_only_evaluated_can_be_trained_and_keeps_what_was_measured(finished: Path) -> None:
    given, out = changes(finished, finished / "model"), finished / "evaluated"
    perform(out, given, TINY, evaluate_only=True)
    [before] = RunDirectory(out).evaluation().measurements
    assert not inputs.knows_problems(out)
    with pytest.raises(RunError, match="continue that run with --resume"):
        train_job.job(TINY, given, out)
    perform(out, given, TINY, resume=True)
    run, whole = RunDirectory(out), RunDirectory(finished / "run")
    assert inputs.kept(out) == inputs.kept(whole.root)
    assert run.evaluation().measurements[0] == before, "nothing was measured twice"
    assert [each.when for each in run.evaluation().measurements] == ["before", "after"]
    assert run.rollouts() == whole.rollouts()


def test_the_report_of_what_was_only_evaluated_does_not_finish_the_training_there(finished: Path) -> None:
    given, out = [*changes(finished, finished / "model"), *LONGER], finished / "reported"
    perform(out, given, TINY, evaluate_only=True)
    run, printed = RunDirectory(out), io.StringIO()
    assert run.report.exists()
    perform(out, given, TINY, resume=True, pause_at=0.5)
    assert not run.report.exists()
    print_closing(Console(file=printed, width=200), run.resolved(checking.TABLES), run)
    assert f"next      python run.py --resume --out {out}" in printed.getvalue()
    assert not [note for note in perform(out, resume=True) if "this run is finished" in note]
    assert run.report.exists()


def test_a_folder_that_measures_somebodys_adapter_is_not_trained(finished: Path) -> None:
    given, out = changes(finished, finished / "model"), finished / "somebodys"
    perform(out, given, TINY, evaluate_only=True, adapter=str(finished / "run" / "adapter"))
    with pytest.raises(
        RunError, match=r"measures the adapter that --adapter named.* in another --out, with the same --recipe"
    ):
        train_job.job(None, [], out, resume=True)


def test_the_sum_of_problems_tells_questions_answers_names_and_their_order_apart() -> None:
    one, two = Problem("a/1", "1+1?", "2"), Problem("a/2", "2+2?", "4")
    sums = [
        inputs.of_problems(each)
        for each in (
            [one, two], [two, one], [one], [replace(one, gold="3"), two], [replace(one, question="1+1"), two],
            [replace(one, id="b/1"), two], [],
        )
    ]  # fmt: skip
    assert len(set(sums)) == len(sums)
    assert inputs.of_problems([one, two]) == sums[0]


def test_an_adapters_sums_are_those_of_its_base_too(qwen_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(qwen_folder)}))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    seen: list[tuple[int, int]] = []
    found = inputs.of_model(str(tmp_path), lambda done, total: seen.append((done, total)))
    assert {"adapter_model.safetensors", "adapter_config.json", "base/model.safetensors"} <= found.keys()
    assert seen[-1][0] == seen[-1][1]


def test_the_day_that_a_template_writes_is_kept_with_the_run(finished: Path, tmp_path: Path) -> None:
    """TRL renders openings by itself, with the same day, and pickles what it is given."""
    shutil.copytree(finished / "model", tmp_path / "model")
    template = tmp_path / "model" / "chat_template.jinja"
    template.write_text("{{ strftime_now('%d.%m.%Y %H:%M') }}" + template.read_text())
    for name in ("train.jsonl", "two.jsonl"):
        shutil.copy(finished / name, tmp_path)
    out = tmp_path / "run"
    perform(out, [*changes(tmp_path, tmp_path / "model"), "evaluation.benchmarks={}"], TINY)
    run = RunDirectory(out)
    day = run.resolved(checking.TABLES).model.template_date
    year, month, date = day.split("-")
    assert {line.opening.prompt[:16] for line in run.rollouts()} == {f"{date}.{month}.{year} 00:00"}
    settings = json.loads((out / "resolved.json").read_text())
    settings["model"]["template_date"] = "2024-05-06"
    (out / "resolved.json").write_text(json.dumps(settings))
    perform(out, LONGER, resume=True)
    assert [line.opening.prompt[:16] for line in run.rollouts()][-1] == "06.05.2024 00:00"
