"""``run.py compare``: two or more runs in tables and on one page."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from motif_lite.commands.terminal import exit_codes
from motif_lite.jobs import compare_job
from motif_lite.views import comparison, formats
from motif_lite.views.live import RunConsole

HELP = "Compare runs: curves, paired tests, differing recipe keys, the same problem's answers side by side."

Runs = Annotated[list[Path], typer.Argument(metavar="DIR DIR ...", help="Run directories; all against the first.")]
Html = Annotated[Path, typer.Option("--html", metavar="FILE", help="Where the page is written.")]


def compare(runs: Runs, html: Html = Path("compare.html")) -> None:
    """Print the tables and write the page."""
    with exit_codes():
        terminal = Console(file=sys.stdout, highlight=False)
        with RunConsole(
            Console(file=sys.stderr, highlight=False), "compare", f"{len(runs)} run{'s' * (len(runs) != 1)}"
        ) as live:
            found = compare_job.compared(runs, live)
        comparison.print_tables(terminal, found)
        comparison.write_page(found, html)
        formats.print_text(terminal, f"page      {html}")
