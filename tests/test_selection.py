"""data.select: training problems that the policy solves sometimes, measured once and kept."""

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from motif_lite import cli
from motif_lite.errors import DataError, RecipeError, RunError
from motif_lite.evaluation import measuring, selecting
from motif_lite.jobs import checking, train_job
from motif_lite.nouns import Problem
from motif_lite.planning import projection
from motif_lite.planning.projection import Evaluated, Projection
from motif_lite.planning.rows import Lengths
from motif_lite.recipe.keys import changed
from motif_lite.runs import accounting, selection
from motif_lite.runs.costs import Cost
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.selection import PassRates
from motif_lite.tasks import sources
from motif_lite.views import plots
from tests.fakes import RecordingObserver

ROOT = Path(__file__).parents[1]
TINY = ROOT / "recipes" / "tiny_cpu.toml"

SUM = "a0b4c5d3e1f7g2h9i3="
PROBLEMS = [{"question": SUM, "answer": "77"}] * 4 + [{"question": SUM, "answer": "4"}] * 12
"""Some that nobody solves, and others that the tiny model does sometimes."""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_folder: Path) -> Path:
    """A cache of the test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("MOTIF_LITE_CACHE", str(folder))
    return folder


def changes(tmp_path: Path, model: Path, *further: str, problems: Sequence[dict[str, str]] = PROBLEMS) -> list[str]:
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps({"id": str(n), **row}) + "\n" for n, row in enumerate(problems)))
    return [
        f'model.name="{model}"', f'data.train="{path}"', "training.max_steps=3", "training.problems_per_step=1",
        "training.micro_batch_size=2", "rollout.num_openings=2", "rollout.num_futures=1", "rollout.max_width=8",
        "evaluation.benchmarks={}",
        "evaluation.before=false", "evaluation.after=false", "data.select={num_samples=4}", *further,
    ]  # fmt: skip


def perform(out: Path, given: Sequence[str]) -> tuple[RunDirectory, list[str]]:
    observer = RecordingObserver()
    train_job.job(TINY, given, out).perform(observer)
    return RunDirectory(out), [note for note in observer.notes if note.startswith("data.select")]


def generated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the number of trajectories of every part that is measured."""
    measure, seen = measuring.measure_parts, list[int]()

    def watched(*arguments: object) -> Iterator[object]:
        for part in measure(*arguments):  # type: ignore[arg-type]
            seen.append(len(part.graded))
            yield part

    monkeypatch.setattr(selecting, "measure_parts", watched)
    return seen


def test_what_is_solved_sometimes_is_trained_and_what_that_took_is_counted(
    tmp_path: Path, tiny_folder: Path, cache: Path
) -> None:
    run, [told] = perform(tmp_path / "run", changes(tmp_path, tiny_folder))
    rates = selection.kept(run.root)
    assert rates is not None
    kept = {problem for problem, correct in rates.num_correct.items() if 0 < correct < 4}
    assert kept
    assert [rates.num_correct[problem] for problem in list(rates.num_correct)[:4]] == [0] * 4
    assert {line.problem for line in run.rollouts()} <= kept
    assert told.startswith(f"data.select: {len(kept)} of 16 problems have a pass rate between 0.01 and 0.99; ")
    assert f"Training had selected its problems: {len(kept)} of 16 problems have" in run.report.read_text()
    assert rates.cost.prompts >= 64
    assert accounting.of(run)["selection"] == rates.cost
    assert run.spent().tokens == rates.cost.generated_tokens + sum(sum(line.tokens.values()) for line in run.metrics())
    assert plots.tokens(run.metrics(), run.preparing)[-1] == run.spent().tokens
    assert not (run.root / "evaluations" / "selection.jsonl.parts").exists()


