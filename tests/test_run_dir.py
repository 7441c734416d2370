"""The files of a run: nothing is overwritten, half-written lines are survived, wrong folders are named."""

import json
import os
from pathlib import Path

import pytest

from motif_lite.errors import RecipeError, RunError
from motif_lite.jobs import checking
from motif_lite.paths import cache_folder
from motif_lite.recipe.schema import Recipe
from motif_lite.runs import selection
from motif_lite.runs.costs import Cost
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.folders import free_folder, newest_run, require_free
from motif_lite.runs.records import Evaluation, Subject
from motif_lite.runs.resuming import check_resumable, with_decisions_of
from tests import records

RECIPE = Path(__file__).parents[1] / "recipes" / "tiny_cpu.toml"


def recipe(*changes: str) -> Recipe:
    return checking.check(RECIPE, changes)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "runs" / "one", recipe(), RECIPE.read_text())


def test_a_new_run_keeps_the_recipe_as_given_and_as_understood(run: RunDirectory) -> None:
    assert (run.root / "recipe.toml").read_text() == RECIPE.read_text()
    assert RunDirectory.open(run.root).resolved(checking.TABLES) == recipe()
    assert run.resolved(checking.TABLES, ["seed=9"]) == recipe("seed=9")
    assert (run.metrics(), run.rollouts()) == ([], [])
    assert run.evaluation().measurements == ()
    assert run.newest_checkpoint() is None
    assert not run.is_trained(recipe().training)


