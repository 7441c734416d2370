"""Studies: their files, which runs follow from them, and that the same command always goes on with them."""

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import tomli_w
import yaml

from motif_lite import leases
from motif_lite.errors import StudyError
from motif_lite.jobs import checking, session
from motif_lite.planning import driver
from motif_lite.planning.driver import Gpu
from motif_lite.process import usable_cores
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.giving_up import MOST_SKIPPED
from motif_lite.study import plan as study_plan
from motif_lite.study import runs as study_runs
from motif_lite.study import schedule, workers
from motif_lite.study.plan import Run, StudyPlan
from motif_lite.tasks import tiny_model
from tests.faults.nursery import Nursery
from tests.studies import ROOT, SETTINGS, TINY, plan, pretend

FAKE_RUN = ROOT / "tests" / "fake_run.py"


def written(folder: Path, text: str | None = None, **changes: Any) -> Path:
    path = folder / "test.toml"
    path.write_text(tomli_w.dumps(SETTINGS | changes) if text is None else text)
    return path


def mistakes(folder: Path, text: str | None = None, **changes: Any) -> list[str]:
    with pytest.raises(StudyError) as caught:
        study_plan.load(written(folder, text, **changes))
    return str(caught.value).splitlines()


# ------------------------------------------------------------------------------------------------- the file


def test_a_study_has_a_run_for_every_variant_and_seed(tmp_path: Path) -> None:
    made = study_plan.load(written(tmp_path))
    assert made.num_runs == 6
    assert made.out == tmp_path / "test"
    run = made.final_run("wide", 2, None)
    assert (run.name, run.root) == ("wide, seed 2", tmp_path / "test" / "runs" / "wide" / "seed-2")
    recipe = run.resolved()
    assert (recipe.seed, recipe.rollout.num_futures) == (2, 8)
    assert (recipe.evaluation.before, recipe.evaluation.after) == (False, True)
    assert (recipe.evaluation.strategies, recipe.evaluation.greedy) == (["multi_round"], False)


def test_a_variant_is_measured_as_it_is_trained_unless_it_says_otherwise(tmp_path: Path) -> None:
    single = {"set": ['rollout.strategy="single_round"']}
    made = study_plan.load(
        written(tmp_path, variants={"plain": {}, "one": single, "two": single | {"strategy": "multi_round"}})
    )
    assert made.strategies == {"plain": "multi_round", "one": "single_round", "two": "multi_round"}
    assert made.final_run("one", 1, None).resolved().evaluation.strategies == ["single_round"]


def test_recipes_are_found_beside_the_study(tmp_path: Path) -> None:
    shutil.copy(TINY, tmp_path / "own.toml")
    made = study_plan.load(written(tmp_path, variants={"plain": {}, "other": {"recipe": "own.toml"}}))
    assert made.recipe_of("other") == tmp_path / "own.toml"


def test_every_mistake_in_the_file_is_named_at_once(tmp_path: Path) -> None:
    lines = mistakes(
        tmp_path, seeds=[], referense="x", decoding="loud", variants={"a b": {}, "plain": {"tune": 1}},
        tune={"key": "training.learning_rate", "values": [0.1]},
    )  # fmt: skip
    assert lines[0] == f"{tmp_path / 'test.toml'}: 6 mistakes in the study"
    text = "\n".join(lines)
    for part in (
        "  seeds: list should have at least 1 item", "  referense: unknown key (did you mean 'reference'?)",
        "  decoding: input should be 'sampled' or 'greedy' (got 'loud')", "  variants.a b: string should match",
        "  variants.plain.tune: input should be a valid boolean (got 1)", "  tune.values: list should have at least 2",
    ):  # fmt: skip
        assert part in text, text


def test_what_does_not_agree_is_named_at_once_too(tmp_path: Path) -> None:
    tune = {"key": "training.learning_rate", "values": [1e-4, 1e-3], "seeds": [2]}
    changes = ["training.learning_rate=1.0"]
    lines = mistakes(tmp_path, reference="plane", seeds=[1, 2, 2], set=["seed=3"], tune=tune,
                     variants={"plain": {"set": changes}, "Plain": {}})  # fmt: skip
    assert lines[0].endswith("6 mistakes in the study")
    assert "  reference: there is no variant 'plane' (did you mean 'plain'?); known: plain, Plain" in lines
    for part in (
        "upper and lower case",
        "listed twice",
        "tune.seeds: 2 would be",
        "set: seed is the",
        "is what is tuned",
    ):
        assert any(part in line for line in lines), part


