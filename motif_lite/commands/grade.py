"""``run.py grade``: a reply, or a file of them, as training would grade it."""

import re
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from motif_lite.commands.terminal import exit_codes
from motif_lite.errors import DataError, RecipeError
from motif_lite.evaluation.verdicts import verdict
from motif_lite.jobs import grade_job
from motif_lite.views import formats, verdicts
from motif_lite.views.live import RunConsole

HELP = "Grade a reply, or a file of them, as training would: the verdict and the rule that decided."
SETTINGS = {"ignore_unknown_options": True}  # answers may begin with a minus

Gold = Annotated[str | None, typer.Argument(metavar="GOLD", help="The right answer, without a box.")]
GradedText = Annotated[
    str | None, typer.Argument(metavar="REPLY", help="A whole reply; - reads it from standard input.")
]
Pairs = Annotated[
    Path | None,
    typer.Option("--pairs", metavar="FILE", help="Grade JSON lines with gold and reply; print one for each."),
]


def grade(gold: Gold = None, reply: GradedText = None, pairs: Pairs = None) -> None:
    """Print verdicts; the exit code does not depend on them."""
    with exit_codes():
        if gold is not None and re.match("--[a-z]", gold):
            raise RecipeError(f"grade has no option {gold}; its one option is --pairs FILE")
        if pairs is not None and gold is None:
            grade_file(pairs)
        elif pairs is None and gold is not None and reply is not None:
            terminal = Console(file=sys.stdout, highlight=False)
            found = verdict(gold, sys.stdin.read() if reply == "-" else reply)
            for line in verdicts.lines(found, terminal.width):
                formats.print_text(terminal, line)
        else:
            raise DataError("grade takes either GOLD and REPLY, or --pairs FILE; put answers in single quotes")


def grade_file(path: Path) -> None:
    """Grade a file of replies; progress goes to the standard error stream, so that the verdicts may go to a file."""
    pairs = grade_job.read(path)
    progress = Console(file=sys.stderr, highlight=False)
    with RunConsole(progress, "grade", str(path)) as live:
        live.phase("grading", f"{len(pairs)} replies")
        found = grade_job.graded(pairs, live.advance)
    for pair, each in zip(pairs, found, strict=True):
        print(grade_job.as_json(pair, each))
    formats.print_text(progress, grade_job.summary(found))
