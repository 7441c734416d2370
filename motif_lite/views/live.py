"""The live view of a run, or a plain line per step where there is no terminal."""

import time
from collections import deque
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from motif_lite import process
from motif_lite.monitor.forecast import Ahead, Forecast
from motif_lite.monitor.pace import Speed, StepClock
from motif_lite.nouns import Opening, TokenProgress
from motif_lite.runs.records import Mark, Measurement, StepMetrics
from motif_lite.views.formats import (
    accuracy_with_cost,
    duration,
    excerpt,
    expected_steps,
    facts,
    mark_line,
    percent,
    print_text,
    printable,
    sparkline,
    step_line,
)

_HISTORY = 60

_SILENCE_SECONDS = 30
"""Where there is no terminal, something is said at least this often."""

_HEIGHT_FOR_SAMPLE = 22
"""Lines that the live view takes at 80 columns with a sample of one line per round."""

_WIDTH_FOR_BARS = 60
"""Columns below which a line has no bar."""

_BORDERS = 3
"""Lines of the view's frame, and the one that the cursor is on."""

_WORTH_WAITING = 10
"""Seconds of a step that are worth a word before it is measured."""

_STEP_PHASES = {"openings": "openings", "futures": "futures", "grading": "futures", "update": "update"}
"""Phases of a step, and what their time counts as in metrics.jsonl."""