@pytest.mark.parametrize("name", ["laptop_gsm8k", "motif_gsm8k", "motif_chain_gsm8k", "motif_evening"])
def test_one_round_has_the_tokens_of_n_rounds_and_room_for_them(name: str, tmp_path: Path) -> None:
    made = study_plan.load(ROOT / "studies" / "rounds_worth.toml", tmp_path, ROOT / "recipes" / f"{name}.toml")
    for n in (2, 3, 4):
        one, rounds = (made.final_run(f"{form}_{n}", 1, None).resolved() for form in ("one", "rounds"))
        limits = rounds.rollout
        together = limits.openings.max_tokens + (limits.num_rounds - 1) * limits.futures.max_tokens
        assert (limits.num_rounds, one.rollout.openings.max_tokens) == (n, together)
        assert one.rollout.futures == limits.futures
        assert one.model.max_seq_length >= limits.max_prompt_tokens + together


def test_the_tokens_of_several_rounds_are_for_one_round_on_one_model(tmp_path: Path) -> None:
    variants = {"plain": {}, "long": {"times_tokens": 2}, "one": {"times_tokens": 2, "strategy": "single_round"}}
    lines = mistakes(tmp_path, variants=variants)
    assert lines[0].endswith("2 mistakes in the recipes of the study")
    assert lines[1].startswith("  variants long: times_tokens gives one round the tokens of several, and")
    assert lines[2].startswith("  variants long, one: times_tokens compares") and 'model.name = "tiny"' in lines[2]


def test_whom_a_variant_is_compared_with(tmp_path: Path) -> None:
    variants = {"plain": {"against": "a"}, "a": {"against": "b"}, "b": {"against": "b"},
                "c": {"train": False, "vote": True, "against": "a"}, "d": {"claim": "x", "against": "a"}}  # fmt: skip
    text = "\n".join(mistakes(tmp_path, variants=variants))
    assert "variants.b.against: there is no other variant 'b'; known: plain, a, c, d" in text
    for name in ("plain", "c", "d"):
        assert f"variants.{name}.against: is for neither a vote, nor a claim, nor the study's reference" in text
    assert "variants.a." not in text


def test_a_variant_that_is_not_tuned_may_name_its_own_value(tmp_path: Path) -> None:
    tune = {"key": "training.learning_rate", "values": [1e-4, 1e-3]}
    own = {"tune": False, "set": ["training.learning_rate=2e-3"]}
    made = plan(tmp_path, tune=tune, variants={"plain": {}, "own": own})
    assert made.final_run("own", 1, None).resolved().training.learning_rate == 2e-3


def test_a_base_that_is_wrong_has_no_benchmarks_to_miss_elsewhere(tmp_path: Path) -> None:
    lines = mistakes(tmp_path, base="none.toml", also="all", variants={"plain": {}, "own": {"recipe": str(TINY)}})
    assert "there is no such recipe" in lines[1]
    assert "no benchmark 'a'" not in "\n".join(lines)


def test_mistakes_in_recipes_name_the_variants_that_have_them(tmp_path: Path) -> None:
    bad = {"set": ["training.max_stepz=3"]}
    lines = mistakes(tmp_path, variants={"plain": {}, "a": bad, "b": bad, "c": {"recipe": "none.toml"}})
    assert lines[0].endswith("2 mistakes in the recipes of the study")
    assert lines[1].startswith("  variants a, b: ")
    assert lines[2] == "      training.max_stepz: unknown key; did you mean training.max_steps?"
    assert lines[3].startswith(f"  variants c: {tmp_path / 'none.toml'}: there is no such recipe")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"benchmark": "chain_sums"}, "no benchmark 'chain_sums' (did you mean 'chain_sum'?); it has: chain_sum"),
        ({"set": ["evaluation.num_samples=0", "evaluation.greedy=true"]}, "evaluation.num_samples is 0"),
        ({"decoding": "greedy", "set": ["evaluation.greedy=false", "evaluation.num_samples=1"]}, "greedy is off"),
        ({"set": ['evaluation.strategies=["single_round"]']}, "evaluation.strategies lacks 'multi_round'"),
        ({"tune": {"key": "lora.alpha", "values": [1, 2]}}, "tuning needs held-out problems"),
        ({"tune": {"key": "lora.alfa", "values": [1, 2]}}, "lora.alfa: unknown key"),
    ],
)
def test_recipes_that_do_not_give_what_the_study_measures(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    assert said in "\n".join(mistakes(tmp_path, **changes))


@pytest.mark.parametrize(
    ("text", "said"),
    [("title = ", "is not valid TOML"), ("", "title: must be given"), ("x = 1\x00", "is not valid TOML")],
)
def test_a_file_that_is_no_study(tmp_path: Path, text: str, said: str) -> None:
    assert said in "\n".join(mistakes(tmp_path, text))


def test_a_recipe_in_place_of_a_study_is_told_in_one_line(tmp_path: Path) -> None:
    extending = tmp_path / "mine.toml"
    extending.write_text(f'extends = "{TINY}"\n')
    for path in (TINY, extending):
        with pytest.raises(StudyError) as caught:
            study_plan.load(path)
        assert str(caught.value) == f"{path}: this is a recipe: python run.py --recipe {path}"


def test_a_study_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="there is no such study"):
        study_plan.load(tmp_path / "none.toml")
    with pytest.raises(StudyError, match="cannot be read"):
        study_plan.load(tmp_path)


