"""``run.py solve``: answer questions in rounds."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from motif_lite.commands.chat import Chat
from motif_lite.commands.options import Changes, RecipeFile
from motif_lite.commands.terminal import exit_codes, watched
from motif_lite.errors import DataError
from motif_lite.jobs import questions, solve_job
from motif_lite.jobs.answering import Quiet, answer
from motif_lite.jobs.interrupting import AnswerEnded
from motif_lite.jobs.questions import Question
from motif_lite.jobs.solve_job import SolveJob
from motif_lite.observer import Observer
from motif_lite.solving.solver import MOST_ROUNDS, MOST_SAMPLES, Effort, Solution, Solver, require_text
from motif_lite.solving.watcher import Watcher
from motif_lite.views.solving import SolutionView

HELP = "Answer questions in rounds, with a run's model or any other; without a question it asks for them."

QuestionText = Annotated[
    str | None, typer.Argument(metavar="QUESTION", help="The question; - reads it from standard input.")
]
Run = Annotated[Path | None, typer.Option("--run", metavar="DIR", help="A finished run: its recipe and adapter.")]
Adapter = Annotated[
    str | None,
    typer.Option("--adapter", metavar="DIR", help="An adapter: a folder, its name on the hub, or with --run: best."),
]
File = Annotated[
    Path | None,
    typer.Option("--file", metavar="FILE", help='Questions: JSON lines with "question", or text, one per line.'),
]
HeldOut = Annotated[
    bool, typer.Option("--held-out", help="Solve a held-out problem: the first of the recipe's first benchmark.")
]
Rounds = Annotated[
    int | None,
    typer.Option("--rounds", metavar="N", min=2, max=MOST_ROUNDS, help="Rounds; by default the recipe's."),
]
Samples = Annotated[
    int,
    typer.Option(
        "--samples", metavar="N", min=1, max=MOST_SAMPLES, help="Samples per question; the most common answer wins."
    ),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        "--temperature", metavar="T", min=0, max=5,
        help="0 is greedy, the default for one sample; for several, and for parallel's drafts, it is the recipe's "
        "evaluation.temperature.",
    ),
]  # fmt: skip
HideThinking = Annotated[bool, typer.Option("--hide-thinking", help="Show what rounds pass on, not what they write.")]
Json = Annotated[bool, typer.Option("--json", help="Print a JSON line for each answer, and progress elsewhere.")]


def solve(
    question: QuestionText = None,
    run: Run = None,
    recipe: RecipeFile = None,
    changes: Changes = None,
    adapter: Adapter = None,
    file: File = None,
    held_out: HeldOut = False,
    rounds: Rounds = None,
    samples: Samples = 1,
    temperature: Temperature = None,
    hide_thinking: HideThinking = False,
    as_json: Json = False,
) -> None:
    """Load a model and answer one question, those of a file, or those that are typed."""
    with exit_codes():
        if sum((question is not None, file is not None, held_out)) > 1:
            raise DataError("solve takes one of QUESTION, --file and --held-out")
        job = solve_job.job(run, recipe, changes or [], adapter, Effort(rounds, samples, temperature))
        asked = questions.read(file) if file else []
        if question is not None:
            asked = [Question(1, (sys.stdin.read() if question == "-" else question).strip())]
        if as_json and not asked and not held_out:
            raise DataError("--json needs QUESTION, --file or --held-out; for a pipe, --file /dev/stdin")
        _check(asked, require_text)
        perform(job, asked, held_out=held_out, as_json=as_json, shows_thinking=not hide_thinking)


def perform(
    job: SolveJob, asked: list[Question], *, held_out: bool = False, as_json: bool = False, shows_thinking: bool = True
) -> None:
    """Load the job's model and answer what is asked; what is typed, where nothing is."""
    terminal = Console(file=sys.stdout, highlight=False)
    lines = sys.stdout  # the stream itself: a live view would take what is printed
    about = f"{job.recipe.model.name}, seed {job.recipe.seed}, {job.adapter or 'no adapter'}"
    with watched(job.name, about, job.how_to_go_on, _beside(terminal) if as_json else terminal) as (_, live):
        solver = job.load(live)
        problem = job.held_out(live) if held_out else None
        asked = [Question(1, problem.question)] if problem else asked
        _check(asked, lambda text: solver.check(text, job.effort))
        if remark := solver.remark(job.effort):
            live.note(f"note: {remark}")
        for number, each in enumerate(asked if as_json else [], start=1):
            watcher = Quiet(live, f"question {number} of {len(asked)}")
            found = _answered(solver, each.text, job.effort, watcher, live, number)
            lines.write(f"{solve_job.as_json(found, each.line)}\n")
            lines.flush()
    if as_json:
        return
    view = SolutionView(terminal, shows_thinking=shows_thinking)
    if not asked:
        Chat(solver, job.effort, terminal, view, live).run()
    for number, each in enumerate(asked, start=1):
        view.question(each.text)
        found = _answered(solver, each.text, job.effort, view, live, number)
        view.solution(found, problem)


def _beside(terminal: Console) -> Console:
    """Where progress goes while JSON goes to the terminal, or to a file: plain lines next to it, or a live view."""
    return Console(file=sys.stderr, highlight=False, force_terminal=False if terminal.is_terminal else None)


def _check(asked: list[Question], check: Callable[[str], None]) -> None:
    """Refuse questions that cannot be answered before the first is."""
    for each in asked:
        try:
            check(each.text)
        except DataError as error:
            raise DataError(f"line {each.line}: {error}" if len(asked) > 1 else str(error)) from None


def _answered(
    solver: Solver, question: str, effort: Effort, watcher: Watcher, observer: Observer, number: int
) -> Solution:
    """An answer; without a prompt to return to, Ctrl-C ends the program with it."""
    try:
        return answer(solver, question, effort, watcher, observer, number=number)
    except AnswerEnded:
        if isinstance(watcher, SolutionView):
            watcher.ended()
        raise KeyboardInterrupt from None
    finally:
        if isinstance(watcher, SolutionView):
            watcher.close()
