"""A study on the terminal: a live view of its progress, or plain lines if there is no terminal."""

import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from motif_lite.study import report as study_report
from motif_lite.study import tuning
from motif_lite.study.catching_up import Json
from motif_lite.study.claims import claims
from motif_lite.study.plan import StudyPlan
from motif_lite.study.sentences import choices, sentences
from motif_lite.study.workers import Worker
from motif_lite.views.formats import duration, print_text, printable

_SILENCE_SECONDS = 30
"""Where there is no terminal, what a run says is passed on this often."""

_LINES_AROUND = 8
"""Of the live view, besides the finished runs."""


class StudyConsole:
    """Implements `study_runs.Watcher` for people.

    Args:
        console: Where to write; whether it is a terminal decides between the live view and plain lines.
        title: The study's.
        out: Where its results go.
    """

    def __init__(self, console: Console, title: str, out: str) -> None:
        self._console, self._title, self._out = console, printable(title), printable(out)
        self._live = Live(self, console=console, refresh_per_second=5, transient=True) if console.is_terminal else None
        self._spinner = Spinner("dots", style="cyan")
        self._name, self._line = "starting", ""
        self._num_done, self._num_runs = 0, 0
        self._began = self._spoke = time.monotonic()
        self._finished: deque[tuple[str, str, float]] = deque(maxlen=50)
        self._seconds: list[float] = []
        self._workers: Sequence[Worker] = ()

    def __enter__(self) -> Self:
        """Start the live view."""
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the live view away."""
        if self._live:
            self._live.stop()
        if kind and self._workers:
            print_text(self._console, "waiting for the other workers; interrupt again to quit immediately")

    def shared_with(self, workers: Sequence[Worker]) -> None:
        """Other processes work at it, too."""
        self._workers = workers
        for worker in workers:
            print_text(self._console, f"another worker: {worker.log}")

    def started(self, name: str, num_done: int, num_runs: int) -> None:
        """A run begins, after so many of all."""
        self._name, self._line, self._num_done, self._num_runs = printable(name), "", num_done, num_runs
        self._began = time.monotonic()
        if not self._live:
            self._say(f"run {num_done + 1} of {num_runs}: {name}")

    def line(self, text: str) -> None:
        """What the run says."""
        if text.strip():
            self._line = printable(text.strip())
            if not self._live and time.monotonic() - self._spoke > _SILENCE_SECONDS:
                self._say(f"  {self._line}")

    def finished(self, name: str, figure: str) -> None:
        """The run is done, with the figure that counts."""
        seconds = time.monotonic() - self._began
        self._seconds.append(seconds)
        self._num_done += 1
        self._finished.append((printable(name), figure, seconds))
        if not self._live:
            self._say(f"  {figure}, {duration(seconds)}; {self._left()}")

    def waiting(self, names: Sequence[str]) -> None:
        """All that is left is in the hands of other processes."""
        what = f"waiting for {_runs(len(names))} of other processes: {', '.join(names)}"
        if what != self._name:
            self._name, self._line, self._began = what, "", time.monotonic()
            if not self._live:
                self._say(what)

    def _left(self) -> str:
        """An estimate from the runs that this process has finished; others may be faster."""
        left = self._num_runs - self._num_done
        if not self._seconds:
            return f"{_runs(left)} left"
        return f"{_runs(left)} left, about {duration(left * sum(self._seconds) / len(self._seconds))}"

    def _say(self, text: str) -> None:
        self._spoke = time.monotonic()
        print_text(self._console, text)

    def __rich__(self) -> RenderableType:
        """The live view, redrawn several times a second."""
        return Panel(
            Group(self._progress(), self._now(), *self._done_runs()),
            title=Text(f" motif_lite study · {self._title} ", style="bold"),
            subtitle=Text(f" {self._out} ", style="dim"),
            title_align="left",
            subtitle_align="right",
            border_style="cyan",
        )

    def _progress(self) -> RenderableType:
        row = Table.grid(padding=(0, 1), expand=True)
        row.add_column(width=1)
        row.add_column(ratio=2, no_wrap=True)
        row.add_column(ratio=1)
        row.add_column(ratio=2, no_wrap=True, justify="right")
        label = Text.assemble(("runs", "bold"), f"  {self._num_done} of {self._num_runs} done")
        bar = ProgressBar(total=self._num_runs or None, completed=self._num_done)
        row.add_row("", label, bar, Text(self._left(), style="dim"))
        return row

    def _now(self) -> RenderableType:
        row = Table.grid(padding=(0, 1), expand=True)
        row.add_column(width=1)
        row.add_column(ratio=1, no_wrap=True)
        row.add_column(width=8, justify="right")
        elapsed = Text(duration(time.monotonic() - self._began), style="dim")
        row.add_row(self._spinner, Text(self._name, style="bold cyan", overflow="ellipsis"), elapsed)
        row.add_row("", Text(self._line, overflow="ellipsis"), "")
        return row

    def _done_runs(self) -> list[RenderableType]:
        room = self._console.height - _LINES_AROUND
        shown = list(self._finished)[-room:] if room > 0 else []
        if not shown:
            return []
        table = Table.grid(padding=(0, 3, 0, 0))
        for _ in range(3):
            table.add_column(no_wrap=True)
        for name, figure, seconds in shown:
            table.add_row(Text(name, style="dim"), figure, Text(duration(seconds), style="dim"))
        return [Text(), table]


def _runs(number: int) -> str:
    return "1 run" if number == 1 else f"{number} runs"


def print_plan(console: Console, plan: StudyPlan) -> None:
    """What a study would do: its variants, and how many runs."""
    study = plan.study
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("variant", "recipe", "measured as", "tuning runs", "runs"):
        table.add_column(column)
    for name, variant in study.variants.items():
        mark = " (reference)" if name == study.reference else "" if variant.train else " (not trained)"
        tuning = str(plan.num_tuning_runs(name) or "-")
        table.add_row(
            Text(name + mark), Text(plan.recipe_of(name).name), plan.strategies[name], tuning, str(len(study.seeds))
        )
    print_text(console, f"{study.title}: {study.question}")
    console.print(table)
    for left in plan.left_out.values():
        print_text(console, f"{left.label} is left out, as its recipe is refused: {left.why}")
    print_text(console, f"{plan.num_runs} runs, measured on {study.benchmark}, {study.decoding}; they go to {plan.out}")


def print_closing(console: Console, plan: StudyPlan, found: Json) -> None:
    """What the study allows to say, and where everything lies."""
    for sentence in [*choices(found), *sentences(found)]:
        print_text(console, f"- {sentence}")
    for sentence in claims(found):
        print_text(console, f"- {sentence.replace('**', '')}")
    if plan.study.tune and plan.study.tune.halve_at:
        took = [tuning.cost(plan, name) for name in plan.study.variants]
        generated, saved = sum(each.generated for each in took), sum(each.saved for each in took)
        print_text(console, f"- tuning generated {generated:,} tokens; halving saved about {saved:,}")
    for name in (study_report.TABLE, study_report.PLOT, "cost.md"):
        print_text(console, f"{plan.out / name}")