def test_a_file_without_its_ending_would_be_its_own_folder(tmp_path: Path) -> None:
    shutil.move(written(tmp_path), tmp_path / "test")
    with pytest.raises(StudyError, match=r"name it NAME\.toml"):
        study_plan.load(tmp_path / "test")


def test_candidates_are_folders_of_their_own(tmp_path: Path) -> None:
    values = [1e-4, "linear", "../up", True]
    made = plan(tmp_path, tune={"key": "training.lr_schedule", "values": values}, variants={"plain": {}})
    folders = [run.root.parent.name for run in made.tuning_runs("plain")]
    assert folders == ["0.0001", "linear", "_up", "true"]
    assert {run.root.parents[1] for run in made.tuning_runs("plain")} == {made.out / "tuning" / "plain"}


@pytest.mark.parametrize("path", sorted((ROOT / "studies").glob("*.toml")), ids=lambda path: path.stem)
def test_the_shipped_studies_are_valid_with_all_their_recipes(path: Path) -> None:
    read = study_plan.load(path).study
    assert any(not variant.train for variant in read.variants.values()), "no gain without a base"


def test_longer_openings_begin_with_the_same_tiny_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """GRPO with the tokens of all rounds in one is compared with MOTIF on one model, not on one of its own."""
    asked: list[dict[str, Any]] = []

    def prepare(**how: Any) -> Path:
        asked.append(how)
        return tmp_path

    monkeypatch.setattr(tiny_model, "prepare", prepare)
    for changes in ([], ['rollout.strategy="single_round"', "rollout.openings.max_tokens=105"]):
        session._model_name(checking.check(TINY, changes), Mock())
    for how in asked:
        assert how.pop("on_progress") and how.pop("on_start")
    assert asked[0] == asked[1]


# ------------------------------------------------------------------------------------------------- the runs


class Seen:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.lines: list[str] = []
        self.done: list[str] = []
        self.waited: list[list[str]] = []
        self.on_line: Callable[[], None] = lambda: None

    def started(self, name: str, num_done: int, num_runs: int) -> None:
        self.begun.append(f"{name}: {num_done} of {num_runs}")

    def line(self, text: str) -> None:
        self.lines.append(text)
        self.on_line()

    def finished(self, name: str, figure: str) -> None:
        self.done.append(f"{name}: {figure}")

    def waiting(self, names: list[str]) -> None:
        self.waited.append(names)


Tell = Callable[..., None]


@pytest.fixture
def tell(tmp_path: Path, nursery: Nursery, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tell]:
    """Tells the fake run.py what is to happen."""
    monkeypatch.setattr(sys, "executable", str(nursery.python))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(study_runs, "_PATIENCE_SECONDS", 0.1)

    def tell(**what: Any) -> None:
        monkeypatch.setenv("MOTIF_FAKE_RUN", json.dumps({"calls": str(tmp_path / "calls")} | what))

    tell()
    yield tell


def perform(made: StudyPlan) -> Seen:
    seen = Seen()
    study_runs.perform(made, [sys.executable, str(FAKE_RUN)], seen, lambda: None)
    return seen


def calls(folder: Path) -> list[str]:
    """What the fake run.py was called for: ``variant/seed-1 --resume``."""
    made = [json.loads(line) for line in (folder / "calls").read_text().splitlines()]
    return [" ".join(["/".join(Path(call["root"]).parts[-2:]), *call["modes"]]) for call in made]


def test_all_variants_are_run_on_one_seed_before_the_next(tmp_path: Path, tell: Tell) -> None:
    made = plan(tmp_path)
    seen = perform(made)
    assert calls(tmp_path) == [
        "base/seed-1 --evaluate-only", "plain/seed-1", "wide/seed-1",
        "base/seed-2 --evaluate-only", "plain/seed-2", "wide/seed-2",
    ]  # fmt: skip
    assert seen.begun[0] == "base, seed 1: 0 of 6"
    assert seen.begun[-1] == "wide, seed 2: 5 of 6"
    assert seen.done[0] == "base, seed 1: 100.0 %"
    assert "begun" in seen.lines


def test_what_is_done_is_skipped_and_what_was_begun_is_resumed(tmp_path: Path, tell: Tell) -> None:
    made = plan(tmp_path, seeds=[1])
    pretend(made, made.final_run("plain", 1, None))
    for variant in ("base", "wide"):
        begun = made.final_run(variant, 1, None)
        RunDirectory.create(begun.root, begun.resolved(), "", trains=begun.trains)
    perform(made)
    assert calls(tmp_path) == ["base/seed-1 --evaluate-only", "wide/seed-1 --resume"]
    perform(made)
    assert len(calls(tmp_path)) == 2, "nothing is left to do"


