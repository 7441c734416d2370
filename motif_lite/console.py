"""Everything on the terminal: a live view of the run, or a plain line per step where there is no terminal.

What a model writes is shown as text and nothing else: no markup of it is interpreted, and control characters are
made visible, so that a reply cannot drive the terminal.
"""

import time
from collections import deque
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Self

import tomli_w
from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from motif_lite import accounting, diagnosis
from motif_lite.memory import GIB, torch_build
from motif_lite.planning import SPEEDS, Plan
from motif_lite.recipe import Recipe
from motif_lite.run_dir import RunDirectory
from motif_lite.scoring import Answer, Scored, ScoreJob, Scores
from motif_lite.types import Opening, Problem

_SPARKS = "▁▂▃▄▅▆▇█"
_HISTORY = 60
_SILENCE_SECONDS = 30
"""Where there is no terminal, something is said at least this often."""

_HEIGHT_FOR_SAMPLE = 21
"""Lines that the live view takes at 80 columns with a sample of one line per round."""

_ANSWERS_SHOWN, _ANSWER_WIDTH = 4, 38
"""Of an opening's futures; the width leaves 20 characters of an answer."""

_STEP_PHASES = {"openings", "futures", "grading", "update"}


class RunConsole:
    """Implements `progress.Observer` for people.

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
        self._done, self._total = 0, 0
        self._metrics: dict[str, Any] = {}
        self._marks: list[dict[str, Any]] = []
        self._step_seconds: deque[float] = deque(maxlen=10)
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
        self._done = self._total = 0
        if not self._live and new and name not in _STEP_PHASES:
            self._say(f"{name}: {detail}" if detail else name)

    def advance(self, done: int, total: int) -> None:
        """So much of the phase is done."""
        self._done, self._total = done, total
        if not self._live and time.monotonic() - self._spoke > _SILENCE_SECONDS:
            self._say(f"  {self._phase}: {self._detail}: {percent(done / total)}")

    def step(self, metrics: dict[str, Any]) -> None:
        """A training step is over."""
        self._metrics = metrics
        self._step_seconds.append(sum(metrics["seconds"].values()))
        self._rewards.append(metrics["reward"])
        self._accuracies.append(metrics["accuracy"])
        if not self._live:
            self._say(step_line(metrics))

    def opening(self, opening: Opening, score: float) -> None:
        """A sample to show."""
        self._sample = opening, score

    def result(self, benchmark: str, when: str, strategy: str, decoding: str, result: dict[str, Any]) -> None:
        """A measurement is done."""
        text = f"{benchmark} {when}, {strategy}, {decoding}: {share(result)}"
        self._say(f"  {text}")

    def mark(self, mark: dict[str, Any]) -> None:
        """Held-out problems were measured along the way."""
        self._marks.append(mark)
        if not self._live:
            self._say(f"  {mark_line(mark)}")

    def note(self, text: str) -> None:
        """Say something once."""
        if text not in self._said:
            self._said.add(text)
            self._say(text)

    def _say(self, text: str) -> None:
        self._spoke = time.monotonic()
        print_text(self._console, text)

    def __rich__(self) -> RenderableType:
        """The live view, drawn anew several times a second."""
        parts: list[RenderableType] = [self._phase_line()]
        if self._metrics:
            parts += [self._step_progress(), self._figures()]
        if self._sample and self._console.height >= _HEIGHT_FOR_SAMPLE:
            parts += [Rule("a sample of this step", style="dim", align="left"), self._sample_view(*self._sample)]
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
        label.no_wrap, label.overflow = True, "ellipsis"
        row = Table.grid(padding=(0, 1), expand=True)
        row.add_column(width=1)
        row.add_column(ratio=3)
        row.add_column(ratio=1)
        row.add_column(width=12, justify="right")
        bar = ProgressBar(total=self._total or None, completed=self._done, pulse=not self._total)
        row.add_row(self._spinner, label, bar, Text(left, style="dim"))
        return row

    def _step_progress(self) -> RenderableType:
        step, num_steps = self._metrics["step"], expected_steps(self._metrics)
        seconds = sum(self._step_seconds) / len(self._step_seconds)
        row = Table.grid(padding=(0, 1), expand=True)
        row.add_column(width=1)
        row.add_column(ratio=3)
        row.add_column(ratio=1)
        row.add_column(width=12, justify="right")
        label = Text.assemble(("step", "bold"), f"  {step} of {num_steps}, {seconds:.1f} s each")
        left = duration(seconds * (num_steps - step))
        row.add_row("", label, ProgressBar(total=num_steps, completed=step), Text(f"{left} left", style="dim"))
        return row

    def _figures(self) -> RenderableType:
        metrics = self._metrics
        width = max(8, min(_HISTORY, (self._console.width - 58) if self._console.width >= 100 else 16))
        table = Table.grid(padding=(0, 2), expand=False)
        for _ in range(3):
            table.add_column(no_wrap=True)
        table.add_row("reward", f"{metrics['reward']:.2f}", Text(sparkline(self._rewards, width), style="green"))
        table.add_row("accuracy", percent(metrics["accuracy"]), Text(sparkline(self._accuracies, width), style="green"))
        if self._marks:
            shown = Text(sparkline([mark["accuracy"] for mark in self._marks], width), style="green")
            table.add_row("held out", percent(self._marks[-1]["accuracy"]), shown)
        facts = _facts(metrics)
        if self._marks:
            facts.append(("last held out", mark_line(self._marks[-1]).partition(": ")[2]))
        per_row = 2 if self._console.width >= 100 else 1
        grid = Table.grid(padding=(0, 3, 0, 0))
        for start in range(0, len(facts), per_row):
            cells = facts[start : start + per_row]
            grid.add_row(*(cell for name, value in cells for cell in (Text(name, style="dim"), Text(value))))
        return Group(Text(), table, grid)

    def _sample_view(self, opening: Opening, score: float) -> RenderableType:
        """Question, first and last rounds, and the right answer, in what height is left."""
        table = Table.grid(padding=(0, 2), expand=True)
        table.add_column(width=9, style="dim", no_wrap=True)
        table.add_column(ratio=1)
        turns = list(enumerate(opening.futures[0].turns, start=1))
        room = self._console.height - _HEIGHT_FOR_SAMPLE + 3
        shown = turns if len(turns) <= room else [turns[0], turns[-1]]
        rows = max(1, min(5, room // len(shown)))
        table.add_row("question", excerpt(opening.problem.question, 1 if rows == 1 else 2, self._console.width))
        for number, turn in shown:
            table.add_row(f"round {number}", excerpt(turn.reply.text, rows, self._console.width))
        gold = excerpt(opening.problem.gold, 1, self._console.width - 40)
        table.add_row("", Text(f"right answer {gold}, opening's reward {score:.2f}", "dim"))
        return table


def print_text(console: Console, text: str) -> None:
    """Print text as it is: no markup in it is interpreted, no control character gets through, no line is broken."""
    console.print(Text(printable(text)), soft_wrap=True)


def expected_steps(metrics: dict[str, Any]) -> int:
    """Steps of the whole run: of its limit, or as many as will spend its budget if all are like those so far."""
    expected: int = round(metrics["step"] / metrics["share_done"])
    return expected


def mark_line(mark: dict[str, Any]) -> str:
    """A measurement along the way on one line."""
    low, high = mark["interval"]
    return (
        f"held out, step {mark['step']}: {100 * mark['accuracy']:.1f} % [{100 * low:.1f}, {100 * high:.1f}] after "
        f"{mark['tokens']:,} tokens, {duration(mark['seconds'])}"
    )


def step_line(metrics: dict[str, Any]) -> str:
    """One step on one line."""
    facts = ", ".join(f"{name} {value}" for name, value in _facts(metrics))
    return (
        f"step {metrics['step']}/{expected_steps(metrics)}: reward {metrics['reward']:.2f}, "
        f"accuracy {percent(metrics['accuracy'])}, {facts}"
    )


def result_table(recipe: Recipe, evaluation: dict[str, Any], benchmark: str) -> Table:
    """Before and after with intervals, and what the paired comparison says, for one benchmark."""
    title = f"{benchmark}: accuracy in percent with {_confidence(recipe)} intervals"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=0)
    table.add_column("thinking", no_wrap=True)
    for column in ("before", "after", "gain (paired)"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, strategy, decoding in measured(evaluation):
        if name == benchmark:
            cells = [_cell(evaluation, name, when, strategy, decoding) for when in ("before", "after")]
            label = f"{strategy.removesuffix('_round')}, {decoding}"
            table.add_row(label, *cells, gain(evaluation, name, strategy, decoding) or "-")
    return table


def measured(evaluation: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Every (benchmark, strategy, decoding) in evaluation.json, before or after, in order."""
    return list(
        dict.fromkeys(
            (benchmark, strategy, decoding)
            for benchmark, by_when in evaluation["benchmarks"].items()
            for by_strategy in by_when.values()
            for strategy, by_decoding in by_strategy.items()
            for decoding in by_decoding
        )
    )


