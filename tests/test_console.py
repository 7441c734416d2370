"""What people see: lines without a terminal, a live view that fits one, and replies that stay text."""

import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from motif_lite.jobs import checking
from motif_lite.nouns import TokenProgress
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.records import StepMetrics
from motif_lite.views.formats import duration, excerpt, printable, recipe_toml, sparkline
from motif_lite.views.live import RunConsole
from motif_lite.views.tables import print_closing, result_table
from tests import records
from tests.fakes import opening, problem

RECIPE = checking.check(Path(__file__).parents[1] / "recipes" / "tiny_cpu.toml", [])
HOSTILE = "[red]bold[/] [link=http://x]y[/link] \x1b[2J\x1b]0;title\x07 a\rb\x08\x9b31m \u202e \ud800 wide: 数学数学"


def metrics(step: int, reward: float = 1.25, share_done: float = 1.0, **changes: Any) -> StepMetrics:
    figures: dict[str, Any] = {
        "share_done": share_done, "reward": reward, "round_correct": (0.9, None, 0.8), "groups_without_signal": 0.25,
        "broken_form": 0.5, "cut_off": {"openings": 0.1, "futures": 0.2}, "tokens": {"openings": 800, "futures": 6400},
        "seconds": {"openings": 60.0, "futures": 90.5, "update": 30.0},
        "peak_memory_bytes": {"openings": 3 * 2**30, "update": 5 * 2**30},
        "planned_memory_bytes": {"openings": 4 * 2**30, "futures": 2**30, "update": 6 * 2**30},
    }  # fmt: skip
    return records.step(step, **(figures | changes))


def lines_of(watch: RunConsole, width: int, height: int = 40) -> list[str]:
    screen = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system="truecolor")
    return ["".join(part.text for part in line) for line in screen.render_lines(watch.__rich__(), pad=False)]


def busy(width: int, reply: str = "a reply", height: int = 40) -> RunConsole:
    screen = Console(file=io.StringIO(), width=width, height=height, force_terminal=True)
    watch = RunConsole(screen, "tiny_cpu", "tiny, seed 1, " + "runs/a-rather-long-folder/" * 5)
    for step in range(1, 81):
        watch.step(metrics(step, reward=step / 80, share_done=step / 300))
    watch.opening(opening(reply, [reply, reply], of=problem(reply, reply[:1000])), 1.25)
    watch.phase("futures", "round 2 of 3, 256 replies " + "and more " * 20)
    watch.advance(30, 64)
    return watch


def test_reading_is_shown_as_work_and_so_are_the_speed_and_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    file = io.StringIO()
    plain = RunConsole(Console(file=file, width=80), "tiny_cpu", "tiny")
    live = RunConsole(Console(file=io.StringIO(), width=140, height=40, force_terminal=True), "tiny_cpu", "tiny")
    for watch in (plain, live):
        watch.step(metrics(1, share_done=1 / 3))  # openings 60 s, futures 90.5 s, update 30 s
    said = []
    for phase, done, total in (("reading", 2000, 3000), ("writing", 3000, 3000)):
        for watch in (plain, live):
            if phase == "reading":
                watch.phase("openings", "round 1 of 3, 32 replies")
            watch.generating(TokenProgress(0 if phase == "reading" else done, total, 0, 0, 6400))
        now += 40
        for watch in (plain, live):
            watch.generating(TokenProgress(done, total, 800 * (phase == "writing"), 1600, 6400))
        said.append((file.getvalue().splitlines()[-1], "\n".join(lines_of(live, 140))))
    plain_reading, live_reading = said[0]
    assert "reading 2,000 of 3,000 tokens, 50 tokens/s, 2:20 left of the step" in plain_reading
    assert "reading 2,000 of 3,000 tokens, 50 tokens/s" in live_reading
    assert "the next in 2:20" in live_reading
    assert "5:21 left" in live_reading, "two steps of three, 40 s into one of them"
    plain_writing, live_writing = said[1]
    assert "writing, 20 tokens/s, 2:00 left of the step" in plain_writing, "openings take longer than usual"
    assert "writing, 20 tokens/s" in live_writing