def test_a_folder_in_use_is_never_overwritten(run: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not empty; continue that run with --resume"):
        RunDirectory.create(run.root, recipe(), "")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunError, match="is not empty"):
        require_free(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    require_free(tmp_path / "empty")
    require_free(tmp_path / "gone")


@pytest.mark.parametrize("name", ["file/run", "a" * 300])
def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        RunDirectory.create(tmp_path / name, recipe(), "")


def test_default_folders_are_numbered_and_the_newest_run_is_found(tmp_path: Path) -> None:
    base = tmp_path / "tiny"
    assert newest_run(base) is None
    for number, name in enumerate(["tiny", "tiny-2", "tiny-3"]):
        folder = free_folder(base)
        assert folder.name == name
        RunDirectory.create(folder, recipe(), "")
        os.utime(folder / "resolved.json", (number, number))
    for name in ("tiny-old", "tiny-4", "tinytiny"):
        (tmp_path / name).mkdir()
    for other in ("tiny-old", "tinytiny"):
        (tmp_path / other / "resolved.json").write_text("{}")
    assert newest_run(base) == tmp_path / "tiny-3"
    assert free_folder(base).name == "tiny-5"


def test_lines_come_back_whatever_a_reply_holds(run: RunDirectory) -> None:
    text = "\ud800 \u2028 \x85 \x00 \n {}"
    lines = [records.rollout(1, question=text), records.rollout(2, gold=text)]
    run.append_rollouts(lines)
    run.append_rollouts([records.rollout(3)])
    assert run.rollouts() == [*lines, records.rollout(3)]
    assert run.rollouts_of(2) == lines[1:]
    subject, replies = Subject("mine", "multi_round", "greedy"), [records.graded(replies=(text,))]
    assert run.graded(subject, "before") == []
    run.write_graded(subject, "before", replies)
    assert run.graded(subject, "before") == replies
    assert run.graded_path(subject, "before").name == "mine.before.multi_round.greedy.jsonl"


def test_every_line_names_the_version_of_its_format_and_leaves_out_what_it_has_not(run: RunDirectory) -> None:
    run.append_metrics(records.step(1))
    line = (run.root / "metrics.jsonl").read_text()
    assert line.startswith('{"version": 2, "step": 1, "reward": 1.0')
    assert '"loss":' not in line
    assert "null" not in line


def test_a_line_cut_off_in_mid_write_is_not_read_and_resuming_drops_it(run: RunDirectory) -> None:
    for step in (1, 2, 3):
        run.append_metrics(records.step(step))
        run.append_rollouts([records.rollout(step, problem=str(row)) for row in (1, 2)])
    with (run.root / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "rew')
    assert [line.step for line in run.metrics()] == [1, 2, 3]
    run.forget_after(2)
    assert [json.loads(line)["step"] for line in (run.root / "metrics.jsonl").read_text().splitlines()] == [1, 2]
    assert [line.step for line in run.rollouts()] == [1, 1, 2, 2]
    run.forget_after(0)
    assert (run.metrics(), run.rollouts()) == ([], [])


def checkpoint(run: RunDirectory, step: int, content: str = "state", keep: int = 9, every: int = 1) -> Path:
    folder = run.unfinished / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "trainer_state.json").write_text(content)
    run.keep_checkpoint(step, keep, every)
    return run.checkpoints / folder.name


def test_the_newest_checkpoint_is_found_by_number(run: RunDirectory) -> None:
    for step in (9, 10):
        checkpoint(run, step)
    for name in ("checkpoint-x", "tmp-checkpoint-12"):
        (run.checkpoints / name).mkdir()
    assert run.newest_checkpoint() == (run.checkpoints / "checkpoint-10", 10)


def test_a_checkpoint_that_is_not_sealed_yet_does_not_count(run: RunDirectory) -> None:
    (run.unfinished / "checkpoint-3").mkdir(parents=True)
    assert run.newest_checkpoint() is None
    run.clear_unfinished()
    assert not run.unfinished.exists()


def test_old_checkpoints_go_when_the_new_one_is_sealed(run: RunDirectory) -> None:
    for step in (1, 2, 3):
        checkpoint(run, step, keep=2)
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["checkpoint-2", "checkpoint-3"]


def test_checkpoints_by_time_do_not_push_out_those_of_every_so_many_steps(run: RunDirectory) -> None:
    for step in (3, 5, 6, 7, 9, 10, 11):
        checkpoint(run, step, keep=2, every=3)
    assert {path.name for path in run.checkpoints.iterdir()} == {f"checkpoint-{step}" for step in (6, 9, 10, 11)}


def test_a_step_that_is_saved_again_replaces_what_lay_there_and_what_came_later(run: RunDirectory) -> None:
    for step in (1, 2, 3):
        checkpoint(run, step)
    (checkpoint(run, 2, "again") / "trainer_state.json").read_text()
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["checkpoint-1", "checkpoint-2"]
    assert (run.checkpoints / "checkpoint-2" / "trainer_state.json").read_text() == "again"


def test_a_damaged_checkpoint_is_reported_and_the_one_before_is_used(
    run: RunDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint(run, 1)
    (checkpoint(run, 2) / "trainer_state.json").write_text("stale")
    assert run.newest_checkpoint() == (run.checkpoints / "checkpoint-1", 1)
    assert "checkpoint-2: is damaged (trainer_state.json differs from what was written)" in caplog.text


def test_a_run_whose_checkpoints_are_all_damaged_does_not_start_over_unasked(run: RunDirectory) -> None:
    (checkpoint(run, 1) / "manifest.json").unlink()
    with pytest.raises(RunError, match="every checkpoint is damaged; restore one"):
        run.newest_checkpoint()


def test_a_run_is_trained_when_the_adapter_of_its_last_step_lies_there_whole(run: RunDirectory) -> None:
    def save(folder: Path) -> None:
        folder.mkdir()
        (folder / "adapter_model.safetensors").write_text("weights")

    five = recipe("training.max_steps=5").training
    for step in range(1, 8):  # two lines more than the adapter knows of
        run.append_metrics(records.step(step, tokens={"openings": 10, "futures": 30}, seconds={"update": 1.0}))
    assert not run.is_trained(five)
    run.save_adapter(5, save)
    run.require_whole_adapter()
    assert run.is_trained(five)
    assert not run.is_trained(recipe("training.max_steps=6").training)
    assert run.is_trained(recipe("training.until_tokens=200").training)
    assert not run.is_trained(recipe("training.until_tokens=201").training)
    assert run.is_trained(recipe("training.until_seconds=5.0").training)
    assert not run.is_trained(recipe("training.until_seconds=5.5").training)
    (run.adapter / "adapter_model.safetensors").write_text("WEIGHTS")
    assert not run.is_trained(five)
    with pytest.raises(
        RunError, match=r"adapter_model\.safetensors differs from what was written; --resume writes it again"
    ):
        run.require_whole_adapter()


def test_the_evaluation_is_replaced_as_a_whole(run: RunDirectory) -> None:
    run.write_evaluation(records.evaluation())
    kept = Evaluation(measurements=records.evaluation().measurements[:1])
    run.write_evaluation(kept)
    assert run.evaluation() == kept
    assert not list(run.root.glob("*.unfinished"))


@pytest.mark.parametrize(
    "changes", [[], ["training.max_steps=40"], ["training.save_every=1"], ["evaluation.num_samples=4"]]
)
def test_a_run_may_go_on_for_longer_and_measure_something_else(run: RunDirectory, changes: list[str]) -> None:
    check_resumable(run, recipe(*changes), checking.TABLES)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("seed=9", "seed"),
        ("rollout.num_futures=2", "rollout.num_futures"),
        ("rollout.openings.temperature=0.5", "rollout.openings.temperature"),
        ("rewards={future_accuracy=1.0}", "rewards."),
        ("training.learning_rate=1e-4", "training.learning_rate"),
    ],
)
def test_a_run_is_not_continued_as_another_run(run: RunDirectory, change: str, key: str) -> None:
    with pytest.raises(RunError, match=f"different settings for {key}"):
        check_resumable(run, recipe(change), checking.TABLES)