def gain(evaluation: dict[str, Any], benchmark: str, strategy: str, decoding: str) -> str:
    """The paired gain in points with its interval; empty where it was not measured."""
    found = evaluation.get("comparisons", {}).get(benchmark, {}).get(strategy, {}).get(decoding)
    if not found:
        return ""
    low, high = found["interval"]
    return f"{100 * found['difference']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def share(result: dict[str, Any]) -> str:
    """An accuracy with its interval and cost."""
    low, high = result["interval"]
    return (
        f"{100 * result['accuracy']:.1f} % [{100 * low:.1f}, {100 * high:.1f}], "
        f"{result['generated_tokens']:,} tokens, {result['seconds']:.0f} s"
    )


def print_closing(console: Console, recipe: Recipe, run: RunDirectory) -> None:
    """The table of results, where everything lies, and what to do next."""
    evaluation = run.evaluation()
    for benchmark in dict.fromkeys(name for name, _, _ in measured(evaluation)):
        console.print(result_table(recipe, evaluation, benchmark))
    marks = run.marks()
    for mark in (marks[:1] + marks[-1:]) if len(marks) > 1 else []:
        print_text(console, mark_line(mark))
    console.print(cost_table(accounting.of(run)))
    for finding in diagnosis.diagnose(recipe, run.metrics(), marks):
        print_text(console, str(finding))
    lines = [("report", run.report), ("rollouts", run.root / "rollouts.jsonl"), ("adapter", run.adapter)]
    for name, path in lines:
        if path.exists():
            print_text(console, f"{name:<9} {path}")
    again = f"python run.py --evaluate-only --out {run.root} --set evaluation.num_samples=4"
    print_text(console, f"{'next':<9} {again}")