def test_the_first_step_is_announced_by_the_plan_where_it_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    file = io.StringIO()
    plain = RunConsole(Console(file=file, width=80), "tiny_cpu", "tiny")
    live = RunConsole(Console(file=io.StringIO(), width=80, height=40, force_terminal=True), "tiny_cpu", "tiny")
    for watch in (plain, live):
        watch.planned({"openings": 60.0, "futures": 90.0})
        watch.phase("openings", "round 1 of 3, 32 replies")
    now = 40
    for watch in (plain, live):
        watch.advance(1, 4)
    assert "25.0 %, about 1:50 left of the step by the plan" in file.getvalue()
    assert "the first one takes about 2:30 by the plan, 1:50 of it left" in "\n".join(lines_of(live, 80))
    for watch in (plain, live):
        watch.step(metrics(1))
        watch.phase("openings", "round 1 of 3, 32 replies")
    assert "by the plan" not in "\n".join(lines_of(live, 80))
    live = RunConsole(Console(file=io.StringIO(), width=80, height=40, force_terminal=True), "tiny_cpu", "tiny")
    live.planned({"openings": 0.5})
    live.phase("openings", "round 1 of 3, 32 replies")
    assert "by the plan" not in "\n".join(lines_of(live, 80)), "nobody waits for it"


def test_without_a_terminal_there_is_a_line_per_step_and_per_result() -> None:
    file = io.StringIO()
    with RunConsole(Console(file=file, width=80), "tiny_cpu", "tiny, seed 1") as watch:
        watch.phase("loading", "tiny")
        for step in (1, 2):
            for phase in ("openings", "futures", "update"):
                watch.phase(phase, "detail")
                watch.advance(1, 2)
            watch.step(metrics(step, share_done=step / 2))
            watch.opening(opening("secret reply"), 1.0)
        watch.result(records.measurement(0.6))
        watch.note("mind this")
        watch.note("mind this")
    lines = file.getvalue().splitlines()
    assert lines[:2] == ["tiny_cpu: tiny, seed 1", "loading: tiny"]
    assert [line.split(":")[0] for line in lines[2:4]] == ["step 1/2", "step 2/2"]
    assert "reward 1.25, accuracy 50.0 %, right by round 10 / 30 / 50 %" in lines[2]
    assert "rounds kept true 90 / - / 80 %" in lines[2]
    assert "chain_sum after" in lines[4]
    assert all(part in lines[4] for part in ("60.0 % [55.0, 65.0]", "12,345 tokens", "7 s"))
    assert lines[5:] == ["mind this"]


@pytest.mark.parametrize("width", [80, 140])
@pytest.mark.parametrize("reply", ["a reply", "x" * 5000, HOSTILE * 20, "数学" * 500, "line\n" * 500])
def test_the_live_view_shows_phase_step_and_history_within_the_width(width: int, reply: str) -> None:
    lines = lines_of(busy(width, reply), width)
    text = "\n".join(lines)
    assert max(map(cell_len, lines)) <= width
    assert len(lines) <= 40
    for part in ("motif_lite · tiny_cpu", "futures", "round 2 of 3", "80 of 300", "right by round", "▁", "█", "1.25"):
        assert part in text


@pytest.mark.parametrize("width", [80, 140])
def test_the_live_view_is_drawn_before_anything_has_happened(width: int) -> None:
    lines = lines_of(RunConsole(Console(file=io.StringIO(), width=width), "t", "s"), width)
    assert "starting" in "\n".join(lines)


