"""What a study shows on a terminal, and what where there is none."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from motif_lite.study import live
from motif_lite.study import results as study_results
from tests.studies import plan, pretend


def view(*, width: int = 80, height: int = 24) -> tuple[live.StudyConsole, Console]:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=width, height=height, color_system=None)
    shown = live.StudyConsole(terminal, "A [b]study[/b]", "studies/a")
    return shown, terminal


def drawn(shown: live.StudyConsole, terminal: Console) -> str:
    with terminal.capture() as capture:
        terminal.print(shown)
    return capture.get()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 10), (140, 50)])
def test_the_live_view_fits_the_terminal(width: int, height: int) -> None:
    shown, terminal = view(width=width, height=height)
    for number in range(60):
        shown.started(f"a variant with a long name, seed {number}", number, 100)
        shown.line("step 3/20: reward 1.52, accuracy 33.0 %, right by round 0 / 12 / 33 %, and much more \x1b[2J")
        shown.finished(f"a variant with a long name, seed {number}", "33.0 %")
    lines = drawn(shown, terminal).splitlines()
    assert len(lines) <= height
    assert max(map(len, lines)) == width
    assert "\x1b[2J" not in "\n".join(lines)


def test_the_live_view_says_what_runs_what_is_done_and_what_is_left() -> None:
    shown, terminal = view()
    shown.started("chain, seed 2", 3, 10)
    shown.finished("chain, seed 2", "93.0 %")
    shown.started("tree, seed 2", 4, 10)
    shown.line("  step 1/20: reward 0.5")
    page = drawn(shown, terminal)
    for part in ("A [b]study[/b]", "4 of 10 done", "6 runs left, about 0:00", "tree, seed 2", "step 1/20", "93.0 %"):
        assert part in page, part
    shown.waiting(["k8, seed 1"])
    assert "waiting for 1 run of other processes: k8, seed 1" in drawn(shown, terminal)


def test_without_a_terminal_there_are_plain_lines() -> None:
    stream = io.StringIO()
    with live.StudyConsole(Console(file=stream), "A study", "out") as shown:
        shown.started("chain, seed 2", 0, 2)
        shown.line("step 1/20")
        shown.finished("chain, seed 2", "93.0 %")
        shown.waiting(["tree, seed 2"])
        shown.waiting(["tree, seed 2"])
    assert stream.getvalue().splitlines() == [
        "run 1 of 2: chain, seed 2", "  93.0 %, 0:00; 1 run left, about 0:00",
        "waiting for 1 run of other processes: tree, seed 2",
    ]  # fmt: skip


def test_a_study_closes_with_what_may_be_said_and_where_everything_lies(tmp_path: Path) -> None:
    made, stream = plan(tmp_path), io.StringIO()
    pretend(made, made.final_run("plain", 1, None))
    pretend(made, made.final_run("wide", 1, None))
    live.print_closing(Console(file=stream), made, study_results.results(made))
    assert "- k = 8 and plain: +0.0 points; one seed: no claim.\n" in stream.getvalue()
    assert f"{made.out / 'table.md'}\n" in stream.getvalue()