def test_a_second_run_finds_the_rates_in_the_cache_and_trains_the_same(
    tmp_path: Path, tiny_folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = generated(monkeypatch)
    one, _ = perform(tmp_path / "one", changes(tmp_path, tiny_folder))
    assert sum(seen) == 64
    other, [told] = perform(tmp_path / "other", changes(tmp_path, tiny_folder))
    assert sum(seen) == 64
    assert f"measured by an earlier run: {cache / 'pass_rates'}" in told
    assert (one.root / selection.FILE).read_bytes() == (other.root / selection.FILE).read_bytes()
    assert one.rollouts() == other.rollouts()
    perform(tmp_path / "hotter", changes(tmp_path, tiny_folder, "evaluation.temperature=1.5"))
    assert sum(seen) == 128, "another temperature gives other rates"
    [damaged] = {
        file
        for file in (cache / "pass_rates").iterdir()
        if file.read_bytes() == (one.root / selection.FILE).read_bytes()
    }
    damaged.write_text("{")
    perform(tmp_path / "again", changes(tmp_path, tiny_folder))
    assert sum(seen) == 192
    remade, before = selection.cached(damaged), selection.kept(one.root)
    assert remade is not None
    assert before is not None
    assert remade.num_correct == before.num_correct


def test_rates_of_another_device_precision_or_program_are_not_found(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = changes(tmp_path, tmp_path)
    recipe, problems = checking.check(TINY, given), [Problem("1", "a1=", "1")]

    def path(device: str = "cpu", key: str = "seed", value: object = 1) -> Path | None:
        return selection.cached_path(changed(recipe, {key: value}), {"file": "sum"}, problems, "prompt", device)

    found = {path(), path("cuda"), *(path("cpu", key, "bfloat16") for key in ("rollout.weights", "model.dtype"))}
    monkeypatch.setattr(selection, "_code", lambda: "another")
    assert len(found | {path()}) == 5
    assert path() == path("cpu", "rollout.max_width", 8)


def test_a_run_waits_for_another_one_that_measures_the_same(
    tmp_path: Path, tiny_folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one is a process, as the lock is one between processes; it is done while this one waits."""
    given, file = changes(tmp_path, tiny_folder, "training.max_steps=1"), cache / "pass_rates" / "same.json"
    problems = sources.load(checking.check(TINY, given).data.as_source(), role="train", seed=1)
    rates = PassRates(num_samples=4, num_correct={each.id: 2 for each in problems}, cost=Cost(prompts=1))
    monkeypatch.setattr(selection, "cached_path", lambda *_: file)
    holding = (
        "import sys; from pathlib import Path; from motif_lite.runs import selection; path = Path(sys.argv[1])\n"
        "with selection.claimed(path) as is_ours:\n"
        "    print(is_ours, flush=True); path.write_text(sys.stdin.readline())"
    )
    command, seen = [sys.executable, "-c", holding, str(file)], generated(monkeypatch)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as other:
        assert other.stdin is not None and other.stdout is not None
        assert other.stdout.readline() == "True\n"
        answer, observer = other.stdin, RecordingObserver()

        def phase(name: str, detail: str = "") -> None:
            if "waiting for another run" in detail:
                answer.write(rates.model_dump_json() + "\n")
                answer.close()

        monkeypatch.setattr(observer, "phase", phase)
        train_job.job(TINY, given, tmp_path / "run").perform(observer)
    assert seen == [], "this one has measured nothing"
    assert selection.kept(tmp_path / "run") == rates


def test_a_measurement_that_was_interrupted_goes_on_with_what_is_missing(
    tmp_path: Path, tiny_folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = perform(tmp_path / "whole", changes(tmp_path, tiny_folder))
    shutil.rmtree(cache)
    measure = measuring.measure_parts

    def interrupted(*arguments: object) -> Iterator[object]:
        parts = measure(*arguments)  # type: ignore[arg-type]
        yield next(parts)
        yield next(parts)
        raise KeyboardInterrupt

    monkeypatch.setattr(selecting, "measure_parts", interrupted)
    out = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        perform(out, changes(tmp_path, tiny_folder))
    assert not (out / selection.FILE).exists()
    monkeypatch.undo()
    monkeypatch.setenv("MOTIF_LITE_CACHE", str(cache))
    seen = generated(monkeypatch)
    train_job.job(None, [], out, resume=True).perform(RecordingObserver())
    assert sum(seen) == 64 - 32
    run = RunDirectory(out)
    assert run.rollouts() == whole.rollouts()
    both = [selection.kept(each.root) for each in (run, whole)]
    assert both[0] is not None
    assert both[1] is not None
    assert both[0].num_correct == both[1].num_correct
    assert both[0].cost.generated_tokens == both[1].cost.generated_tokens


def test_a_cache_that_cannot_be_written_costs_nothing(tmp_path: Path, tiny_folder: Path, cache: Path) -> None:
    cache.mkdir()
    (cache / "pass_rates").write_text("a file where the folder should be")
    observer = RecordingObserver()
    train_job.job(TINY, changes(tmp_path, tiny_folder), tmp_path / "run").perform(observer)
    assert any("pass rates cannot be kept for other runs" in note for note in observer.notes)
    assert selection.kept(tmp_path / "run") is not None
    assert RunDirectory(tmp_path / "run").spent().steps == 3


def test_runs_may_write_the_same_rates_at_once(tmp_path: Path) -> None:
    """As those of a study with several workers do."""
    rates = PassRates(num_samples=4, num_correct={str(n): n % 5 for n in range(7473)}, cost=Cost())
    path = tmp_path / "pass_rates" / "same.json"
    code = (
        "import sys; from pathlib import Path; from motif_lite.runs import selection; path = Path(sys.argv[1])\n"
        "for _ in range(20): selection.put(path, selection.cached(Path(sys.argv[2])))"
    )
    selection.put(tmp_path / "source.json", rates)
    command = [sys.executable, "-c", code, str(path), str(tmp_path / "source.json")]
    writers = [subprocess.Popen(command, cwd=ROOT) for _ in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert selection.cached(path) == rates
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_damaged_selection_is_named_with_its_remedy(tmp_path: Path, tiny_folder: Path, cache: Path) -> None:
    run, _ = perform(tmp_path / "run", changes(tmp_path, tiny_folder))
    file = run.root / selection.FILE
    content = json.loads(file.read_text())
    content["num_correct"].popitem()
    file.write_text(json.dumps(content))
    with pytest.raises(RunError, match=r"selection\.json: 1 problems have no pass rate.* remove it"):
        train_job.job(None, ["training.max_steps=4"], run.root, resume=True).perform(RecordingObserver())
    file.unlink()
    observer = RecordingObserver()
    train_job.job(None, ["training.max_steps=4"], run.root, resume=True).perform(observer)
    assert any("measured by an earlier run" in note for note in observer.notes)
    assert run.spent().steps == 4
    file.write_text(json.dumps(content | {"num_samples": 0}))
    with pytest.raises(RunError, match=r"selection\.json: is damaged .num_samples.*remove it"):
        selection.kept(run.root)


def test_the_schedule_and_the_marks_begin_where_the_selection_ended(
    tmp_path: Path, tiny_folder: Path, cache: Path
) -> None:
    further = (
        "training.until_tokens=10000", "training.max_steps=1000", "training.warmup_fraction=0.5",
        'training.lr_schedule="cosine"', 'evaluation.validation={source="chain_sum", num_problems=4, num_marks=4}',
    )  # fmt: skip
    run, _ = perform(tmp_path / "run", changes(tmp_path, tiny_folder, *further))
    first, *later = run.metrics()
    assert first.learning_rate == 0.0
    assert later[0].learning_rate
    assert later[0].learning_rate < max(line.learning_rate or 0 for line in later)
    assert run.marks()[0].tokens == run.preparing["selection"].generated_tokens
    assert len(run.marks()) == 5
    assert 10000 <= run.spent().tokens < 10000 + 2000


def test_a_dry_run_shows_what_selecting_takes(tmp_path: Path, tiny_folder: Path, cache: Path) -> None:
    command = ["--recipe", str(TINY), "--dry-run"]
    for change in changes(tmp_path, tiny_folder):
        command += ["--set", change]
    done = CliRunner().invoke(cli.app, command)
    assert done.exit_code == 0, done.output
    assert "selection of problems" in done.output


def test_bounds_that_leave_too_few_end_in_a_message(tmp_path: Path, tiny_folder: Path, cache: Path) -> None:
    given = changes(tmp_path, tiny_folder, "data.select={num_samples=1, min_pass_rate=0.4, max_pass_rate=0.6}")
    with pytest.raises(
        DataError, match=r"data\.select: 0 of 16 problems .* too few for training\.problems_per_step = 1"
    ):
        perform(tmp_path / "run", given)
    with pytest.raises(DataError, match=r"all that training\.until_tokens or training\.until_seconds allows"):
        perform(tmp_path / "spent", changes(tmp_path, tiny_folder, "training.until_tokens=10"))
    with pytest.raises(RecipeError, match=r"min_pass_rate = 0\.9 is above max_pass_rate = 0\.1"):
        checking.check(TINY, ["data.select={min_pass_rate=0.9, max_pass_rate=0.1}"])


def test_the_plan_counts_it_and_takes_it_off_the_budget() -> None:
    def planned(*changes: str) -> Projection:
        plan = checking.memory_plan(TINY, ["training.until_tokens=100000", "training.max_steps=1000", *changes], 8.0)
        found = checking.evaluated(plan.recipe, checking.expected_problems(plan.recipe))
        return projection.planned(plan, list(found), Lengths.worst(plan.recipe))

    recipe = checking.check(TINY, ["data.select={num_samples=3}", "data.num_problems=50"])
    found = list(checking.evaluated(recipe, checking.expected_problems(recipe)))
    assert Evaluated("selection of problems", 150, recipe.rollout.num_rounds, 1, takes_budget=True) in found
    with_it, without = planned("data.select={num_samples=3}", "data.num_problems=50"), planned()
    assert "selection of problems" in with_it.evaluation
    assert "selection of problems" not in without.evaluation
    tokens = 150 * (recipe.rollout.openings.max_tokens + 2 * recipe.rollout.futures.max_tokens)
    assert with_it.num_steps == math.ceil((1 - tokens / 100000) * without.num_steps)
    assert planned("data.select={num_samples=8}", "data.num_problems=500").num_steps == 0
