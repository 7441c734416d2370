"""``run.py study``: variants over seeds."""

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from motif_lite.commands.terminal import exit_codes
from motif_lite.views import formats

if TYPE_CHECKING:
    from motif_lite.study.plan import StudyPlan

HELP = "Compare variants over seeds: runs, tables, figures. Repeat it to continue."

StudyFile = Annotated[Path, typer.Argument(metavar="FILE", help="The study, e.g. studies/tiny_credit.toml.")]
StudyOut = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Folder for runs and results; by default next to FILE."),
]
StudyCheck = Annotated[
    bool, typer.Option("--check", help="Validate the study with all its recipes, print its runs, and stop.")
]
StudyRecipe = Annotated[
    Path | None,
    typer.Option(
        "--recipe", metavar="FILE", help="A recipe in place of the study's base, e.g. for studies/controls.toml."
    ),
]
StudyWorkers = Annotated[
    int,
    typer.Option("--workers", metavar="N", min=1, help="Runs at a time, on a GPU or a share of the cores each."),
]


def study(
    file: StudyFile,
    recipe: StudyRecipe = None,
    out: StudyOut = None,
    workers: StudyWorkers = 1,
    check: StudyCheck = False,
) -> None:
    """Validate a study and run it to the end."""
    from motif_lite.study.live import print_plan
    from motif_lite.study.plan import load

    with exit_codes():
        plan = load(file, out, recipe)
        if check:
            print_plan(Console(highlight=False), plan)
        else:
            perform_study(plan, workers)


def perform_study(plan: "StudyPlan", num_workers: int) -> None:
    """Run a study on the terminal; it continues when the terminal is closed."""
    from motif_lite.study import report as study_report
    from motif_lite.study import runs as study_runs
    from motif_lite.study import workers
    from motif_lite.study.live import StudyConsole, print_closing

    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    terminal = Console(file=sys.stdout, highlight=False)
    try:
        with (
            workers.beside(plan, num_workers, study_runs.THIS_PROGRAM) as others,
            StudyConsole(terminal, plan.study.title, str(plan.out)) as live,
        ):
            live.shared_with(others)
            study_runs.perform(plan, study_runs.THIS_PROGRAM, live, lambda: study_report.write(plan))
    except KeyboardInterrupt:
        formats.print_text(
            Console(stderr=True, highlight=False), "to continue, repeat the command; finished runs are kept"
        )
        raise
    for worker in others:
        if code := worker.process.returncode:
            formats.print_text(terminal, f"a worker ended with exit code {code} before the study did: {worker.log}")
    print_closing(terminal, plan, study_report.write(plan))
