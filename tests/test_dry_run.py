"""The preflight: what a run would do, shown on its first problem by the real trainer, and nothing kept."""

import io
import json
import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.cells import cell_len
from rich.console import Console
from typer.testing import CliRunner

from motif_lite import cli
from motif_lite.errors import ModelError, MotifError, TrainingError
from motif_lite.jobs import checking, dry_run_job, session
from motif_lite.monitor import first_group
from motif_lite.planning import planner, shapes, speeds
from motif_lite.planning.machine import Machine
from motif_lite.planning.projection import Evaluated, project
from motif_lite.policies.facts import Token, tokens_of
from motif_lite.recipe.schema import Recipe
from motif_lite.views.dry_run import Screen
from motif_lite.views.tokens import as_text
from tests import records
from tests.chats import ASKS, CHATML, CHATML_MARKS, chat_tokenizer
from tests.fakes import RecordingObserver
from tests.random_models import write_random

ROOT = Path(__file__).parents[1]
TINY = ROOT / "recipes" / "tiny_cpu.toml"
SMALL = [
    "rollout.num_openings=4", "rollout.num_futures=2", "training.problems_per_step=2", "training.micro_batch_size=8",
    "data.num_problems=16", "evaluation.benchmarks.chain_sum.num_problems=8",
]  # fmt: skip


class Recorded(Screen):
    """Remembers what it is to show, and shows it on any console."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_") or name in ("calls", "on"):
            return super().__getattribute__(name)
        return lambda *arguments: self.calls.append((name, arguments))

    def on(self, width: int, *, terminal: bool = False) -> str:
        console = Console(file=io.StringIO(), width=width, force_terminal=terminal, highlight=False)
        for name, arguments in self.calls:
            getattr(Screen(console), name)(*arguments)
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue()


def tried(*changes: str) -> Recorded:
    recorded = Recorded()
    dry_run_job.job(TINY, [*SMALL, *changes], None).perform(RecordingObserver(), recorded)
    return recorded


def shown(*changes: str, width: int = 100) -> str:
    """The whole screen of a dry run, without the two seconds that measure the processor."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speeds, "measured", lambda: speeds.CPU)
        return tried(*changes).on(width)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="module")
