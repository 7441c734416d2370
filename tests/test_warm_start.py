"""warm_start: the base's own right solutions, cut into rounds and imitated before GRPO; a real run and its kills."""

import json
import math
import os
import random
import signal
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner

from motif_lite import cli
from motif_lite.context import RunContext
from motif_lite.errors import DataError, RecipeError, RunError, TrainingError
from motif_lite.grading.answers import is_correct
from motif_lite.jobs import checking, train_job
from motif_lite.nouns import Problem
from motif_lite.planning import metering, planner, projection, shapes
from motif_lite.planning.machine import Machine
from motif_lite.planning.planner import Plan
from motif_lite.planning.projection import Evaluated
from motif_lite.planning.rows import Lengths
from motif_lite.policies import backends
from motif_lite.policies.protocol import ADAPTER_FILE
from motif_lite.recipe.schema import Recipe
from motif_lite.rollout.reply_format import has_strict_format
from motif_lite.runs import accounting, selection
from motif_lite.runs.costs import Cost
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.warm_start import Example, Sampled, WarmStart
from motif_lite.tasks import chain_sum
from motif_lite.views import plots
from tests.fakes import RecordingObserver
from tests.faults.nursery import Child, Nursery
from tests.faults.soak import compare

ROOT = Path(__file__).parents[1]
TINY = ROOT / "recipes" / "tiny_cpu.toml"

SECTION = (
    'warm_start={num_problems=12, num_samples=3, instruction="", max_tokens=80, temperature=1.0, num_steps=4, '
    "examples_per_step=3, learning_rate=1e-3}"
)
"""Short chains that the tiny model solves in one reply, now and then."""


def write_problems(path: Path, lengths: Sequence[int] = (4, 5), number: int = 20) -> Path:
    rng, rows = random.Random(5), []
    for each in range(number):
        digits = [rng.randrange(10) for _ in range(rng.choice(lengths))]
        rows.append({"id": str(each), "question": chain_sum.question(digits), "answer": str(sum(digits) % 10)})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def changes(tmp_path: Path, model: Path, *further: str) -> list[str]:
    return [
        f'model.name="{model}"', f'data.train="{write_problems(tmp_path / "train.jsonl")}"', "training.max_steps=3",
        "training.problems_per_step=1", "training.micro_batch_size=2", "rollout.num_openings=2",
        "rollout.num_futures=1", "rollout.max_width=4", "rollout.openings.max_tokens=60",
        "rollout.futures.max_tokens=60", "evaluation.benchmarks={}", "evaluation.before=false",
        "evaluation.after=false", SECTION, *further,
    ]  # fmt: skip


def perform(out: Path, given: Sequence[str]) -> tuple[RunDirectory, RecordingObserver]:
    observer = RecordingObserver()
    train_job.job(TINY, given, out).perform(observer)
    return RunDirectory(out), observer


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> tuple[RunDirectory, RecordingObserver]:
    folder = tmp_path_factory.mktemp("warm")
    return perform(folder / "whole", changes(folder, tiny_folder))