def test_a_run_of_another_study_is_never_taken_for_ones_own(tmp_path: Path, tell: Tell) -> None:
    made = plan(tmp_path, seeds=[1])
    pretend(made, made.final_run("wide", 1, None))
    changed = plan(tmp_path, seeds=[1], variants={"plain": {}, "wide": {"set": ["rollout.num_futures=2"]}})
    with pytest.raises(
        StudyError, match=r"wide/seed-1: holds a run with different settings for rollout\.num_futures"
    ) as told:
        perform(changed)
    assert "remove that folder to repeat the run" in str(told.value)
    assert not (tmp_path / "calls").exists(), "that is found before anything runs"


def test_a_run_that_fails_stops_the_study_with_its_message(tmp_path: Path, tell: Tell) -> None:
    made = plan(tmp_path, seeds=[1])
    tell(fails="plain", message="note\nerror: plain.toml: too hot;\n  cool it", code=2)
    with pytest.raises(StudyError, match=r"^plain, seed 1: plain\.toml: too hot;\n  cool it\n") as told:
        perform(made)
    assert str(made.out / "runs" / "plain" / "seed-1") in str(told.value)
    assert len(calls(tmp_path)) == 2
    tell()
    perform(made)
    assert calls(tmp_path)[2:] == ["plain/seed-1 --resume", "wide/seed-1"]


def test_a_crash_is_told_with_its_end(tmp_path: Path, tell: Tell) -> None:
    tell(fails="base", message="Traceback\nerror: misleading\nZeroDivisionError: division by zero", code=1)
    with pytest.raises(StudyError, match=r"(?s)base, seed 1: failed\nTraceback.*\nZeroDivisionError: division by zero"):
        perform(plan(tmp_path))


def pid_of(run: Run) -> int:
    return int((run.root / "lock").read_text())


def test_a_run_that_is_killed_is_said_to_be(tmp_path: Path, tell: Tell) -> None:
    made, seen = plan(tmp_path), Seen()
    tell(waits="base")
    seen.on_line = lambda: os.kill(pid_of(made.final_run("base", 1, None)), signal.SIGKILL)
    with pytest.raises(StudyError, match=r"was killed by signal 9 .* memory"):
        study_runs.perform(made, [sys.executable, str(FAKE_RUN)], seen, lambda: None)


def test_a_study_goes_on_after_a_value_that_failed_and_stops_at_any_other_failure(tmp_path: Path, tell: Tell) -> None:
    tune = {"key": "training.learning_rate", "values": [1e-4, 2e-4]}
    made = plan(tmp_path, seeds=[1], variants={"plain": {}}, tune=tune)
    fails, stays = made.tuning_runs("plain")
    pretend(made, stays, marks=[(0, 0.5)])
    tell(fails="tuning", message="error: no memory", code=2, steps=MOST_SKIPPED - 1)
    with pytest.raises(StudyError, match=r"no memory\n\(.*; fix it, or take 0.0001 out of tune.values, then repeat"):
        perform(made)
    shutil.rmtree(fails.root)
    tell(fails="plain", message="error: not a number", code=2, steps=MOST_SKIPPED)
    seen = Seen()
    with pytest.raises(StudyError, match=r"plain, seed 1: not a number\n\(.*; fix it, then repeat"):
        study_runs.perform(made, [sys.executable, str(FAKE_RUN)], seen, lambda: None)
    assert seen.done == ["tuning plain, 0.0001, seed 101: failed, its gradients were not numbers"]
    assert calls(tmp_path) == ["0.0001/seed-101"] * 2 + ["plain/seed-1"]


def test_ctrl_c_reaches_the_run_once_and_it_is_waited_for(tmp_path: Path, tell: Tell) -> None:
    made, seen = plan(tmp_path), Seen()
    tell(waits="base")
    seen.on_line = lambda: signal.raise_signal(signal.SIGINT) if seen.lines == ["begun"] else None
    with pytest.raises(KeyboardInterrupt):
        study_runs.perform(made, [sys.executable, str(FAKE_RUN)], seen, lambda: None)
    assert seen.lines[-1] == "stopping; interrupt again to quit immediately"
    process = pid_of(made.final_run("base", 1, None))
    with pytest.raises(ProcessLookupError):  # the nursery takes a moment to bury it
        for _ in range(1000):
            os.kill(process, 0)
            time.sleep(0.01)