def recorded(tiny_folder: Path, scratch: Path) -> Recorded:
    """Of the tiny model, which knows its task; whatever is written in between goes to `scratch`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(scratch))
        patch.chdir(scratch)
        return tried(f"model.name={json.dumps(str(tiny_folder))}")


@pytest.fixture(scope="module")
def screen(recorded: Recorded) -> str:
    return recorded.on(100)


def section(screen: str, heading: str) -> str:
    """What stands below a heading."""
    return next(part.partition("\n")[2] for part in screen.split("\n== ") if part.startswith(heading))


# ------------------------------------------------------------------------------------------------------ the screen


def test_prompts_of_all_rounds_are_shown_as_tokens_with_special_ones_marked(screen: str) -> None:
    first = section(screen, "prompt of round 1")
    assert first.startswith("  [<|user|>]|")
    assert first.replace("\n  ", "").rstrip().endswith("=|[<|end|>]|[<|assistant|>]")
    question = re.sub(r"\[[^]]*\]|\|", "", first.replace("\n  ", "")).strip()
    assert re.fullmatch(r"([a-z]\d)+=", question)
    for number in (2, 3):
        later = section(screen, f"prompt of round {number}")
        assert f"tokens as in round {number - 1})" in later
        assert f"[ Progress in round {number - 1}:" in later
    assert "final (third) round" in section(screen, "prompt of round 3").replace("\n ", "")


def test_the_model_is_described_as_it_was_loaded(screen: str) -> None:
    found = section(screen, "model")
    assert re.search(r"system +none$", found, re.MULTILINE)
    assert re.search(r"turn ends +<\|end\|>$", found, re.MULTILINE)
    assert "rank 64 on 14 of 14 linear layers, 100 % of the weights" in found
    assert "311,296 weights are trained" in found


def test_replies_of_the_group_have_their_verdicts_and_rewards_in_words(screen: str) -> None:
    found = section(screen, "4 openings with their futures; the right answer is")
    assert "<reasoning> ⏎" in found
    assert re.search(r"\d+ tokens, (ended by itself|cut off at its limit); (both sections|not the form)", found)
    counted = [int(number) for number in re.findall(r"^ +(\d) x (?:right|wrong): ", found, re.MULTILINE)]
    assert sum(counted) % 2 == 0, "two futures each"
    earned = re.findall(r"earns (\d\.\d\d) = future_accuracy (\d\.\d\d) \+ tag_count (\d\.\d\d)", found)
    assert earned
    assert "no box, no credit" in found or "(the only box, inside <answer>)" in found


def test_the_step_is_measured_by_phase_next_to_the_plan(screen: str) -> None:
    found = section(screen, "one step on this group")
    assert re.search(r"gradient +(norm \d|0: all)", found)
    for phase in ("openings", "futures", "update"):
        row = re.search(rf"^ +{phase} +([\d.].*)", found, re.MULTILINE)
        assert row
        seconds, planned, peak, planned_peak, *_ = row[1].split()
        assert re.fullmatch(r"\d+\.\d\d", seconds)  # a step of the tiny model may take less than 5 ms
        assert re.fullmatch(r"\d+\.\d\d", planned)
        assert float(peak) == pytest.approx(float(planned_peak), rel=0.6)


def test_a_whole_run_is_extrapolated_with_its_evaluations(screen: str) -> None:
    found = section(screen, "a whole run")
    assert re.search(r"step +[\d.]+ s with 2 problems", found)
    assert "for 20 steps" in found
    assert "chain_sum, single_round" in found
    assert "chain_sum, multi_round" in found
    assert re.search(r"all +about", found)


def test_nothing_is_left_behind_and_the_verdict_comes_last(screen: str, scratch: Path) -> None:
    assert screen.rstrip().endswith("== this recipe would train; nothing was written")
    assert [path for path in scratch.iterdir() if "wandb" not in path.name] == []  # its import makes folders until exit
    assert all(line == line.rstrip() for line in screen.splitlines())


# ----------------------------------------------------------------------------------------------- models and templates

DROPS_SYSTEM = (
    "{% for m in messages if m['role'] != 'system' %}<|im_start|>{{ m['role'] + '\n' + m['content'] }}<|im_end|>\n"
    "{% endfor %}" + ASKS
)
OPENS_THINK = CHATML.replace("assistant\\n", "assistant\\n<think>\\n")
OWN_SYSTEM = "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are Bo.<|im_end|>\n{% endif %}" + CHATML


def random_changes(folder: Path, template: str) -> list[str]:
    write_random(folder, "llama", template=template)
    return [
        f"model.name={json.dumps(str(folder))}", "model.max_seq_length=512", "rollout.num_rounds=2",
        "rollout.max_prompt_tokens=400", "rollout.openings.max_tokens=6", "rollout.futures.max_tokens=6",
        "lora.rank=4",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("template", "system", "became", "remark"),
    [
        (DROPS_SYSTEM, "Be brief.", "at the beginning of the user's message", "its chat template has no system role"),
        (OPENS_THINK, "Be brief.", "in the chat template's system role", "opens a think block in each prompt"),
        (OWN_SYSTEM, "", "the chat template writes its own: 'You are Bo.'", "no final reply has a boxed answer"),
    ],
    ids=["drops the system prompt", "opens a think block", "has a system prompt of its own"],
)
def test_what_a_template_does_is_shown_and_remarked_at_the_end(
    tmp_path: Path, template: str, system: str, became: str, remark: str
) -> None:
    screen = shown(*random_changes(tmp_path, template), f"rollout.system_prompt={json.dumps(system)}", width=200)
    assert became in section(screen, "model")
    assert remark in section(screen, "remarks")
    assert screen.index("== remarks") > screen.index("== a whole run")
    assert system in section(screen, "prompt of round 1").replace("|", "")
    if template == OPENS_THINK:
        prompt = section(screen, "prompt of round 1").replace("\n", "").replace("|", "").replace(" ", "")
        assert prompt.endswith("assistant⏎<think>⏎")


def test_of_a_real_chat_model(smollm2: Path) -> None:
    screen = shown(
        f"model.name={json.dumps(str(smollm2))}", 'rollout.system_prompt=""', "rollout.num_rounds=2",
        "rollout.num_openings=2", "rollout.num_futures=1", "rollout.openings.max_tokens=4",
        "rollout.futures.max_tokens=4", "rollout.max_prompt_tokens=128", "training.problems_per_step=1",
        "training.micro_batch_size=2", "lora.rank=4",
    )  # fmt: skip
    assert "the chat template writes its own: 'You are a helpful AI" in section(screen, "model").replace("\n", " ")
    assert "<|im_end|> or <|endoftext|>" in screen
    assert "210 of 210 linear layers" in screen
    assert "[<|im_start|>]|system|⏎" in section(screen, "prompt of round 1")
    assert "2 of 2" not in screen
    assert "100 % of the openings were cut off at 4 tokens" in section(screen, "remarks").replace("\n", " ")


# ------------------------------------------------------------------------------------------------------- refusals


def refusal(*arguments: str) -> str:
    done = CliRunner().invoke(cli.app, list(arguments))
    assert done.exit_code == 2, done.output
    assert "Traceback" not in done.output
    return done.output.replace("\n", " ")


RUNS_ONLY = [["--resume"], ["--evaluate-only"], ["--adapter", "x"], ["--strategy", "multi_round"], ["--solve-one"]]


@pytest.mark.parametrize("other", [*RUNS_ONLY, ["--vram", "8"]])
def test_it_tries_a_new_run_only(other: list[str]) -> None:
    assert "--dry-run goes with --recipe, --set and --out only" in refusal("--recipe", str(TINY), "--dry-run", *other)


@pytest.mark.parametrize("other", [*RUNS_ONLY, ["--out", "x"], ["--dry-run"]])
def test_a_plan_and_a_check_ignore_no_option(other: list[str]) -> None:
    assert "--plan goes with --recipe, --set, --gpu, --vram, --typical and --processes only" in refusal(
        "--recipe", str(TINY), "--plan", *other
    )
    assert "--check goes with --recipe and --set only" in refusal("--recipe", str(TINY), "--check", *other)


def test_a_run_that_could_not_solve_one_is_refused_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    begun = ["--recipe", str(TINY), "--out", str(tmp_path / "run"), "--solve-one"]
    without = [
        part for name in ("benchmarks={}", "before=false", "after=false") for part in ("--set", f"evaluation.{name}")
    ]
    assert "--solve-one goes with a run that trains" in refusal(*begun, "--evaluate-only")
    assert "from [evaluation.benchmarks], and the recipe has none" in refusal(*begun, *without)
    assert "--pause-at ends before there is one; leave one out" in refusal(*begun, "--pause-at", "0.5")
    assert list(tmp_path.iterdir()) == []


def test_a_run_directory_that_exists_is_refused_as_by_a_run_and_not_touched(tmp_path: Path) -> None:
    (tmp_path / "resolved.json").write_text("{}")
    before = [(path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")]
    assert "is not empty" in refusal("--recipe", str(TINY), "--dry-run", "--out", str(tmp_path))
    assert [(path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")] == before


def test_what_a_run_refuses_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="ignores add_generation_prompt"):
        shown(*random_changes(tmp_path, CHATML.replace(ASKS, "")), "rollout.max_prompt_tokens=400")
    with pytest.raises(MotifError, match="every prompt is longer than"):
        shown(*random_changes(tmp_path / "other", CHATML), "rollout.max_prompt_tokens=3")


def test_a_reward_that_fails_in_the_step_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def brief(opening):\n    return 1 / 0 if opening.turn.reply.num_tokens > 1 else 0.0\n"
    )
    name = f"{tmp_path / 'mine.py'}:brief"
    with pytest.raises(TrainingError, match=r"division by zero.*\(this was a dry run: nothing was saved\)"):
        shown(*random_changes(tmp_path / "model", CHATML), f'rewards={{"{name}"=1.0}}')


def test_a_step_whose_gradient_is_no_number_would_not_be_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.nn.utils.get_total_norm", lambda gradients: torch.tensor(float("nan")))
    screen = shown(*random_changes(tmp_path, CHATML), width=200)
    assert "gradient   not a number" in screen
    assert "the gradient is not a number, so a run would skip this update" in section(screen, "remarks")
    assert screen.rstrip().endswith("== the update of this step would be skipped; nothing was written")


# ---------------------------------------------------------------------------------------------------------- parts


def test_a_key_that_does_nothing_is_noted_where_the_model_is_trained(tiny_folder: Path) -> None:
    recipe = checking.check(TINY, [f"model.name={json.dumps(str(tiny_folder))}", "training.epsilon_high=0.28"])
    noted = []
    for trains in (True, False):
        observer = RecordingObserver()
        session.load_policy(session.required_backend(recipe), recipe, observer, trains=trains)
        noted.append([note for note in observer.notes if "does nothing" in note])
    note = "note: training.epsilon_high does nothing with training.num_iterations = 1: every policy ratio is 1"
    assert noted == [[note], []]


def test_seconds_memory_and_tokens_are_those_of_one_step(recorded: Recorded) -> None:
    [(_, (recipe, tried, plan))] = [call for call in recorded.calls if call[0] == "step"]
    assert (tried.metrics.step, tried.cost.step) == (1, 2), "the first step was short"
    cost = records.step(
        2, seconds={"openings": 7.0}, tokens={"openings": 1_234_567},
        peak_memory_bytes={"openings": 11 * 2**30}, planned_memory_bytes={"openings": 12 * 2**30},
    )  # fmt: skip
    other = Recorded()
    other.step(recipe, replace(tried, cost=cost), plan)
    row = re.search(r"^ +openings +(.*)", other.on(100), re.MULTILINE)
    assert row
    seconds, _, *figures = row[1].split()
    assert (seconds, figures) == ("7.0", ["11.0", "12.0", "1,234,567"])


@pytest.mark.parametrize("text", ["plain", "<|im_start|>user\n½ 数学 é<|im_end|>\n", "a" * 50, ""])
def test_tokens_are_the_text_piece_by_piece(text: str) -> None:
    tokens = list(tokens_of(chat_tokenizer(CHATML_MARKS, CHATML), text))
    assert "".join(token.text for token in tokens) == text
    assert [token.text for token in tokens if token.is_special] == re.findall(r"<\|im_\w+\|>", text)


PROMPT = [Token("<s>", True), Token("Hi"), Token("\n"), Token("[b]"), Token("\x1b[2J")]


def test_tokens_are_told_apart_with_and_without_colours() -> None:
    plain, coloured = (as_text(PROMPT, in_colours=each) for each in (False, True))
    assert plain.plain == "[<s>]|Hi|⏎\n[b]|\N{REPLACEMENT CHARACTER}[2J"
    assert coloured.plain == "<s>Hi⏎\n[b]\N{REPLACEMENT CHARACTER}[2J"
    assert "magenta" in str(coloured.spans[0].style)


def test_of_a_very_long_prompt_both_ends_are_shown() -> None:
    text = as_text([Token("a"), *[Token("b")] * 10_000, Token("c")], in_colours=False).plain
    assert "(... 7,002 tokens ...)" in text
    assert text.startswith("a|b")
    assert text.endswith("b|c")


@pytest.mark.parametrize("width", [80, 120])
def test_the_screen_fits_its_width_on_a_terminal(recorded: Recorded, width: int) -> None:
    lines = re.sub(r"\x1b\[[0-9;]*m", "", recorded.on(width, terminal=True)).splitlines()
    assert max(map(cell_len, lines)) <= width
    assert not any(line.startswith("==") for line in lines)


def gsm8k(*changes: str) -> Recipe:
    return checking.check(ROOT / "recipes" / "motif_gsm8k.toml", ["rollout.max_width=64", *changes])


GROUP_SECONDS = {"openings": 10.0, "futures": 40.0, "grading": 1.0, "update": 20.0}


@pytest.mark.parametrize("planned", [True, False])
def test_a_step_of_one_group_takes_what_the_group_took(planned: bool) -> None:
    recipe = gsm8k("training.micro_batch_size=8")
    plan = planner.make(recipe, shapes.of(recipe.model.name), Machine("cuda", 24, "a GPU")) if planned else None
    found = project(recipe, recipe, GROUP_SECONDS, 500, [], plan)
    assert found.step == pytest.approx(GROUP_SECONDS)
    assert found.training == pytest.approx(300 * 71)
    assert found.total == found.training


def test_without_a_plan_groups_and_evaluations_count_as_replies() -> None:
    group = gsm8k("training.micro_batch_size=8")
    recipe = gsm8k("training.micro_batch_size=8", "training.problems_per_step=4", "training.until_tokens=10_000")
    evaluated = [Evaluated("math", 80, 3, 2), Evaluated("single", 80, 1, 1)]
    found = project(recipe, group, GROUP_SECONDS, 500, evaluated, None)
    assert found.step == pytest.approx({phase: 4 * seconds for phase, seconds in GROUP_SECONDS.items()})
    assert found.num_steps == 5, "10,000 tokens, 2,000 a step"
    # 8 openings took 10 s, 8 * 4 * 2 later replies 40 s
    assert found.evaluation == pytest.approx({"math": 2 * (80 * 10 / 8 + 160 * 40 / 64), "single": 80 * 10 / 8})


def test_with_a_plan_a_wide_evaluation_costs_less_than_its_replies_alone() -> None:
    recipe = gsm8k("training.micro_batch_size=8")
    plan = planner.make(recipe, shapes.of(recipe.model.name), Machine("cuda", 24, "a GPU"))
    evaluated = [Evaluated("math", 64, 3, 1)]
    by_plan, by_count = (project(recipe, recipe, GROUP_SECONDS, 500, evaluated, each) for each in (plan, None))
    assert 10 < by_plan.evaluation["math"] < by_count.evaluation["math"]


def test_a_budget_of_seconds_ends_the_run() -> None:
    recipe = gsm8k("training.micro_batch_size=8", "training.until_seconds=700.0")
    found = project(recipe, recipe, GROUP_SECONDS, 500, [], None)
    assert (found.num_steps, found.training) == (10, 700)


def remarks(*changes: str, has_box: bool = True, **figures: Any) -> list[str]:
    good: dict[str, Any] = {
        "groups_without_signal": 0.0, "broken_form": 0.0, "cut_off": {"openings": 0.0, "futures": 0.0},
        "planned_memory_bytes": {"update": 100}, "peak_memory_bytes": {"update": 90},
    }  # fmt: skip
    recipe = gsm8k("training.micro_batch_size=8", *changes)
    plan = planner.make(recipe, shapes.of(recipe.model.name), Machine("cuda", 24, "a GPU"))
    metrics = records.step(1, **(good | figures))
    return list(first_group.remarks(recipe, metrics, metrics, has_box=has_box, plan=plan))


def test_a_good_group_gives_no_remark() -> None:
    assert remarks() == []


@pytest.mark.parametrize(
    ("figures", "said", "remedy"),
    [
        ({"update_skipped": True}, "the gradient is not a number", "model.dtype"),
        ({"cut_off": {"openings": 0.75, "futures": 0}}, "75 % of the openings were cut off at 1024", "max_tokens=2048"),
        ({"cut_off": {"openings": 0, "futures": 0.6}}, "60 % of the replies of later rounds", "max_tokens=4096"),
        ({"progress_cut": 3}, "in 3 prompts the progress was cut", "--set model.max_seq_length="),
        ({"broken_form": 1.0}, "no opening has the form", "rollout.system_prompt"),
        ({"groups_without_signal": 1.0, "accuracy": 0.0}, "this group trains nothing", "easier problems"),
        ({"groups_without_signal": 1.0, "accuracy": 1.0}, "this group trains nothing", "harder problems"),
        ({"groups_without_signal": 1.0, "accuracy": 0.5}, "this group trains nothing", "--set rollout.num_openings=16"),
        ({"peak_memory_bytes": {"update": 130}}, "update took 30 % more memory than planned", "micro_batch_size"),
    ],
)  # fmt: skip
def test_what_a_group_shows_is_said_with_a_remedy(figures: dict[str, Any], said: str, remedy: str) -> None:
    [found] = remarks(**figures)
    assert said in found
    assert remedy in found


def test_a_step_that_took_much_longer_than_planned_is_remarked_on_a_cpu() -> None:
    recipe = checking.check(TINY, [])
    plan = planner.make(recipe, shapes.TINY, Machine("cpu", 8, "a processor"))
    slow, usual, short = (
        list(first_group.remarks(recipe, records.step(), cost, has_box=True, plan=each))
        for seconds, each in (
            (50.0, plan), (12.0, replace(plan, seconds={"update": 5.0})), (9.0, replace(plan, seconds={"update": 0.1}))
        )
        for cost in [records.step(seconds={"update": seconds})]
    )  # fmt: skip
    assert "times as long as planned: stop other programs" in slow[0]
    assert usual == short == []


def test_form_is_no_matter_where_nothing_rewards_it() -> None:
    assert remarks("rewards={future_accuracy=1.0}", broken_form=1.0) == []
    assert "no final reply has a boxed answer" in remarks(has_box=False)[0]
    assert "or, as in recipes/laptop_gsm8k.toml, in rollout.final_instruction, longer" in remarks(has_box=False)[0]
    assert "final_instruction" not in remarks('rollout.strategy="single_round"', has_box=False)[0]


def test_a_credit_that_trains_all_rounds_and_a_single_round_can_be_tried(tmp_path: Path) -> None:
    """The one round by the command line, with the exit code of a recipe that would train."""
    same = ["rollout.futures.temperature=1.0", "rollout.futures.top_p=1.0", "training.micro_batch_size=2"]
    changes = [*SMALL, *random_changes(tmp_path / "model", CHATML), 'rollout.system_prompt=""']
    screen = shown(*changes, 'training.credit="chain"', *same)
    assert "this recipe would train" in screen
    assert "prompt of round 2" in screen
    single = [*changes, 'rollout.strategy="single_round"', "evaluation.before=false"]
    flags = [part for change in single for part in ("--set", change)]
    done = CliRunner().invoke(cli.app, ["--recipe", str(TINY), "--dry-run", "--out", str(tmp_path / "run"), *flags])
    assert done.exit_code == 0, done.output
    assert "== this recipe would train; nothing was written" in done.output
    assert "prompt of round 2" not in done.output
    assert "multi_round, after" in section(done.output, "a whole run")
    assert not (tmp_path / "run").exists()