def test_a_gradient_that_is_no_number_ends_it_before_an_adapter_is_kept(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from motif_lite.training import imitation

    begin = imitation._Steps.on_step_begin

    def spoilt(self: Any, args: Any, state: Any, control: Any, **given: Any) -> None:
        begin(self, args, state, control, **given)
        if state.global_step == 2:
            next(weight for weight in given["model"].parameters() if weight.requires_grad).data.fill_(math.nan)

    monkeypatch.setattr(imitation._Steps, "on_step_begin", spoilt)
    told = r"the gradient of supervised step 3 is not a number; start a new run with a lower warm_start\.learning_rate"
    with pytest.raises(TrainingError, match=told):
        perform(tmp_path / "run", changes(tmp_path, tiny_folder))
    files = WarmStart(tmp_path / "run")
    assert [step.step for step in files.steps()] == [1, 2]
    assert not files.adapter.exists()


def test_right_solutions_become_rounds_and_everything_is_kept_and_counted(
    whole: tuple[RunDirectory, RecordingObserver],
) -> None:
    run, observer = whole
    files = WarmStart(run.root)
    sampled, examples, steps = files.sampled(), files.examples(), files.steps()
    solutions = [json.loads(line) for line in files.solutions.read_text().splitlines()]
    assert sampled is not None
    assert sampled.num_problems == 12
    assert sampled.num_cut == sampled.num_solved == len({each["problem"] for each in solutions if each["correct"]}) > 0
    assert sampled.examples_by_round == (sampled.num_cut,) * 3
    assert [each.round for each in examples] == [1, 2, 3] * sampled.num_cut
    assert sampled.cost.generated_tokens == sum(each["tokens"] for each in solutions)
    assert sampled.cost.prompts == len(solutions)
    golds = {each["problem"]: each["gold"] for each in solutions}
    assert all(has_strict_format(each.reply) for each in examples)
    assert [is_correct(golds[each.problem], each.reply) for each in examples] == [False, False, True] * sampled.num_cut
    assert [step.step for step in steps] == [1, 2, 3, 4]
    assert [step.learning_rate for step in steps] == pytest.approx([1e-3, 7.5e-4, 5e-4, 2.5e-4])
    cost = accounting.of(run)["warm start"]
    assert cost.generated_tokens == sampled.cost.generated_tokens
    assert cost.trained_tokens == sum(step.trained_tokens for step in steps) > 0
    assert cost.seconds == pytest.approx(sampled.cost.seconds + sum(step.seconds for step in steps))
    assert run.spent().tokens == cost.generated_tokens + sum(sum(line.tokens.values()) for line in run.metrics())
    assert plots.tokens(run.metrics(), run.preparing)[-1] == run.spent().tokens
    [told] = [note for note in observer.notes if "problems were solved" in note]
    assert f"warm_start: {sampled.num_solved} of 12 problems were solved" in told
    assert f"cut into {len(examples)} examples ({cost.generated_tokens:,} tokens)" in told
    assert not list(run.root.rglob("*.parts"))
    assert not (files.folder / "checkpoints").exists()


def test_a_problem_that_is_solved_is_not_asked_again(whole: tuple[RunDirectory, RecordingObserver]) -> None:
    lines = WarmStart(whole[0].root).solutions.read_text().splitlines()
    solved = set[str]()
    for each in map(json.loads, lines):
        assert each["problem"] not in solved
        solved |= {each["problem"]} if each["correct"] else set()
    assert 12 < len(lines) < 36


def test_prompts_of_examples_are_those_of_rollouts(whole: tuple[RunDirectory, RecordingObserver]) -> None:
    run, _ = whole
    examples = WarmStart(run.root).examples()
    first = {each.problem: each.prompt for each in examples if each.round == 1}
    rollouts = {line.problem: line.opening.prompt for line in run.rollouts()}
    assert all(first[problem] == prompt for problem, prompt in rollouts.items() if problem in first)
    by_round = [each for each in examples if each.problem == examples[0].problem]
    for before, after in pairwise(by_round):
        progress = before.reply.partition("<answer>\n")[2].removesuffix("\n</answer>")
        assert f' Progress in round {before.round}: "{progress}"' in after.prompt
    assert "Current round is the final (third) round" in by_round[2].prompt


def test_grpo_begins_with_what_was_imitated(tmp_path: Path, tiny_folder: Path) -> None:
    """The learning rate of its first step is 0, so a run of one step ends with the adapter of the warm start."""
    run, _ = perform(tmp_path / "run", changes(tmp_path, tiny_folder, "training.max_steps=1"))
    warm, trained = (load_file(folder / ADAPTER_FILE) for folder in (WarmStart(run.root).adapter, run.adapter))
    assert warm.keys() == trained.keys()
    assert all(bool((weight == trained[name]).all()) for name, weight in warm.items())
    assert any(bool(weight.any()) for name, weight in warm.items() if "lora_B" in name)


def test_more_steps_make_what_is_imitated_likelier(tmp_path: Path, tiny_folder: Path) -> None:
    given = changes(tmp_path, tiny_folder, "warm_start.num_steps=16", "training.max_steps=1")
    run, observer = perform(tmp_path / "run", given)
    losses = [step.loss for step in WarmStart(run.root).steps()]
    assert max(losses[-3:]) < 0.7 * min(losses[:3])
    assert f"16 supervised steps, loss {losses[0]:.3f} in the first and {losses[-1]:.3f} in the last" in "".join(
        observer.notes
    )


def test_what_is_measured_before_training_is_the_base(tmp_path: Path, tiny_folder: Path) -> None:
    measured = (
        "evaluation.before=true", "evaluation.after=true", 'evaluation.strategies=["multi_round"]',
        'evaluation.benchmarks={short={source="chain_sum", num_problems=8}}', "evaluation.num_samples=0",
        'evaluation.validation={source="chain_sum", num_problems=4, num_marks=1}', "training.max_steps=1",
    )  # fmt: skip
    warm, _ = perform(tmp_path / "warm", changes(tmp_path, tiny_folder, *measured))
    cold = [change for change in changes(tmp_path, tiny_folder, *measured) if not change.startswith("warm_start")]
    base, _ = perform(tmp_path / "cold", cold)
    name = "short.before.multi_round.greedy.jsonl"
    assert (warm.root / "evaluations" / name).read_bytes() == (base.root / "evaluations" / name).read_bytes()
    after = name.replace("before", "after")
    assert (warm.root / "evaluations" / after).read_bytes() != (base.root / "evaluations" / after).read_bytes()
    assert warm.marks()[0].tokens == warm.preparing["warm start"].generated_tokens


@pytest.fixture
def load(tmp_path: Path, tiny_folder: Path) -> Callable[..., RunContext]:
    """A run that has begun, with the tiny model."""

    def make(*further: str) -> RunContext:
        recipe = checking.check(TINY, changes(tmp_path, tiny_folder, *further))
        run = RunDirectory.create(tmp_path / "run", recipe, "")
        policy = backends.backend("transformers").load(recipe, str(tiny_folder))
        return RunContext(recipe, policy, run, RecordingObserver())

    return make


SOLUTION = "=0\na00\nb44\nc59\n\\boxed{9}"
PROBLEM = Problem("1", "a0b4c5=", "9")


def test_the_loss_is_that_of_the_reply_and_its_end_alone(load: Callable[..., RunContext]) -> None:
    from motif_lite.training import imitation

    policy = load().policy
    row = imitation._row(policy, Example(problem="1", round=1, prompt="<|user|>a<|end|><|assistant|>", reply="b c"))  # type: ignore[arg-type]
    decode = policy.tokenizer.decode  # type: ignore[attr-defined]
    assert decode(row["input_ids"]) == "<|user|>a<|end|><|assistant|>b c<|end|>"
    assert decode([label for label in row["labels"] if label != -100]) == "b c<|end|>"
    assert row["labels"][: -len("b c") - 1] == [-100] * (len(row["labels"]) - 4)


def test_rows_are_repeated_in_another_order_each_time() -> None:
    from motif_lite.training import imitation

    order = imitation._order(1, 5, 13)
    assert len(order) == 13
    assert sorted(order[:5]) == sorted(order[5:10]) == [0, 1, 2, 3, 4]
    assert order[:5] != order[5:10]
    assert order == imitation._order(1, 5, 13) != imitation._order(2, 5, 13)


def test_marks_of_the_chat_template_in_a_solution_end_no_turn(load: Callable[..., RunContext]) -> None:
    from motif_lite.training.demonstrations import Cutter

    context = load()
    policy = context.policy
    cutter = Cutter(context.recipe, policy)  # type: ignore[arg-type]
    cutter.add(PROBLEM, SOLUTION.replace("b44", "b44<|end|><|user|>"))
    examples = cutter.examples_of(PROBLEM)
    end = policy.tokenizer.convert_tokens_to_ids("<|end|>")  # type: ignore[attr-defined]
    assert any("<|end|>" not in each.reply and "end|>" in each.reply for each in examples)
    for each in examples:
        ids = policy.encode_reply(each.reply)  # type: ignore[attr-defined]
        assert ids.count(end) == 1
        assert ids[-1] == end
        assert each.prompt.count("<|user|>") == 1


def test_what_cannot_be_cut_is_counted_by_its_reason(load: Callable[..., RunContext]) -> None:
    from motif_lite.training.demonstrations import Cutter

    context = load("rollout.openings.max_tokens=25")
    cutter = Cutter(context.recipe, context.policy)  # type: ignore[arg-type]
    cutter.add(PROBLEM, "\\boxed{9}")
    cutter.add(PROBLEM, "One.\n" + "\n".join("123456789" for _ in range(9)) + "\n\\boxed{9}")
    cutter.add(PROBLEM, SOLUTION.replace("{9}", "{8}"))
    assert not cutter.has(PROBLEM)
    uncut, long = "cannot be cut into as many rounds", "have a round that is longer than its limit"
    assert cutter.left_out == {uncut: [PROBLEM.id] * 2, long: [PROBLEM.id]}
    cutter.add(PROBLEM, SOLUTION)
    assert [each.round for each in cutter.examples_of(PROBLEM)] == [1, 2, 3]


def test_problems_whose_plain_prompt_leaves_no_room_for_a_solution_are_not_asked(
    load: Callable[..., RunContext],
) -> None:
    from motif_lite.training.demonstrations import demonstrate

    context = load("warm_start.max_tokens=192")
    section, long = context.recipe.warm_start, Problem("2", "a1" * 32 + "=", "2")
    assert section is not None
    with pytest.raises(DataError, match=r"every prompt is longer than .* = 64 tokens; lower warm_start\.max_tokens"):
        demonstrate(context, section, [long])
    found = demonstrate(context, section, [long, PROBLEM])
    assert (found.num_problems, found.num_long) == (1, 1)
    solutions = WarmStart(context.run.root).solutions.read_text().splitlines()
    assert {json.loads(line)["problem"] for line in solutions} == {PROBLEM.id}


def test_solutions_and_problems_that_are_left_out_are_told_apart() -> None:
    from motif_lite.training.warm_start import _told

    sampled = Sampled(
        num_problems=9, num_solved=8, num_cut=6, left_out={"are long": 25}, problems_left_out={"are long": 7},
        examples_by_round=(6, 6), cost=Cost(),
    )  # fmt: skip
    assert _told(sampled).endswith("; 25 right solutions of 7 problems are long")
    long = sampled.model_copy(update={"num_long": 3})
    assert _told(long).endswith("; 3 problems were not asked, as their plain prompts leave no room for a solution")


def test_a_single_round_imitates_whole_solutions(tmp_path: Path, tiny_folder: Path) -> None:
    run, _ = perform(tmp_path / "run", changes(tmp_path, tiny_folder, 'rollout.strategy="single_round"'))
    examples = WarmStart(run.root).examples()
    assert {each.round for each in examples} == {1}
    assert all("\\boxed{" in each.reply for each in examples)


def test_too_few_right_solutions_end_in_a_message_also_when_resumed(tmp_path: Path, tiny_folder: Path) -> None:
    out = tmp_path / "run"
    given = changes(tmp_path, tiny_folder, "warm_start.examples_per_step=500")
    said = (
        r"warm_start: \d+ of 12 problems were solved.*too few for warm_start\.examples_per_step = 500.*Start a new run"
    )
    with pytest.raises(DataError, match=said):
        perform(out, given)
    before = (WarmStart(out).folder / "sampling.json").read_bytes()
    with pytest.raises(DataError, match=said):
        train_job.job(None, [], out, resume=True).perform(RecordingObserver())
    assert (WarmStart(out).folder / "sampling.json").read_bytes() == before
    with pytest.raises(RunError, match=r"different settings for warm_start\.examples_per_step"):
        train_job.job(None, ["warm_start.examples_per_step=3"], out, resume=True)


def test_a_budget_that_is_spent_before_the_first_step_ends_in_a_message(tmp_path: Path, tiny_folder: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(DataError, match=r"before the first step took [\d,]+ tokens .*all that training\.until_tokens"):
        perform(out, changes(tmp_path, tiny_folder, "training.until_tokens=100"))
    train_job.job(None, ["training.until_tokens=3000"], out, resume=True).perform(RecordingObserver())
    run = RunDirectory(out)
    assert run.metrics()
    assert run.is_trained(checking.check(TINY, ["training.until_tokens=3000", "training.max_steps=3"]).training)


def test_a_damaged_adapter_is_made_again_from_the_same_examples(tmp_path: Path, tiny_folder: Path) -> None:
    out = tmp_path / "run"
    run, _ = perform(out, changes(tmp_path, tiny_folder))
    weights = WarmStart(out).adapter / ADAPTER_FILE
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    observer = RecordingObserver()
    train_job.job(None, ["training.max_steps=4"], out, resume=True).perform(observer)
    assert any("the supervised steps are done again" in note for note in observer.notes)
    assert weights.read_bytes() == whole
    assert run.spent().steps == 4


def test_damaged_files_of_it_are_named_with_their_remedy(tmp_path: Path, tiny_folder: Path) -> None:
    out = tmp_path / "run"
    run, _ = perform(out, changes(tmp_path, tiny_folder, "training.max_steps=1"))
    files, before = WarmStart(out), accounting.of(run)["warm start"].generated_tokens
    (files.adapter / ADAPTER_FILE).unlink()
    examples = files.folder / "examples.jsonl"
    examples.write_text("".join(examples.read_text().splitlines(keepends=True)[1:]))
    again = train_job.job(None, ["training.max_steps=2"], out, resume=True)
    with pytest.raises(RunError, match=r"examples\.jsonl: has \d+ of \d+ examples; remove warm_start/sampling\.json"):
        again.perform(RecordingObserver())
    (files.folder / "sampling.json").write_text("{")
    with pytest.raises(RunError, match=r"sampling\.json: cannot be read .*; remove warm_start/sampling\.json"):
        train_job.job(None, ["training.max_steps=2"], out, resume=True).perform(RecordingObserver())
    (files.folder / "sampling.json").unlink()
    train_job.job(None, ["training.max_steps=2"], out, resume=True).perform(RecordingObserver())
    assert run.spent().steps == 2
    assert accounting.of(run)["warm start"].generated_tokens == before


def test_problems_are_selected_by_the_policy_that_the_warm_start_left(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOTIF_LITE_CACHE", str(tmp_path / "cache"))
    select = "data.select={num_samples=2, min_pass_rate=0.0, max_pass_rate=1.0}"
    warm, observer = perform(tmp_path / "warm", changes(tmp_path, tiny_folder, select))
    cold = [each for each in changes(tmp_path, tiny_folder, select) if not each.startswith("warm_start")]
    base, _ = perform(tmp_path / "cold", cold)
    phases = [name for name, _ in observer.named("phase")]
    assert phases.index("warm start") < phases.index("evaluating")
    assert list(accounting.of(warm))[:2] == ["warm start", "selection"]
    rates = [selection.kept(run.root) for run in (warm, base)]
    assert rates[0] is not None
    assert rates[1] is not None
    assert rates[0].num_correct != rates[1].num_correct, "the cache took the one for the other, or the order is wrong"
    again, _ = perform(tmp_path / "again", changes(tmp_path, tiny_folder, select))
    assert (again.root / selection.FILE).read_bytes() == (warm.root / selection.FILE).read_bytes()
    assert again.rollouts() == warm.rollouts()


def plan(*changes: str) -> Plan:
    return checking.memory_plan(TINY, ["training.until_tokens=100000", "training.max_steps=1000", *changes], 8.0)


def test_the_plan_counts_it_and_takes_it_off_the_budget() -> None:
    section = "warm_start={num_problems=50, num_samples=2, num_steps=10, examples_per_step=8}"
    with_it, without = plan(section), plan()
    evaluated = list(checking.evaluated(with_it.recipe, checking.expected_problems(with_it.recipe)))
    assert Evaluated("solutions of the warm start", 100, 1, 1, takes_budget=True) in evaluated
    assert with_it.estimate.total("warm start") > 0
    assert {"warm start", "imitation"}.isdisjoint(without.estimate.phases)
    longer = plan(section, "rollout.futures.max_tokens=100", 'training.credit="opening"')
    assert longer.estimate.total("imitation") > with_it.estimate.total("imitation")
    assert longer.estimate.phases["update"]["activations"] == with_it.estimate.phases["update"]["activations"]
    found = [
        projection.planned(each, list(of), Lengths.worst(each.recipe))
        for each, of in ((with_it, evaluated), (without, ()))
    ]
    assert found[0].evaluation["supervised steps"] == pytest.approx(found[1].step["update"] * 80 / 64)
    tokens = 100 * with_it.recipe.rollout.openings.max_tokens
    assert found[1].num_steps - found[0].num_steps == pytest.approx(tokens / 100000 * found[1].num_steps, abs=1)


def test_a_dry_run_shows_what_it_takes(tmp_path: Path, tiny_folder: Path) -> None:
    command = ["--recipe", str(TINY), "--dry-run"]
    for change in changes(tmp_path, tiny_folder):
        command += ["--set", change]
    done = CliRunner().invoke(cli.app, command)
    assert done.exit_code == 0, done.output
    assert "solutions of the warm start" in done.output
    assert "supervised steps" in done.output


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ('rollout.strategy="refine"', r"warm_start cuts solutions into the rounds of multi_round, and .*'refine'"),
        ("warm_start.max_tokens=250", r"rollout\.max_prompt_tokens \+ warm_start\.max_tokens = 314"),
        ("warm_start.num_step=3", r"warm_start\.num_step.*did you mean warm_start\.num_steps\?"),
        ("warm_start.learning_rate=0.0", r"warm_start\.learning_rate"),
    ],
)
def test_mistakes_are_named_with_their_key(change: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        checking.check(TINY, ["warm_start={}", change])


def test_by_default_a_solution_may_be_as_long_as_all_rounds_together_within_the_context() -> None:
    def limit(*changes: str) -> int:
        recipe: Recipe = checking.check(TINY, ["warm_start={}", *changes])
        assert recipe.warm_start is not None
        return recipe.sampling_of(recipe.warm_start).max_tokens

    assert limit() == 3 * 35
    assert limit('rollout.strategy="single_round"') == 35
    assert limit("model.max_seq_length=160") == 160 - 64
    assert limit("warm_start.max_tokens=50") == 50


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


KILLS: dict[str, Callable[[Path], bool]] = {
    "in the sampling": lambda folder: lines(folder / "solutions.jsonl.parts") >= 3,
    "between sampling and steps": lambda folder: (folder / "sampling.json").exists(),
    "in the steps": lambda folder: lines(folder / "steps.jsonl") >= 2 and any((folder / "checkpoints").glob("c*")),
    "between steps and GRPO": lambda folder: (folder / "adapter" / "manifest.json").exists(),
    "in the selection": lambda folder: lines(folder.parent / "evaluations" / "selection.jsonl.parts") >= 2,
    "in GRPO": lambda folder: lines(folder.parent / "metrics.jsonl") >= 1,
}
"""Moments of a run in their order, and how they are seen."""


def test_a_run_that_is_killed_at_each_of_its_moments_is_the_run_that_was_not(
    nursery: Nursery, tmp_path: Path, tiny_folder: Path
) -> None:
    select = "data.select={num_samples=2, min_pass_rate=0.0, max_pass_rate=1.0}"
    given = changes(tmp_path, tiny_folder, select, "warm_start.num_steps=8", "training.save_every=1")
    settings = [part for change in given for part in ("--set", change)]

    def start(name: str) -> Child:
        """Each with a cache of its own: the killed run shall measure pass rates itself."""
        out = tmp_path / name
        how = ["--resume"] if (out / "resolved.json").exists() else ["--recipe", str(TINY), *settings]
        environment = os.environ | {"MOTIF_LITE_CACHE": str(tmp_path / f"cache of {name}")}
        return nursery.start(*how, "--out", str(out), log=tmp_path / f"{name}.log", environment=environment)

    for moment, has_come in KILLS.items():
        child = start("killed")
        child.until(partial(has_come, tmp_path / "killed" / "warm_start"))
        child.send(signal.SIGKILL)
        assert child.wait() == 128 + signal.SIGKILL, f"{moment}: {child.printed()}"
    assert lines(tmp_path / "killed" / "metrics.jsonl") < 3, "the run was too quick to be killed"
    for name in ("killed", "whole"):
        child = start(name)
        assert child.wait() == 0, child.printed()
    assert compare(tmp_path / "whole", tmp_path / "killed") == []


def test_a_real_chat_model_imitates_its_own_solutions(smollm2: Path, tmp_path: Path) -> None:
    """An easy task, in one round: to copy the sentence with the box, which it does now and then."""
    rows = []
    for number in (2, 3, 5, 7, 8, 9):
        said = " ".join(f"{each} is a number. The answer is \\boxed{{{each}}}." for each in (4, number))
        rows.append({"question": f"Complete the text: {said} {number} is a number.", "answer": str(number)})
    problems = tmp_path / "problems.jsonl"
    problems.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = [
        f'model.name="{smollm2}"', f'data.train="{problems}"', "model.max_seq_length=256", "lora.rank=8",
        'rollout.strategy="single_round"', "rollout.max_prompt_tokens=160", "rollout.max_width=8",
        "rollout.openings.max_tokens=48", "rollout.futures.max_tokens=48", "rollout.num_openings=2",
        "rollout.num_futures=1", "training.max_steps=1", "training.problems_per_step=1", "training.micro_batch_size=2",
        "evaluation.benchmarks={}", "evaluation.before=false", "evaluation.after=false",
        'warm_start={num_samples=3, instruction="", max_tokens=24, temperature=0.5, num_steps=8, examples_per_step=1, '
        "learning_rate=2e-3}",
    ]  # fmt: skip
    import motif_lite.training.grpo  # noqa: F401  # its libraries, and what earlier tests hold, count before it begins

    machine = metering.measured(Machine("cpu", 16.0, "a test's"))
    run, _ = perform(tmp_path / "run", given)
    files = WarmStart(run.root)
    sampled, examples = files.sampled(), files.examples()
    assert sampled is not None
    assert sampled.num_cut == len(examples) >= 1
    assert all("<|im_start|>assistant" in each.prompt and has_strict_format(each.reply) for each in examples)
    planned = planner.make(checking.check(TINY, given), shapes.of(str(smollm2)), machine)
    ratio = planned.estimate.total("imitation") / max(step.peak_memory_bytes for step in files.steps())
    print(f"imitation planned / measured: {ratio:.2f}")
    assert 1 / 1.3 < ratio < 1.3
    losses = [step.loss for step in files.steps()]
    assert losses[-1] < losses[0]
    assert any(has_strict_format(line.opening.reply) for line in run.rollouts()), "the base writes no tags"
