"""Tables on the terminal: results, costs and scores."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from motif_lite.evaluation import audit
from motif_lite.evaluation.best_mark import best_mark
from motif_lite.evaluation.scores import Answer, Scored, Scores
from motif_lite.figures import in_percent
from motif_lite.monitor import findings
from motif_lite.nouns import Problem
from motif_lite.recipe.schema import Recipe
from motif_lite.runs import accounting
from motif_lite.runs.costs import Costs
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.records import Evaluation, Measurement
from motif_lite.views.audit_table import print_audit
from motif_lite.views.formats import (
    about_gains,
    best_mark_line,
    confidence_in_words,
    excerpt,
    gain,
    gib,
    mark_line,
    print_text,
    printable,
)

_ANSWERS_SHOWN, _ANSWER_WIDTH = 4, 38
"""Of an opening's futures; the width leaves 20 characters of an answer."""


def result_table(recipe: Recipe, evaluation: Evaluation, benchmark: str) -> Table:
    """Before and after with intervals, and what the paired comparison says, for one benchmark."""
    title = f"{benchmark}: accuracy in percent with {confidence_in_words(recipe)} intervals"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=0)
    table.add_column("thinking", no_wrap=True)
    for column in ("before", "after", "gain (paired)"):
        table.add_column(column, justify="right", no_wrap=True)
    for subject in evaluation.subjects():
        if subject.benchmark == benchmark:
            cells = [_cell(evaluation.find(subject, "before")), _cell(evaluation.find(subject, "after"))]
            label = f"{subject.strategy.removesuffix('_round')}, {subject.decoding}"
            table.add_row(label, *cells, gain(evaluation, subject, recipe.evaluation.confidence) or "-")
    table.caption, table.caption_justify = _undone(evaluation, benchmark), "left"
    return table


def _undone(evaluation: Evaluation, benchmark: str) -> str | None:
    """How many replies lost their credit because they left an operation to do."""
    found = [each for each in evaluation.measurements if each.benchmark == benchmark and each.num_undone]
    if not found:
        return None
    num_undone, num_samples = sum(each.num_undone or 0 for each in found), sum(each.num_samples for each in found)
    return f"{num_undone:,} of {num_samples:,} replies equal the answer but leave an operation to do: wrong here"


def print_closing(console: Console, recipe: Recipe, run: RunDirectory) -> None:
    """The table of results, where everything lies, and what to do next."""
    evaluation = run.evaluation()
    for benchmark in dict.fromkeys(subject.benchmark for subject in evaluation.subjects()):
        console.print(result_table(recipe, evaluation, benchmark))
    if recipe.evaluation.audit:
        print_audit(console, recipe, audit.kept(run))
    if about := about_gains(evaluation):
        print_text(console, about)
    marks = run.marks()
    for mark in (marks[:1] + marks[-1:]) if len(marks) > 1 else []:
        print_text(console, mark_line(mark))
    if found := best_mark(marks, recipe.evaluation.confidence):
        print_text(console, best_mark_line(found, run.best_step(), is_trained=run.adapter.exists()))
    console.print(cost_table(accounting.of(run)))
    for finding in findings.diagnose(recipe, run.metrics(), marks):
        print_text(console, str(finding))
    lines = [("report", run.report), ("rollouts", run.root / "rollouts.jsonl"), ("adapter", run.adapter)]
    lines += [("best", run.best_adapter)] if run.best_step() is not None else []
    for name, path in lines:
        if path.exists():
            print_text(console, f"{name:<9} {path}")
    pauses = run.checkpoints.exists() and not run.report.exists()  # which comes last
    command, more = ("--resume", "") if pauses else ("--evaluate-only", " --set evaluation.num_samples=4")
    print_text(console, f"{'next':<9} python run.py {command} --out {run.root}{more}")


def print_scores(console: Console, recipe: Recipe, scores: Scores) -> None:
    """The openings of each problem, the best first, and how to read the figures."""
    for problem, ranked in scores.ranked().items():
        console.print(_score_table(problem, ranked))
    weighted = [f"{weight:g} x {name}" for name, weight in recipe.rewards.items() if weight != 1]
    lines = [
        ("ranked by", "total, which training compares" + (f"; it counts {', '.join(weighted)}" if weighted else "")),
        ("accuracy", f"of {scores.num_futures} futures each, in percent with {confidence_in_words(recipe)} intervals"),
        ("answers", "below each opening: the final boxed answers of its futures, counted"),
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
        accuracy = in_percent(scored.accuracy, scored.interval, digits=0)
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


def cost_table(costs: Costs) -> Table:
    """What each phase of a run took, and all of them."""
    table = Table(title="cost", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=0)
    table.add_column("", no_wrap=True)
    for column in ("prompts", "generated", "trained", "seconds", "peak GiB"):
        table.add_column(column, justify="right", no_wrap=True, min_width=9)
    for phase, cost in costs.items():
        table.add_row(
            phase,
            f"{cost.prompts:,}",
            f"{cost.generated_tokens:,}",
            f"{cost.trained_tokens:,}",
            f"{cost.seconds:,.1f}",
            gib(cost.peak_memory_bytes) if cost.peak_memory_bytes else "-",
        )
    return table


def _cell(found: Measurement | None) -> str:
    return in_percent(found.accuracy, found.interval) if found else "-"
