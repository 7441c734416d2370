"""Two or more runs together: a page without external files, and tables on the terminal."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from rich import box
from rich.console import Console
from rich.table import Table

from motif_lite import __version__
from motif_lite.errors import RunError
from motif_lite.evaluation.across_runs import PairedTest, SharedProblem
from motif_lite.figures import in_percent
from motif_lite.runs.budget import spent
from motif_lite.runs.costs import Costs
from motif_lite.runs.files import write_whole
from motif_lite.runs.records import GradedReply, Mark, StepMetrics
from motif_lite.views import plots
from motif_lite.views.charts import Chart, Line
from motif_lite.views.formats import duration, excerpt, percent, print_text, printable
from motif_lite.views.pages import template

_LAST_STEPS = 10
"""Whose mean accuracy stands in the table."""

_KEY_WIDTH = 40


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """One of the runs.

    Attributes:
        name: The folder's, or its path where two have the same.
        preparing: What was done before its first step took.
    """

    name: str
    metrics: Sequence[StepMetrics]
    marks: Sequence[Mark]
    preparing: Costs | None = None

    @property
    def cells(self) -> list[str]:
        """What the table of runs says of it, as `HEADINGS` have it."""
        total, last = spent(self.metrics, self.preparing), [line.accuracy for line in self.metrics[-_LAST_STEPS:]]
        held_out = in_percent(self.marks[-1].accuracy, self.marks[-1].interval) if self.marks else "-"
        trained = percent(fmean(last)) if last else "-"
        return [
            printable(self.name),
            f"{total.steps:,}",
            f"{total.tokens:,}",
            duration(total.seconds),
            trained,
            held_out,
        ]


HEADINGS = ("run", "steps", "tokens", "training", f"accuracy, last {_LAST_STEPS} steps", "held out, last mark, %")


@dataclass(frozen=True, slots=True)
class ComparedRuns:
    """All that is known of several runs together.

    Attributes:
        keys: Of recipes that differ, with the value in each run.
        confidence: Of all intervals: the first run's.
    """

    runs: Sequence[ComparedRun]
    tests: Sequence[PairedTest]
    keys: Sequence[tuple[str, Sequence[str]]]
    problems: Sequence[SharedProblem]
    confidence: float


@dataclass(frozen=True, slots=True)
class TestRow:
    """A paired test in words."""

    what: str
    run: str
    first: str
    other: str
    gain: str
    p_value: str
    counts: str


def write_page(found: ComparedRuns, file: Path) -> None:
    """Write the page, whole or not at all.

    Raises:
        RunError: It cannot be written.
    """
    text = template("compare.html.j2").render(
        title=" and ".join(printable(run.name) for run in found.runs),
        version=__version__,
        headings=HEADINGS,
        runs=found.runs,
        tests=rows(found),
        confidence=found.confidence,
        keys=found.keys,
        plots=charts_of(found.runs),
        problems=found.problems,
        said=_said,
    )
    try:
        write_whole(file, [text])
    except OSError as error:
        raise RunError(f"{file}: cannot be written ({error.strerror}); choose another --html") from None


def print_tables(console: Console, found: ComparedRuns) -> None:
    """The runs, the tests and the keys that differ."""
    console.print(_table("runs", HEADINGS, [run.cells for run in found.runs]))
    tests = [[row.what, row.run, row.first, row.other, row.gain, row.p_value, row.counts] for row in rows(found)]
    first = printable(found.runs[0].name)
    if tests:
        headings = (
            "measured",
            "run",
            f"% of {first}",
            "% of the run",
            "difference in points",
            "p (Holm)",
            "won / lost",
        )
        console.print(_table(f"against {first}, paired by problem", headings, tests))
    else:
        print_text(console, "no paired test: the runs share no measurement after training and no held-out problems")
    names = [printable(run.name) for run in found.runs]
    keys = [[key, *(excerpt(value, 1, _KEY_WIDTH).plain for value in values)] for key, values in found.keys]
    if keys:
        console.print(_table("recipe keys that differ", ("key", *names), keys))
    else:
        print_text(console, "the recipes are the same")


def rows(found: ComparedRuns) -> list[TestRow]:
    """The paired tests, as both tables have them."""
    return [_row(test, found.runs[test.run].name) for test in found.tests]


def charts_of(runs: Sequence[ComparedRun]) -> list[Chart]:
    """Curves of all runs in one chart each."""
    figures: list[tuple[str, str, Callable[[StepMetrics], float | None]]] = [
        ("Reward", "reward", lambda line: line.reward),
        ("Length of openings", "mean tokens", lambda line: line.mean_tokens.get("openings")),
        ("First rounds of broken form", "share", lambda line: line.broken_form),
        ("Groups without signal", "share", lambda line: line.groups_without_signal),
        ("Seconds of a step", "seconds", lambda line: sum(line.seconds.values())),
    ]
    held_out = [plots.marks_line(run.name, [mark.tokens for mark in run.marks], run.marks) for run in runs if run.marks]
    colours = {run.name: place for place, run in enumerate(runs)}
    charts = (
        [Chart("Held-out accuracy by generated tokens", "tokens", "accuracy", held_out, colours)] if held_out else []
    )
    if any(run.metrics for run in runs):
        trained = [_line(run, plots.tokens(run.metrics, run.preparing), lambda line: line.accuracy) for run in runs]
        charts.append(Chart("Training accuracy by generated tokens", "tokens", "accuracy", trained, colours))
        for title, unit, figure in figures:
            lines = [_line(run, [line.step for line in run.metrics], figure) for run in runs]
            charts.append(Chart(title, "step", unit, lines, colours))
    return charts


def _line(run: ComparedRun, places: Sequence[float], figure: Callable[[StepMetrics], float | None]) -> Line:
    """A figure of a run, as the mean over some steps: single ones of several runs hide each other."""
    return Line(run.name, list(zip(places, plots.smoothed([figure(line) for line in run.metrics]), strict=True)))


def _row(test: PairedTest, name: str) -> TestRow:
    first, other = (percent(accuracy) for accuracy in test.accuracies)
    found = test.difference
    if found is None:
        return TestRow(test.what, printable(name), first, other, f"not compared: {test.why_not}", "-", "-")
    gain = in_percent(found.difference, found.interval, sign="+")
    p_value = "-" if test.p_holm is None else f"{test.p_holm:.2g}"
    counts = f"{found.num_better} / {found.num_worse} of {found.num_problems}"
    return TestRow(test.what, printable(name), first, other, gain, p_value, counts)


def _said(answer: GradedReply) -> list[str]:
    """The replies of all rounds, as text."""
    return [printable(reply) for reply in answer.replies]


def _table(title: str, headings: Sequence[str], cells: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="left" if place == 0 else "right", overflow="fold")
    for row in cells:
        table.add_row(*row)
    return table