def test_a_run_that_another_process_holds_is_left_to_it(tmp_path: Path, tell: Tell) -> None:
    """Neither a claim of a second study, nor a run that somebody else works at, is touched."""
    made, seen = plan(tmp_path, seeds=[1]), Seen()
    claimed, in_use = made.final_run("base", 1, None), made.final_run("plain", 1, None)
    claimed.root.parent.mkdir(parents=True)
    in_use.root.mkdir(parents=True)
    with (
        claimed.root.with_name("seed-1.claim").open("w") as claim, (in_use.root / "lock").open("w") as lock,
    ):  # fmt: skip
        fcntl.flock(claim, fcntl.LOCK_EX)
        fcntl.flock(lock, fcntl.LOCK_EX)
        program = [sys.executable, str(FAKE_RUN)]
        thread = threading.Thread(target=study_runs.perform, args=(made, program, seen, lambda: None))
        thread.start()
        while not seen.waited:
            time.sleep(0.05)
        assert seen.waited[0] == ["base, seed 1", "plain, seed 1"]
        assert calls(tmp_path) == ["wide/seed-1"]
    thread.join(60)
    assert calls(tmp_path)[1:] == ["base/seed-1 --evaluate-only", "plain/seed-1"]


def test_a_run_whose_study_was_killed_is_left_to_its_process_though_it_does_not_hold_its_folder_yet(
    tmp_path: Path, tell: Tell, nursery: Nursery
) -> None:
    path, model, seen = written(tmp_path, seeds=[1], variants={"plain": {}}), tmp_path / "model", Seen()
    tell(loads=str(model))
    program = [sys.executable, str(FAKE_RUN)]
    fake = f"from motif_lite.study import runs; runs.THIS_PROGRAM = {program}"
    killed = nursery.start("study", str(path), log=tmp_path / "log", before=fake)
    killed.until((tmp_path / "calls").exists)
    killed.send(signal.SIGKILL)
    killed.wait()
    made = study_plan.load(path)
    thread = threading.Thread(target=study_runs.perform, args=(made, program, seen, lambda: None), daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while not seen.waited and not seen.begun and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not made.final_run("plain", 1, None).root.exists()
    model.touch()
    thread.join(60)
    assert (seen.begun, seen.waited[0]) == ([], ["plain, seed 1"])
    assert calls(tmp_path) == ["plain/seed-1"]
    assert list(schedule.missing(made)) == []


def test_two_processes_share_the_runs(tmp_path: Path, tell: Tell) -> None:
    made = plan(tmp_path)
    threads = [threading.Thread(target=perform, args=(made,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(calls(tmp_path)) == made.num_runs


# ------------------------------------------------------------------------------------------------- the whole program

SMALL = [
    "rollout.num_openings=4", "training.problems_per_step=2", "training.micro_batch_size=8", "training.max_steps=3",
    "training.save_every=1", "data.num_problems=32", "evaluation.benchmarks.chain_sum.num_problems=20",
]  # fmt: skip
KEPT = ("table.md", "table.json", "plot.svg")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path, nursery: Nursery) -> tuple[StudyPlan, str]:
    """A small study on the tiny model of seed 1, with what the program printed."""
    small = [f'model.name="{tiny_folder}"', *SMALL]
    variants = {"plain": {"set": ["rollout.num_futures=1"]}, "wide": {"set": ["rollout.num_futures=2"]}}
    path = written(tmp_path_factory.mktemp("study"), set=small, variants=variants)
    done = nursery.run("study", str(path))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return study_plan.load(path), done.stdout


def test_one_command_runs_a_study_and_says_what_it_shows(finished: tuple[StudyPlan, str]) -> None:
    made, printed = finished
    assert "run 1 of 4: plain, seed 1\n" in printed
    assert "0 runs left" in printed
    assert "- k = 8 and" not in printed
    assert "- wide " in printed
    for name in (*KEPT, "cost.md", "cost.json", "seconds.svg"):
        assert (made.out / name).exists()
    found = json.loads((made.out / "table.json").read_text())
    assert (found["num_runs_done"], found["variants"]["wide"]["seeds"]["2"]["steps"]) == (4, 3)
    assert found["variants"]["wide"]["means"]["tokens"] > found["variants"]["plain"]["means"]["tokens"] > 0


def test_what_a_round_is_worth_is_measured_around_any_recipe(
    nursery: Nursery, tmp_path: Path, tiny_folder: Path
) -> None:
    recipe, out = tmp_path / "mine.toml", tmp_path / "out"
    benchmark = {"chain_sum": {"source": "chain_sum", "num_problems": 8}}
    changes = {"model": {"name": str(tiny_folder)}, "evaluation": {"benchmarks": benchmark}}
    recipe.write_text(tomli_w.dumps({"extends": str(TINY)} | changes))
    shipped = tomllib.loads((ROOT / "studies" / "rounds_worth.toml").read_text())
    few = {name: shipped["variants"][name] for name in ("one_2", "rounds_2")}  # as a copy with fewer rounds
    path = tmp_path / "worth.toml"
    path.write_text(tomli_w.dumps(shipped | {"base": str(TINY), "reference": "one_2", "variants": few}))
    done = nursery.run("study", str(path), "--recipe", str(recipe), "--out", str(out))
    assert done.returncode == 0, done.stderr
    found = json.loads((out / "table.json").read_text())
    assert found["comparisons"]["rounds_2"]["against"] == "one_2"
    assert found["comparisons"]["rounds_2"]["same_problems"]["num_problems"] == 8
    tokens = {name: variant["means"]["answer_tokens"] for name, variant in found["variants"].items()}
    assert 0 < tokens["one_2"] <= 2 * 35 and 35 < tokens["rounds_2"] <= 2 * 35
    run = RunDirectory(out / "runs" / "one_2" / "seed-1").resolved(checking.TABLES)
    assert run.rollout.openings.max_tokens == 2 * 35
    assert "## Against 1 round, 2 x tokens\n" in (out / "table.md").read_text()


def test_a_study_that_was_killed_goes_on_to_the_same_bytes(
    finished: tuple[StudyPlan, str], nursery: Nursery, tmp_path: Path
) -> None:
    made, _ = finished
    first = {name: (made.out / name).read_bytes() for name in KEPT}
    again = made.final_run("plain", 2, None)
    shutil.rmtree(again.root)
    process = nursery.start("study", str(made.path), log=tmp_path / "log")
    process.until((again.root / "checkpoints" / "checkpoint-1" / "manifest.json").exists)
    process.send(signal.SIGKILL)
    os.kill(pid_of(again), signal.SIGKILL)
    process.wait()
    done = nursery.run("study", str(made.path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("run 4 of 4: plain, seed 2\n"), "the others are skipped"
    assert {name: (made.out / name).read_bytes() for name in KEPT} == first


def test_a_check_runs_nothing(finished: tuple[StudyPlan, str], nursery: Nursery, tmp_path: Path) -> None:
    made, _ = finished
    done = nursery.run("study", str(made.path), "--check", "--out", str(tmp_path / "out"))
    assert done.returncode == 0
    assert "4 runs, measured on chain_sum, sampled" in done.stdout
    assert not (tmp_path / "out").exists()


def test_a_mistake_is_exit_code_2_without_a_traceback(nursery: Nursery, tmp_path: Path) -> None:
    done = nursery.run("study", str(written(tmp_path, reference="plane")))
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path / 'test.toml'}: a mistake in the study\n  reference: there is no")


def test_ctrl_c_is_exit_code_130_and_says_how_to_go_on(nursery: Nursery, tmp_path: Path, tiny_folder: Path) -> None:
    path = written(tmp_path, set=[f'model.name="{tiny_folder}"', *SMALL])
    complaint = tmp_path / "complaint"
    process = nursery.start("study", str(path), log=tmp_path / "log", errors=complaint)
    process.until((tmp_path / "test" / "runs" / "base" / "seed-1" / "resolved.json").exists)
    process.send(signal.SIGTERM)
    assert (process.wait(), complaint.read_text()) == (
        130,
        "to continue, repeat the command; finished runs are kept\ninterrupted\n",
    )


def without_seed_2(made: StudyPlan, out: Path) -> Path:
    """A copy of a study's folder in which two runs are missing."""
    shutil.copytree(made.out, out)
    for variant in made.study.variants:
        shutil.rmtree(out / "runs" / variant / "seed-2")
    return out


def last_of(path: Path) -> str:
    """Which process on which machine held a file last."""
    newest = max(path.parent.glob(f"{path.name}.*"), key=lambda lease: int(lease.suffix[1:]), default=None)
    return newest.read_text() if newest else ""


# ------------------------------------------------------------------------------------------------- several workers


def test_cores_are_shared_and_what_the_user_has_set_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "usable_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert workers.shares(3, ()) == [{"OMP_NUM_THREADS": "2"}] * 3
    assert workers.shares(9, ()) == [{"OMP_NUM_THREADS": "1"}] * 9
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert workers.shares(2, ()) == [{}, {}]


def test_every_worker_has_a_gpu_of_its_own_the_best_ones_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old, new = (
        Gpu("RTX 2080 Ti", 10.7, uuid="GPU-0", capability=(7, 5)),
        Gpu("RTX 3090", 23.6, "GPU-1", capability=(8, 6)),
    )
    monkeypatch.setattr(driver, "ask", lambda: driver.Driver((old, new)))
    made = plan(tmp_path, set=['model.device="auto"'])
    assert workers._gpus(made) == [new, old]
    assert workers.shares(2, [new, old]) == [{"CUDA_VISIBLE_DEVICES": "GPU-1"}, {"CUDA_VISIBLE_DEVICES": "GPU-0"}]
    with pytest.raises(StudyError, match="--workers 3: every run needs a GPU of its own; lower it to the 2"):
        workers.shares(3, [new, old])
    assert workers._gpus(plan(tmp_path, set=['model.device="cpu"'])) == []
    with pytest.raises(StudyError, match="'cuda:1' is one GPU for all workers; set it to 'auto'"):
        workers._gpus(plan(tmp_path, set=['model.device="cuda:1"']))


def test_a_driver_that_does_not_answer_is_not_taken_for_a_machine_without_gpus(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(driver, "ask", lambda: driver.Driver(fault="nvidia-smi does not answer"))
    made = plan(tmp_path, set=['model.device="auto"'])
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert workers._gpus(made) == []
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    with pytest.raises(StudyError, match="nvidia-smi does not answer; repair it, or use --workers 1"):
        workers._gpus(made)


def test_a_ctrl_c_is_passed_on_once_and_the_environment_is_as_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    counting = (
        "import signal, sys, time, pathlib; told = []; signal.signal(signal.SIGINT, lambda *_: told.append(1)); "
        f"pathlib.Path({str(tmp_path / 'ready')!r}).touch(); end = time.monotonic() + 60\n"
        "while not told and time.monotonic() < end: time.sleep(0.01)\n"
        f"time.sleep(1); pathlib.Path({str(told)!r}).write_text(str(len(told)))"
    )
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with pytest.raises(KeyboardInterrupt), workers.beside(plan(tmp_path), 2, [sys.executable, "-c", counting]):
        assert "OMP_NUM_THREADS" in os.environ
        while not (tmp_path / "ready").exists():
            time.sleep(0.01)
        signal.raise_signal(signal.SIGINT)
    assert told.read_text() == "1"
    assert "OMP_NUM_THREADS" not in os.environ


def test_two_workers_make_the_same_table_though_a_run_of_one_is_killed(
    finished: tuple[StudyPlan, str], nursery: Nursery, tmp_path: Path
) -> None:
    made, _ = finished
    out = without_seed_2(made, tmp_path / "out")
    process = nursery.start("study", str(made.path), "--out", str(out), "--workers", "2", log=tmp_path / "log")
    begun = out / "workers" / "2.log"
    process.until(lambda: begun.exists() and begun.read_text().count("\n") > 0)
    variant, _, seed = begun.read_text().splitlines()[0].partition(": ")[2].partition(", seed ")
    run = study_plan.load(made.path, out).final_run(variant, int(seed), None)
    process.until((run.root / "resolved.json").exists)
    os.kill(pid_of(run), signal.SIGKILL)
    assert process.wait() == 0, process.printed()
    assert f"another worker: {begun}" in process.printed()
    assert "was killed by signal 9" in begun.read_text()
    assert {kept: (out / kept).read_bytes() for kept in KEPT} == {kept: (made.out / kept).read_bytes() for kept in KEPT}


def test_two_workers_make_the_same_table_though_one_of_them_is_killed_in_mid_run(
    finished: tuple[StudyPlan, str], nursery: Nursery, tmp_path: Path
) -> None:
    made, _ = finished
    out = without_seed_2(made, tmp_path / "out")
    process = nursery.start("study", str(made.path), "--out", str(out), "--workers", "2", log=tmp_path / "log")
    process.until(lambda: (out / "workers" / "2.log").exists() and "seed 2" in (out / "workers" / "2.log").read_text())
    variant = re.findall(r": (\w+), seed 2", (out / "workers" / "2.log").read_text())[0]
    run = study_plan.load(made.path, out).final_run(variant, 2, None)
    process.until((run.root / "checkpoints" / "checkpoint-1" / "manifest.json").exists)
    os.kill(int(last_of(run.root.with_name("seed-2.claim")).split()[0]), signal.SIGKILL)
    os.kill(pid_of(run), signal.SIGKILL)
    assert process.wait() == 0, process.printed()
    assert f"a worker ended with exit code -9 before the study did: {out / 'workers' / '2.log'}" in process.printed()
    assert {kept: (out / kept).read_bytes() for kept in KEPT} == {kept: (made.out / kept).read_bytes() for kept in KEPT}


def test_ctrl_c_reaches_all_workers(nursery: Nursery, tmp_path: Path, tiny_folder: Path) -> None:
    path = written(tmp_path, set=[f'model.name="{tiny_folder}"', *SMALL, "training.max_steps=1000"])
    process = nursery.start("study", str(path), "--workers", "2", log=tmp_path / "log")
    roots = [tmp_path / "test" / "runs" / "plain" / "seed-1", tmp_path / "test" / "runs" / "wide" / "seed-1"]
    process.until(lambda: all((root / "metrics.jsonl").exists() for root in roots))
    process.send(signal.SIGINT)
    assert process.wait() == 130
    worker = (tmp_path / "test" / "workers" / "2.log").read_text()
    assert "to continue, repeat the command; finished runs are kept" in worker
    assert "Traceback" not in worker + process.printed()
    for root in roots:
        assert RunDirectory(root).newest_checkpoint() is not None


# ------------------------------------------------------------------------------------------------- several machines

SLURM, SKY = ROOT / "examples" / "slurm_study.sbatch", ROOT / "examples" / "sky_study.yaml"


def on_a_machine(name: str, nursery: Nursery) -> dict[str, str]:
    """The environment there; on one with fewer cores a run's last bits might be others."""
    cores = os.environ.get("OMP_NUM_THREADS", str(usable_cores()))
    return os.environ | {leases.MACHINE: name, "PYTHON": str(nursery.python), "OMP_NUM_THREADS": cores}


def array_task(number: int, made: StudyPlan, out: Path, nursery: Nursery) -> "tuple[subprocess.Popen[bytes], Path]":
    """A task of the job array as Slurm starts it, on a node of its own, and its log."""
    environment = on_a_machine(f"node-{number}", nursery)
    environment |= {"SLURM_ARRAY_TASK_ID": str(number), "SLURM_SUBMIT_DIR": str(ROOT)}
    environment["SLURM_CPUS_PER_TASK"] = environment.pop("OMP_NUM_THREADS")
    log = out.with_name(f"{number}.log")
    with log.open("wb") as printed:
        return subprocess.Popen(
            ["bash", str(SLURM), str(made.path), str(out)],
            cwd=out.parent, env=environment, stdout=printed, stderr=subprocess.STDOUT,
        ), log  # fmt: skip


def until(condition: Callable[[], bool], *logs: Path) -> None:
    deadline = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < deadline, [log.read_text() for log in logs]
        time.sleep(0.01)


def test_array_tasks_on_two_machines_make_the_same_table_though_one_of_them_dies(
    finished: tuple[StudyPlan, str], nursery: Nursery, tmp_path: Path
) -> None:
    made, _ = finished
    out = without_seed_2(made, tmp_path / "out")
    (dying, its_log), (living, log) = (array_task(number, made, out, nursery) for number in (0, 1))
    with dying, living:
        until(lambda: "seed 2" in its_log.read_text() or dying.poll() is not None, its_log, log)
        variant = re.findall(r": (\w+), seed 2", its_log.read_text())[0]
        root = out / "runs" / variant / "seed-2"
        until((root / "checkpoints" / "checkpoint-1" / "manifest.json").exists, its_log, log)
        left = (root / "lock", root.with_name("seed-2.claim"))
        for path in reversed(left):
            process, _, machine = last_of(path).strip().partition(" on ")
            assert machine == "node-0"
            os.kill(int(process), signal.SIGKILL)
        until(lambda: f"waiting for 1 run of other processes: {variant}, seed 2" in log.read_text(), log)
        assert living.poll() is None
        assert all("on node-0" in last_of(path) for path in left), "for all that is known there, it may be alive"
        for path in left:  # three minutes later
            for lease in path.parent.glob(f"{path.name}.*"):
                os.utime(lease, (0, time.time() - leases.STALE_SECONDS - 1))
        assert living.wait(600) == 0, log.read_text()
    assert all("on node-1" in last_of(path) for path in left)
    metrics = [json.loads(line)["step"] for line in (root / "metrics.jsonl").read_text().splitlines()]
    assert metrics == [1, 2, 3], "it was resumed"
    assert {kept: (out / kept).read_bytes() for kept in KEPT} == {kept: (made.out / kept).read_bytes() for kept in KEPT}


def test_an_array_task_says_what_it_wants(tmp_path: Path) -> None:
    asked = subprocess.run(["bash", str(SLURM)], capture_output=True, text=True, env=os.environ, check=False)
    assert asked.returncode != 0
    assert "usage: sbatch examples/slurm_study.sbatch STUDY.toml FOLDER" in asked.stderr
    options = re.findall(r"^#SBATCH --([a-z-]+)(?:=|\s|$)", SLURM.read_text(), re.MULTILINE)
    assert {"array", "requeue", "signal", "output"} <= set(options)


def test_a_job_of_skypilot_is_the_same_command(
    finished: tuple[StudyPlan, str], nursery: Nursery, tmp_path: Path
) -> None:
    """SkyPilot's own schema took the file (0.14.1); here, its script is run."""
    made, _ = finished
    task = yaml.safe_load(SKY.read_text())
    assert set(task) == {"name", "resources", "workdir", "volumes", "envs", "setup", "run"}
    assert task["envs"]["FOLDER"].startswith(tuple(task["volumes"]))
    assert (ROOT / task["envs"]["STUDY"]).exists()
    environment = on_a_machine("pod", nursery) | {"STUDY": str(made.path), "FOLDER": str(made.out)}
    before = {kept: (made.out / kept).read_bytes() for kept in KEPT}
    done = subprocess.run(
        ["bash", "-c", task["run"]], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert str(made.out / "table.md") in done.stdout
    assert {kept: (made.out / kept).read_bytes() for kept in KEPT} == before