def print_scores(console: Console, job: ScoreJob, scores: Scores) -> None:
    """The openings of each problem, the best first, and how to read the figures."""
    for problem, ranked in scores.ranked().items():
        console.print(_score_table(problem, ranked))
    weighted = [f"{weight:g} x {name}" for name, weight in job.recipe.rewards.items() if weight != 1]
    lines = [
        ("ranked by", "total, which training compares" + (f"; it counts {', '.join(weighted)}" if weighted else "")),
        ("accuracy", f"of {scores.num_futures} futures each, in percent with {_confidence(job.recipe)} intervals"),
        ("answers", "below each opening: what its futures boxed last, and how many did"),
        ("cost", f"{scores.num_tokens:,} tokens, {scores.seconds:.0f} s"),
    ]
    for name, text in lines:
        print_text(console, f"{name:<9} {text}")


def _score_table(problem: Problem, ranked: Sequence[Scored]) -> Table:
    question, gold = excerpt(problem.question, 1, 60), excerpt(problem.gold, 1, 40)
    title = Text.assemble((printable(problem.id), "bold"), "  ", question, "  right answer ", gold)
    table = Table(title=title, title_justify="left", title_style="", box=box.SIMPLE_HEAD, padding=0)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("opening", min_width=20)
    table.add_column("accuracy", justify="right", no_wrap=True)
    for name in ranked[0].rewards:
        table.add_column(name.replace("_", " "), justify="right", max_width=8)
    table.add_column("total", justify="right", no_wrap=True, style="bold")
    totals = [scored.total for scored in ranked]
    for scored in ranked:
        low, high = scored.interval
        accuracy = f"{100 * scored.accuracy:.0f} [{100 * low:.0f}, {100 * high:.0f}]"
        rewards = [f"{value:.2f}" for value in scored.rewards.values()]
        label = Text.assemble(printable(scored.written.label), "\n", (_answers(scored.answers), "dim"))
        rank = 1 + totals.index(scored.total)  # equal totals share it
        table.add_row(str(rank), label, accuracy, *rewards, f"{scored.total:.2f}")
    return table