def test_how_samples_are_drawn_may_change_once_problems_are_selected(tmp_path: Path) -> None:
    """Not before: their pass rates say which problems are trained."""
    selecting, change = "data.select={num_samples=2}", "evaluation.temperature=0.5"
    run = RunDirectory.create(tmp_path / "run", recipe(selecting), "")
    with pytest.raises(RunError, match=r"different settings for evaluation\.temperature"):
        check_resumable(run, recipe(selecting, change), checking.TABLES)
    selection.keep(run.root, selection.PassRates(num_samples=2, num_correct={}, cost=Cost()))
    check_resumable(run, recipe(selecting, change), checking.TABLES)


def test_a_resumed_run_keeps_what_its_plan_decided_unless_told_otherwise(tmp_path: Path) -> None:
    decided = recipe("rollout.max_width=32", "training.micro_batch_size=16")
    run = RunDirectory.create(tmp_path / "run", decided, "as given")
    open_, told = 'training.micro_batch_size="auto"', "rollout.max_width=8"
    kept = with_decisions_of(run, recipe('rollout.max_width="auto"', open_), checking.TABLES)
    assert (kept.rollout.max_width, kept.training.micro_batch_size) == (32, 16)
    kept = with_decisions_of(run, recipe(told, open_), checking.TABLES)
    assert (kept.rollout.max_width, kept.training.micro_batch_size) == (8, 16)


def test_a_reward_that_is_added_makes_it_another_run(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", recipe("rewards={future_accuracy=1.0}"), "")
    with pytest.raises(RunError, match=r"rewards\.tag_count"):
        check_resumable(run, recipe("rewards={future_accuracy=1.0, tag_count=1.0}"), checking.TABLES)


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"holds no run \(no resolved.json\)"):
        RunDirectory.open(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 50_000], ids=["empty", "open", "binary", "deep"])
def test_a_damaged_resolved_json_is_named(run: RunDirectory, content: bytes) -> None:
    (run.root / "resolved.json").write_bytes(content)
    with pytest.raises(RunError, match=r"resolved\.json: cannot be read"):
        run.resolved(checking.TABLES)


@pytest.mark.parametrize("content", ["[]", "3", '"text"', "null", "{}"])
@pytest.mark.parametrize("changes", [[], ["seed=1"]])
def test_a_resolved_json_with_something_else_is_named(run: RunDirectory, content: str, changes: list[str]) -> None:
    (run.root / "resolved.json").write_text(content)
    with pytest.raises((RunError, RecipeError), match=r"resolved\.json"):
        run.resolved(checking.TABLES, changes)


@pytest.mark.parametrize("content", ["{", "[]", "{}", "\x00"])
def test_a_damaged_evaluation_json_is_named_with_the_remedy(run: RunDirectory, content: str) -> None:
    (run.root / "evaluation.json").write_text(content)
    with pytest.raises(RunError, match=r"evaluation\.json: is damaged .*; remove it"):
        run.evaluation()


@pytest.mark.parametrize("line", ["not json", "3"])
def test_a_damaged_line_of_metrics_is_named(run: RunDirectory, line: str) -> None:
    (run.root / "metrics.jsonl").write_text(json.dumps({"step": 1}) + f"\n{line}\n")
    with pytest.raises(RunError, match=r"metrics\.jsonl.*2"):
        run.forget_after(1)


def test_the_cache_lies_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MOTIF_LITE_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("MOTIF_LITE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "motif_lite"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "motif_lite"


def test_a_folder_that_only_evaluated_is_not_the_run_to_resume(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path / "tiny", recipe(), "")
    RunDirectory.create(tmp_path / "tiny-2", recipe(), "", trains=False)
    assert newest_run(tmp_path / "tiny") == tmp_path / "tiny"


def test_a_folder_where_a_run_was_only_about_to_begin_is_free(tmp_path: Path) -> None:
    for name in ("lock", "recipe.toml", "resolved.json.unfinished"):
        (tmp_path / name).write_text("half")
    (tmp_path / "checkpoints").mkdir()
    RunDirectory.create(tmp_path, recipe(), "whole")
    assert (tmp_path / "recipe.toml").read_text() == "whole"


def test_one_process_at_a_time_works_in_a_folder_and_the_other_is_told_which(run: RunDirectory) -> None:
    with run.locked(), pytest.raises(RunError, match=f"is in use by process {os.getpid()}; wait"), run.locked():
        pass
    with run.locked():  # it is let go, and a number that was left behind means nothing
        pass


def test_what_memory_allows_may_change_on_resume(run: RunDirectory) -> None:
    check_resumable(run, recipe("rollout.max_width=3", "training.gradient_checkpointing=true"), checking.TABLES)
