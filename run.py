"""motif_lite on the command line: arguments to one call, errors to exit codes.

0: done. 2: something that the user can mend, said in a message. 130: interrupted, and resumable.
"""

import sys
from pathlib import Path
from typing import Annotated, NoReturn, Optional

import typer
from rich.console import Console

from motif_lite import pipeline
from motif_lite.console import RunConsole, closing_lines, result_table, show_notices
from motif_lite.errors import MotifError, RunError
from motif_lite.run_dir import RunDirectory, newest_run

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

_RECIPE = typer.Option("--recipe", metavar="FILE", help="The recipe to run, e.g. recipes/tiny_cpu.toml.")
_SET = typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe; a TOML value. Repeatable.")
_OUT = typer.Option("--out", metavar="DIR", help="The run directory. By default runs/NAME-OF-RECIPE.")
_CHECK = typer.Option("--check", help="Read and validate the recipe, print it in full, and stop.")
_RESUME = typer.Option("--resume", help="Continue the run in --out, or the newest run of this recipe.")
_EVALUATE_ONLY = typer.Option("--evaluate-only", help="Only evaluate: the run in --out, or the recipe's bare model.")


@app.command(help="Train a model to think in rounds (MOTIF), evaluate it, and report.")
def main(
    recipe: Annotated[Optional[Path], _RECIPE] = None,  # noqa: UP045  # typer reads the annotation
    overrides: Annotated[Optional[list[str]], _SET] = None,  # noqa: UP045
    out: Annotated[Optional[Path], _OUT] = None,  # noqa: UP045
    check: Annotated[bool, _CHECK] = False,
    resume: Annotated[bool, _RESUME] = False,
    evaluate_only: Annotated[bool, _EVALUATE_ONLY] = False,
) -> None:
    """See the help text above."""
