"""Run directories of the first format, which named no version: read, resumed, measured; later formats are refused.

tests/data/f60840b was written by commit f60840b: a run of six steps that was stopped after the fourth.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from motif_lite.errors import RunError
from motif_lite.jobs import checking, train_job
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.parts import Parts
from motif_lite.runs.records import PartsHeader, Subject
from motif_lite.runs.resuming import was_begun_with_weights_of_trajectories
from tests import records
from tests.fakes import RecordingObserver

OLD = Path(__file__).parent / "data" / "f60840b"
GREEDY, SAMPLED = (Subject("chain_sum", "multi_round", decoding) for decoding in ("greedy", "sampled"))


@pytest.fixture
def old(tmp_path: Path) -> RunDirectory:
    shutil.copytree(OLD, tmp_path / "run")
    return RunDirectory.open(tmp_path / "run")


def test_all_that_the_first_format_held_is_read(old: RunDirectory) -> None:
    metrics = old.metrics()
    assert [line.step for line in metrics] == [1, 2, 3, 4]
    assert metrics[-1].tokens == {"openings": 116, "futures": 552}
    assert (metrics[-1].reward, metrics[-1].grad_norm) == (2.21875, 0.004602793138474226)
    assert [(mark.step, mark.num_correct, mark.generated_tokens) for mark in old.marks()] == [(0, 3, 396), (2, 3, 396)]
    assert {len(old.rollouts_of(step)) for step in (1, 2, 3, 4)} == {4}
    assert all(turn.prompt for line in old.rollouts() for future in line.futures for turn in future.rounds)
    evaluation = old.evaluation()
    assert [(*each.subject, each.when) for each in evaluation.measurements][-1] == (*SAMPLED, "before")
    found = evaluation.find(GREEDY, "before")
    assert found is not None
    assert found.settings is not None
    assert (found.num_correct, found.generated_tokens, found.settings.max_tokens) == (0, 420, (35, 35))
    assert [len(graded.replies) for graded in old.graded(GREEDY, "before")] == [3] * 4


def test_a_run_whose_trajectories_weighed_the_same_is_told_from_one_of_this_version(
    old: RunDirectory, tmp_path: Path
) -> None:
    assert was_begun_with_weights_of_trajectories(old)
    new = RunDirectory(tmp_path)
    assert not was_begun_with_weights_of_trajectories(new)
    new.append_metrics(records.step(groups_on_form_alone=0.0))
    assert not was_begun_with_weights_of_trajectories(new)


def test_what_was_measured_in_the_same_way_is_not_measured_again(old: RunDirectory) -> None:
    from motif_lite.evaluation.benchmarks import is_complete

    recipe = old.resolved(checking.TABLES)
    section = recipe.evaluation.model_copy(update={"after": False})
    assert is_complete(recipe.model_copy(update={"evaluation": section}), old)
    assert not is_complete(recipe, old)


def test_a_file_becomes_one_of_this_version_without_a_change_of_its_content(old: RunDirectory) -> None:
    before = old.evaluation()
    old.write_evaluation(before)
    assert json.loads((old.root / "evaluation.json").read_text())["version"] == 2
    assert old.evaluation() == before
    old.append_metrics(old.metrics()[-1].model_copy(update={"step": 5}))
    lines = (old.root / "metrics.jsonl").read_text().splitlines()
    assert ["version" in json.loads(line) for line in lines] == [False] * 4 + [True]
    assert [line.step for line in old.metrics()] == [1, 2, 3, 4, 5]


@pytest.mark.usefixtures("tiny_folder")
def test_a_run_of_the_first_format_is_resumed_as_it_would_have_gone_on(old: RunDirectory) -> None:
    """Against the figures with which f60840b itself went on."""
    observer = RecordingObserver()
    train_job.job(None, [], old.root, resume=True).perform(observer)
    five, six = old.metrics()[4:]
    assert (five.step, five.reward, five.tokens) == (5, 1.6875, {"openings": 120, "futures": 552})
    assert (six.step, six.reward, six.tokens) == (6, 1.71875, {"openings": 112, "futures": 552})
    # On another processor a token may be another one, for rounding.
    assert (five.grad_norm, six.grad_norm) == pytest.approx((0.004998681601136923, 0.0033289557322859764), rel=0.3)
    assert [(mark.tokens, mark.num_correct) for mark in old.marks()[2:]] == [(2684, 3), (4020, 3)]
    assert [mark.step for mark in old.marks()] == [0, 2, 4, 6]
    assert [found.when for (found,) in observer.named("result")] == ["after"] * 4, "before was measured already"
    gain = old.evaluation().gain(SAMPLED)
    assert gain is not None
    assert gain.num_problems == 4
    assert old.is_trained(old.resolved(checking.TABLES).training)


def later(path: Path, version: object) -> None:
    """The last line of a file, or all of evaluation.json, as of another version with a key that nobody knows."""
    *lines, last = [path.read_text()] if path.suffix == ".json" else path.read_text().splitlines()
    path.write_text("\n".join([*lines, json.dumps(json.loads(last) | {"version": version, "novelty": 1})]) + "\n")


READERS: dict[str, Callable[[RunDirectory], object]] = {
    "metrics.jsonl": RunDirectory.metrics,
    "validation.jsonl": RunDirectory.marks,
    "rollouts.jsonl": RunDirectory.rollouts,
    "evaluation.json": RunDirectory.evaluation,
    "evaluations/chain_sum.before.multi_round.greedy.jsonl": lambda run: run.graded(GREEDY, "before"),
}


@pytest.mark.parametrize("name", READERS)
def test_a_later_version_is_refused_with_both_versions(old: RunDirectory, name: str) -> None:
    later(old.root / name, 3)
    with pytest.raises(RunError, match=r"version 3 of the format.* reads versions 1 to 2; go on with the version"):
        READERS[name](old)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("version", [2, 0, "two", None])
def test_a_file_that_says_it_is_of_this_version_and_is_not_is_damaged(
    old: RunDirectory, name: str, version: object
) -> None:
    later(old.root / name, version)
    with pytest.raises(RunError, match=rf"{Path(name).name}.* is damaged \(.*\); remove it"):
        READERS[name](old)


def test_what_is_damaged_is_named_by_line_and_key(old: RunDirectory) -> None:
    path = old.root / "metrics.jsonl"
    lines = path.read_text().splitlines()
    lines[2] = json.dumps(json.loads(lines[2]) | {"reward": "much"})
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(RunError, match=r"metrics\.jsonl: line 3 is damaged \(reward: .*\); remove it"):
        old.metrics()


def test_parts_of_the_first_format_are_gone_on_with(old: RunDirectory) -> None:
    path = old.graded_path(GREEDY, "before")
    graded = [json.loads(line) for line in path.read_text().splitlines()]
    header = json.loads((old.root / "evaluation.json").read_text())["settings"]["chain_sum.before.multi_round.greedy"]
    part = {"seconds": 1.5, "peak_memory_bytes": 7, "graded": graded[:2]}
    parts = old.root / "evaluations" / "chain_sum.after.multi_round.greedy.jsonl.parts"
    parts.write_text(json.dumps(header | {"width": 8}) + "\n" + json.dumps(part) + "\n" + '{"seconds": 2.')
    before = old.evaluation().find(GREEDY, "before")
    assert before is not None
    assert before.settings is not None
    kept = Parts(old.graded_path(GREEDY, "after"), PartsHeader(settings=before.settings, width=8))
    assert (kept.seconds, kept.peak_memory_bytes, len(kept.graded)) == (1.5, 7, 2)
    assert [json.loads(line)["version"] for line in parts.read_text().splitlines()] == [2, 2]
    assert Parts(old.graded_path(GREEDY, "after"), PartsHeader(settings=before.settings, width=9)).graded == []