class RunConsole:
    """Implements `observer.Observer` for people.

    Args:
        console: Where to write; whether it is a terminal decides between the live view and plain lines.
        title: What runs, e.g. ``tiny_cpu``.
        subtitle: On what and whereto.
    """

    def __init__(self, console: Console, title: str, subtitle: str) -> None:
        self._console, self._title, self._subtitle = console, printable(title), printable(subtitle)
        self._live = Live(self, console=console, refresh_per_second=5, transient=True) if console.is_terminal else None
        self._spinner = Spinner("dots", style="cyan")
        self._phase, self._detail, self._phase_started = "starting", "", time.monotonic()
        self._done, self._total = 0.0, 0.0
        self._work = ""
        self._clock, self._speed, self._forecast = StepClock(), Speed(), Forecast(Ahead())
        self._metrics: StepMetrics | None = None
        self._marks: list[Mark] = []
        self._rewards: deque[float] = deque(maxlen=_HISTORY)
        self._accuracies: deque[float] = deque(maxlen=_HISTORY)
        self._sample: tuple[Opening, float] | None = None
        self._said: set[str] = set()
        self._spoke = time.monotonic()

    def __enter__(self) -> Self:
        """Start the live view."""
        if self._live:
            self._live.start()
        else:
            print_text(self._console, f"{self._title}: {self._subtitle}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the live view away."""
        if self._live:
            self._live.stop()

    def phase(self, name: str, detail: str = "") -> None:
        """A phase has begun."""
        new = name != self._phase
        self._phase, self._detail, self._phase_started = name, printable(detail), time.monotonic()
        self._done, self._total, self._work, self._speed = 0.0, 0.0, "", Speed()
        if name in _STEP_PHASES:
            self._clock.begin(_STEP_PHASES[name])
        elif name == "evaluating":
            self._forecast.evaluating()
        if not self._live and new and name not in _STEP_PHASES:
            self._say(f"{name}: {detail}" if detail else name)

    def advance(self, done: float, total: float) -> None:
        """So much of the phase is done."""
        self._done, self._total = done, total
        if not self._live and time.monotonic() - self._spoke > _SILENCE_SECONDS:
            left = self._clock.left_of_step()
            work = f", {self._work}" if self._work else ""
            about, plan = ("about ", " by the plan") if self._clock.planned_step is not None else ("", "")
            step = f", {about}{duration(left)} left of the step{plan}" if left is not None else ""
            self._say(f"  {self._phase}: {self._detail}: {percent(done / total)}{work}{step}")

    def planned(self, seconds: Mapping[str, float]) -> None:
        """A training step takes so long by phase if nothing ends early."""
        if sum(seconds.values()) >= _WORTH_WAITING:
            self._clock.plan(seconds)

    def ahead(self, work: Ahead) -> None:
        """Training is about to begin; what the run does besides its steps."""
        self._forecast = Forecast(work)

    def generating(self, progress: TokenProgress) -> None:
        """So far have the replies of the phase come."""
        self._speed.saw(progress.read + progress.written)
        speed = self._speed.tokens_per_second
        reading = progress.read < progress.to_read
        work = f"reading {progress.read:,} of {progress.to_read:,} tokens" if reading else "writing"
        self._work = work if speed is None else f"{work}, {speed:,.0f} tokens/s"
        self.advance(progress.share, 1.0)

    def step(self, metrics: StepMetrics) -> None:
        """A training step is over."""
        self._metrics = metrics
        self._clock.finish(metrics.seconds)
        self._forecast.step(metrics)
        self._rewards.append(metrics.reward)
        self._accuracies.append(metrics.accuracy)
        if not self._live:
            left = self._left_of_run(metrics)
            self._say(step_line(metrics) + (f", {duration(left)} left" if left else ""))
        if (planned := self._clock.newly_measured) is not None:
            self.note(self._measured(metrics, planned))

    def opening(self, opening: Opening, score: float) -> None:
        """A sample to show."""
        self._sample = opening, score

    def result(self, measurement: Measurement) -> None:
        """A measurement is done."""
        found = measurement
        text = f"{found.benchmark} {found.when}, {found.strategy}, {found.decoding}: {accuracy_with_cost(found)}"
        self._say(f"  {text}")

    def mark(self, mark: Mark) -> None:
        """Held-out problems were measured along the way."""
        self._marks.append(mark)
        self._forecast.mark(mark)
        if not self._live:
            self._say(f"  {mark_line(mark)}")

    def note(self, text: str) -> None:
        """Say something once."""
        if text not in self._said:
            self._said.add(text)
            self._say(text)

    def _left_of_run(self, metrics: StepMetrics) -> float:
        """Seconds, marks and the evaluation at the end included."""
        steps_left = expected_steps(metrics) - metrics.step
        return self._clock.left_of_run(steps_left) + self._forecast.left(steps_left)

    def _measured(self, metrics: StepMetrics, planned: float) -> str:
        """What the plan assumed is replaced by the run's own steps, and the time left by what follows from them."""
        step, left = duration(self._clock.typical_step), duration(self._left_of_run(metrics))
        told = f"measured: {step} a step, {duration(planned)} by the plan; {left} left, evaluation included"
        if self._clock.typical_step <= planned or (crowded := process.crowd()) is None:
            return told
        wanted, there = crowded
        return (
            f"{told}. {wanted} threads want this machine's {there} processors, so other work slows the run down; a "
            f"run on a CPU loses less if it is started with OMP_NUM_THREADS=1"
        )

    def _say(self, text: str) -> None:
        self._spoke = time.monotonic()
        print_text(self._console, text)

    def __rich__(self) -> RenderableType:
        """The live view, redrawn several times a second: what matters most comes first, and what has no room goes."""
        parts = [self._phase_line(), *([_one_line(Text(f"  {self._work}", style="dim"))] if self._work else [])]
        left, planned = self._clock.left_of_step(), self._clock.planned_step
        if left is not None and planned is not None:
            of_it = f"  the first one takes about {duration(planned)} by the plan, {duration(left)} of it left"
            parts.append(_one_line(Text.assemble(("  step", "bold"), of_it)))
        if self._metrics:
            parts.append(self._step_progress(self._metrics))
            parts += self._figures(self._metrics, self._console.height - _BORDERS - len(parts))
        room = self._console.height - _HEIGHT_FOR_SAMPLE - bool(self._work) - 2 * bool(self._marks)
        if self._sample and room >= 0:
            parts += [Rule("a sample of this step", style="dim", align="left"), self._sample_view(*self._sample, room)]
        return Panel(
            Group(*parts),
            title=Text(f" motif_lite · {self._title} ", style="bold"),
            subtitle=Text(f" {self._subtitle} ", style="dim"),
            title_align="left",
            subtitle_align="right",
            border_style="cyan",
        )

    def _phase_line(self) -> RenderableType:
        elapsed = time.monotonic() - self._phase_started
        share_done = self._done / self._total if self._total else 0.0
        left = f"{duration(elapsed * (1 / share_done - 1))} left" if share_done > 0.02 else duration(elapsed)
        label = Text.assemble((self._phase, "bold cyan"), f"  {self._detail}")
        bar = ProgressBar(total=self._total or None, completed=self._done, pulse=not self._total)
        return self._row(self._spinner, label, bar, left)

    def _step_progress(self, metrics: StepMetrics) -> RenderableType:
        step, num_steps = metrics.step, expected_steps(metrics)
        under_way, seconds = self._clock.left_of_step(), self._clock.typical_step
        of_it = f", the next in {duration(under_way)}" if under_way is not None else ""
        label = Text.assemble(("step", "bold"), f"  {step} of {num_steps}, {seconds:.1f} s each{of_it}")
        bar = ProgressBar(total=num_steps, completed=step)
        return self._row("", label, bar, f"{duration(self._left_of_run(metrics))} left")

    def _row(self, sign: RenderableType, label: Text, bar: ProgressBar, left: str) -> RenderableType:
        """One line: what is done, a bar where there is room for it, and the time left."""
        row = Table.grid(padding=(0, 1), expand=True)
        row.add_column(width=1)
        row.add_column(ratio=3)
        has_bar = self._console.width >= _WIDTH_FOR_BARS
        if has_bar:
            row.add_column(ratio=1)
        row.add_column(width=13 if has_bar else None, justify="right", no_wrap=True)
        row.add_row(sign, _one_line(label), *([bar] if has_bar else []), Text(left, style="dim"))
        return row

    def _figures(self, metrics: StepMetrics, room: int) -> list[RenderableType]:
        """Curves, then facts, in so many lines."""
        is_wide = self._console.width >= 100
        width = max(8, min(_HISTORY, (self._console.width - 58) if is_wide else 16))
        curves = [
            ("reward", f"{metrics.reward:.2f}", self._rewards),
            ("accuracy", percent(metrics.accuracy), self._accuracies),
        ]
        shown_facts = facts(metrics)
        if self._marks:
            held_out = [mark.accuracy for mark in self._marks]
            curves.append(("held out", percent(held_out[-1]), deque(held_out)))
            shown_facts.append(("last held out", mark_line(self._marks[-1]).partition(": ")[2]))
        table = Table.grid(padding=(0, 2), expand=False)
        for _ in range(3):
            table.add_column(no_wrap=True)
        for name, value, history in curves[: max(0, room)]:
            table.add_row(name, value, Text(sparkline(history, width), style="green"))
        room -= len(curves)
        gap = [Text()] if room > len(shown_facts) else []
        return [*gap, table, *_facts_in_rows(shown_facts, 2 if is_wide else 1, room - len(gap))] if room > -3 else []

    def _sample_view(self, opening: Opening, score: float, room: int) -> RenderableType:
        """Question, first and last rounds, and the right answer, in what height is left."""
        table = Table.grid(padding=(0, 2), expand=True)
        table.add_column(width=9, style="dim", no_wrap=True)
        table.add_column(ratio=1)
        turns = list(enumerate(opening.futures[0].turns, start=1))
        room += 3
        shown = turns if len(turns) <= room else [turns[0], turns[-1]]
        rows = max(1, min(5, room // len(shown)))
        table.add_row("question", excerpt(opening.problem.question, 1 if rows == 1 else 2, self._console.width))
        for number, turn in shown:
            table.add_row(f"round {number}", excerpt(turn.reply.text, rows, self._console.width))
        gold = excerpt(opening.problem.gold, 1, self._console.width - 40)
        table.add_row("", Text(f"right answer {gold}, opening's reward {score:.2f}", "dim"))
        return table


def _facts_in_rows(shown: Sequence[tuple[str, str]], per_row: int, room: int) -> list[RenderableType]:
    """Names with values, one line each, or side by side where there is width."""
    if per_row == 1:
        return [_one_line(Text.assemble((f"{name}  ", "dim"), value)) for name, value in shown[: max(0, room)]]
    grid = Table.grid(padding=(0, 3, 0, 0))
    for start in range(0, min(len(shown), per_row * max(0, room)), per_row):
        cells = shown[start : start + per_row]
        grid.add_row(*(cell for name, value in cells for cell in (Text(name, style="dim"), Text(value))))
    return [grid]


def _one_line(text: Text) -> Text:
    """Text that is cut rather than broken."""
    text.no_wrap, text.overflow = True, "ellipsis"
    return text