@pytest.mark.parametrize(("width", "height"), [(40, 40), (40, 10), (140, 10), (80, 10), (40, 24)])
@pytest.mark.parametrize("has_marks", [False, True])
def test_a_small_window_keeps_what_matters_most(width: int, height: int, has_marks: bool) -> None:
    watch = busy(width, "a reply", height=height)
    watch.generating(TokenProgress(3000, 3000, 800, 1600, 6400))
    if has_marks:
        watch.mark(records.mark(3))
    lines = lines_of(watch, width, height)
    text = "\n".join(lines)
    assert max(map(cell_len, lines)) <= width
    assert len(lines) < height, "the cursor has a line of its own"
    for part in ("motif_lite", "futures  round 2 of 3", "writing", "80 of 300", " left", "reward", "1.00", "accuracy"):
        assert part in text
    assert ("held out" in text) == has_marks


def test_a_low_terminal_gets_no_sample() -> None:
    lines = lines_of(busy(80, "a reply", height=15), 80, height=15)
    assert "a reply" not in "\n".join(lines)
    assert len(lines) <= 15


@pytest.mark.parametrize("width", [80, 140])
def test_markup_and_escapes_in_a_reply_are_shown_as_text(width: int) -> None:
    text = "\n".join(lines_of(busy(width, HOSTILE), width))
    assert "[red]bold[/]" in text
    assert "[link=http://x]y" in text
    assert not set(text) & set("\x1b\x07\r\x08\x9b\u202e\ud800")


def test_the_live_view_writes_no_control_codes_of_a_reply_to_the_terminal() -> None:
    file = io.StringIO()
    screen = Console(file=file, width=80, height=40, force_terminal=True)
    with RunConsole(screen, "t", "s") as watch:
        watch.step(metrics(1))
        watch.opening(opening(HOSTILE, of=problem(HOSTILE, HOSTILE)), 1.0)
        assert watch._live is not None
        watch._live.refresh()
    written = file.getvalue()
    assert "bold" in written
    assert not any(code in written for code in ("\x1b[2J\x1b]0", "\x07", "\x08", "\x9b", "\u202e"))


def test_the_table_shows_before_after_and_the_paired_gain_in_80_columns() -> None:
    file = io.StringIO()
    Console(file=file, width=80).print(result_table(RECIPE, records.evaluation(), "chain_sum"))
    assert max(map(len, file.getvalue().splitlines())) <= 80
    assert "10.0 [5.0, 15.0]" in file.getvalue()
    assert "60.0 [55.0, 65.0]" in file.getvalue()
    assert "+50.0 [+40.0, +60.0]" in file.getvalue()
    sampled = next(line for line in file.getvalue().splitlines() if "sampled" in line)
    assert sampled.split()[-2:] == ["-", "-"], "not measured after"


def test_gains_that_stand_after_holms_correction_are_marked(tmp_path: Path) -> None:
    measured = records.evaluation()
    first = measured.comparisons[0]
    both = (
        first.model_copy(update={"p_value_holm": 0.002}),
        first.model_copy(update={"decoding": "sampled", "p_value_holm": 0.06}),
    )
    run = RunDirectory.create(tmp_path / "run", RECIPE, "")
    run.write_evaluation(measured.model_copy(update={"comparisons": both}))
    file = io.StringIO()
    print_closing(Console(file=file, width=80), RECIPE, run)
    greedy, sampled = (
        next(line for line in file.getvalue().splitlines() if f"multi, {how}" in line) for how in ("greedy", "sampled")
    )
    assert greedy.rstrip().endswith("+50.0 [+40.0, +60.0] *")
    assert sampled.rstrip().endswith("+50.0 [+40.0, +60.0]")
    assert "* also after Holm's correction over 2 gains; a gain without * is a hint" in file.getvalue()
    assert max(map(len, file.getvalue().splitlines()[:8])) <= 80