def _answers(answers: Sequence[Answer]) -> str:
    """Such as ``7 right x30, 3 x1, no box x1``."""
    shown = [_answer(answer) for answer in answers[:_ANSWERS_SHOWN]]
    rest = sum(answer.count for answer in answers[_ANSWERS_SHOWN:])
    return ", ".join([*shown, f"others x{rest}"] if rest else shown)


def _answer(answer: Answer) -> str:
    text = "no box" if answer.text is None else excerpt(answer.text, 1, _ANSWER_WIDTH).plain
    return f"{text}{' right' if answer.is_right else ''} x{answer.count}"


def cost_table(costs: dict[str, Any]) -> Table:
    """What each phase of a run took, and all of them."""
    table = Table(title="cost", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=0)
    table.add_column("", no_wrap=True)
    for column in ("prompts", "generated", "trained", "seconds", "peak GiB"):
        table.add_column(column, justify="right", no_wrap=True, min_width=9)
    for phase, cost in costs.items():
        table.add_row(
            phase,
            f"{cost['prompts']:,}",
            f"{cost['generated_tokens']:,}",
            f"{cost['trained_tokens']:,}",
            f"{cost['seconds']:,.1f}",
            gib(cost["peak_memory_bytes"]) if cost["peak_memory_bytes"] else "-",
        )
    return table


def print_plan(console: Console, plan: Plan) -> None:
    """Memory by phase, the widths that follow from it, and what a step costs."""
    phases, recipe = plan.estimate.phases, plan.recipe
    table = Table(title="peak memory in GiB", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=0)
    table.add_column("", no_wrap=True)
    for phase in phases:
        over = plan.estimate.total(phase) > plan.usable_bytes
        table.add_column(phase, justify="right", min_width=10, style="red" if over else "")
    for item in dict.fromkeys(name for items in phases.values() for name in items):
        cells = (gib(items[item]) if item in items else "" for items in phases.values())
        table.add_row(item, *cells)
    table.add_section()
    table.add_row("all", *(gib(plan.estimate.total(phase)) for phase in phases), style="bold")
    supposed = "" if plan.machine.is_here else " (there is none here; --vram names another size)"
    print_text(console, f"{recipe.model.name} on {plan.machine.name}{supposed}")
    console.print(table)
    for name, text in _plan_lines(plan):
        print_text(console, f"{name:<9} {text}")


def _plan_lines(plan: Plan) -> list[tuple[str, str]]:
    rollout, training, seconds = plan.recipe.rollout, plan.recipe.training, plan.seconds
    step = sum(seconds.values())
    peak, usable = gib(plan.estimate.peak), gib(plan.usable_bytes)
    tokens = " + ".join(f"{name} {count:,}" for name, count in plan.num_tokens.items())
    phases = " + ".join(f"{name} {duration(value)}" for name, value in seconds.items())
    whole = _whole_run(plan, step)
    trained = "openings" if training.credit == "opening" else "rounds"
    return [
        ("fits" if plan.fits else "too big", f"{peak} of {usable} GiB usable ({plan.machine.memory_gib:.3g} less 5 %)"),
        ("width", f"futures {rollout.max_width} at a time, update {training.micro_batch_size} {trained} at a time"),
        ("tokens", f"at most {sum(plan.num_tokens.values()):,} a step: {tokens}"),
        ("time", f"about {duration(step)} a step, {whole}, evaluation apart"),
        ("", phases),
        ("assumed", "every prompt and reply as long as the recipe allows;"),
        ("", str(SPEEDS[plan.machine.device]) + (";" if plan.machine.device == "cpu" else "")),
        *_assumed_libraries(plan),
    ]