def test_one_gain_needs_no_correction(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", RECIPE, "")
    only = records.evaluation().comparisons[0].model_copy(update={"p_value_holm": 0.001})
    run.write_evaluation(records.evaluation().model_copy(update={"comparisons": (only,)}))
    file = io.StringIO()
    print_closing(Console(file=file, width=80), RECIPE, run)
    assert "*" not in file.getvalue()


def test_the_closing_says_where_everything_lies_and_what_to_run_next(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", RECIPE, "")
    run.write_evaluation(records.evaluation())
    run.report.write_text("")
    run.append_rollouts([records.rollout()])
    file = io.StringIO()
    print_closing(Console(file=file, width=80), RECIPE, run)
    assert f"report    {run.report}" in file.getvalue()
    assert "rollouts.jsonl" in file.getvalue()
    assert "adapter  " not in file.getvalue(), "there is none"
    assert f"python run.py --evaluate-only --out {run.root}" in file.getvalue()
    assert "chain_sum: accuracy in percent with 95 % intervals" in file.getvalue()


def test_the_closing_lists_the_warnings(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", RECIPE, "")
    for step in range(1, 16):
        run.append_metrics(metrics(step, broken_form=0.02 if step < 9 else 0.8))
    file = io.StringIO()
    print_closing(Console(file=file, width=80), RECIPE, run)
    [warning] = [line for line in file.getvalue().splitlines() if line.startswith("warning")]
    assert "replies lose the required format" in warning
    assert "--set training.learning_rate=0.00017" in warning


def test_a_recipe_is_printed_as_toml_without_empty_keys() -> None:
    assert "[rollout.openings]" in recipe_toml(RECIPE)
    assert "None" not in recipe_toml(RECIPE)
    assert "question_column" not in recipe_toml(RECIPE)


@pytest.mark.parametrize(
    ("values", "width", "line"),
    [([], 5, ""), ([1.0], 5, "▁"), ([1, 1, 1], 5, "▁▁▁"), ([0, 7], 5, "▁█"), (range(8), 8, "▁▂▃▄▅▆▇█"),
     (range(8), 2, "▁█"), ([5, -5], 9, "█▁")],
)  # fmt: skip
def test_a_sparkline_is_scaled_to_its_own_range(values: Any, width: int, line: str) -> None:
    assert sparkline(values, width) == line


@given(st.lists(st.floats(-1e6, 1e6)), st.integers(1, 100))
def test_a_sparkline_has_a_bar_per_value_and_fits(values: list[float], width: int) -> None:
    assert len(sparkline(values, width)) == min(len(values), width)


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (125, "2:05"), (3723, "1:02:03")])
def test_durations_are_read_like_a_clock(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(st.text(st.characters()), st.integers(1, 5), st.integers(40, 200))
def test_any_reply_becomes_a_short_printable_excerpt(text: str, num_lines: int, width: int) -> None:
    shown = excerpt(text, num_lines, width).plain
    assert shown.isprintable()
    assert len(shown) <= num_lines * max(20, width - 18)
    assert all(char == "\n" or char.isprintable() for char in printable(text))
    printable(text).encode("utf-8")


def test_after_three_steps_the_run_tells_its_own_time_in_place_of_the_plans() -> None:
    file = io.StringIO()
    watch = RunConsole(Console(file=file, width=200), "tiny_cpu", "tiny")
    watch.planned({"openings": 600.0, "futures": 600.0})
    for step in (1, 2, 3, 4):
        watch.step(metrics(step, share_done=step / 100, seconds={"openings": 20.0, "futures": 40.0}))
    told = [line for line in file.getvalue().splitlines() if line.startswith("measured")]
    assert told == ["measured: 1:00 a step, 20:00 by the plan; 1:37:00 left, evaluation included"]


@pytest.mark.parametrize(("load", "crowded"), [(1.2, False), (5.4, True)])
def test_a_run_that_shares_its_processors_and_is_slower_than_planned_is_told_why(
    load: float, crowded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, load, 0.0))
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    file = io.StringIO()
    watch = RunConsole(Console(file=file, width=400), "tiny_cpu", "tiny")
    watch.planned({"openings": 10.0, "futures": 10.0})
    for step in (1, 2, 3):
        watch.step(metrics(step, share_done=step / 100, seconds={"openings": 20.0, "futures": 40.0}))
    assert ("5 threads want this machine's 2 processors" in file.getvalue()) == crowded