def _assumed_libraries(plan: Plan) -> list[tuple[str, str]]:
    if plan.machine.device == "cuda":
        return []
    return [("", f"libraries as measured elsewhere with PyTorch's {torch_build()} build; a run measures its own")]


def _whole_run(plan: Plan, step_seconds: float) -> str:
    training, num_tokens = plan.recipe.training, sum(plan.num_tokens.values())
    steps = training.max_steps
    if training.until_tokens is not None:
        steps = min(steps, -(-training.until_tokens // num_tokens))
    seconds = min(step_seconds * steps, training.until_seconds or float("inf"))
    at_least = "at least " if training.until_tokens is not None else ""
    return f"{duration(seconds)} for {at_least}{steps:,} steps"


def gib(num_bytes: int) -> str:
    """Bytes as GiB: ``1.3``, or ``0.07`` where that is little."""
    size = num_bytes / GIB
    return f"{size:.1f}" if size >= 0.1 else f"{size:.2f}"


def recipe_toml(recipe: Recipe) -> str:
    """The resolved recipe as TOML; keys without a value are left out."""
    return tomli_w.dumps(recipe.model_dump(exclude_none=True))


def sparkline(values: Iterable[float], width: int) -> str:
    """A line of bars, scaled to the values' own range."""
    shown = list(values)[-width:]
    low, high = min(shown, default=0.0), max(shown, default=0.0)
    scale = (len(_SPARKS) - 1) / (high - low) if high > low else 0.0
    return "".join(_SPARKS[round((value - low) * scale)] for value in shown)


def percent(value: float) -> str:
    """``43.2 %``."""
    return f"{100 * value:.1f} %"


def duration(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def printable(text: str) -> str:
    """Text that cannot drive a terminal: control characters and lone surrogates become visible signs."""
    return "".join(char if char == "\n" or char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def excerpt(text: str, num_lines: int, width: int) -> Text:
    """The beginning of a text, without markup, in at most so many lines."""
    flat = printable(" ⏎ ".join(text[: num_lines * width].split("\n")))
    room = num_lines * max(20, width - 18)
    return Text(flat if len(flat) <= room else flat[: room - 1] + "…")


def _facts(metrics: dict[str, Any]) -> list[tuple[str, str]]:
    facts = [("right by round", _by_round(metrics["accuracy_by_round"]))]
    if "round_correct" in metrics:
        facts.append(("rounds kept true", _by_round(metrics["round_correct"])))
    facts += [
        ("groups without signal", percent(metrics["groups_without_signal"])),
        ("broken form", percent(metrics["broken_form"])),
        ("cut off, openings / futures", " / ".join(percent(value) for value in metrics["cut_off"].values())),
        ("seconds", " + ".join(f"{name} {value:.1f}" for name, value in metrics["seconds"].items())),
    ]
    planned = metrics.get("planned_memory_bytes", {}).items()  # a run of an earlier version has none
    peaks = metrics.get("peak_memory_bytes", {})
    memory = ", ".join(f"{gib(peaks[phase])} of {gib(size)}" for phase, size in planned if phase in peaks)
    if memory:
        facts.append(("GiB used of planned", memory))
    return facts


def _by_round(values: Iterable[float | None]) -> str:
    return " / ".join("-" if value is None else f"{100 * value:.0f}" for value in values) + " %"


def _confidence(recipe: Recipe) -> str:
    return f"{100 * recipe.evaluation.confidence:g} %"


def _cell(evaluation: dict[str, Any], benchmark: str, when: str, strategy: str, decoding: str) -> str:
    result = evaluation["benchmarks"][benchmark].get(when, {}).get(strategy, {}).get(decoding)
    if result is None:
        return "-"
    low, high = result["interval"]
    return f"{100 * result['accuracy']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
