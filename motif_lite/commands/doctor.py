"""``run.py doctor``: is this machine fit for a run, and if not, what to do."""

import typer
from rich.console import Console

from motif_lite.commands.terminal import exit_codes
from motif_lite.doctor import checks, facts
from motif_lite.views.formats import print_text

HELP = "Check Python, packages, driver, GPU, compiler, memory and disk, with a remedy for what is missing."

_MARKS = {"ok": "ok  ", "note": "note", "wrong": "BAD "}


def doctor() -> None:
    """Print what was found; exit code 2 where a run would fail."""
    with exit_codes():
        console, last = Console(highlight=False), ""
        found = checks.examine(facts.gather())
        for name, finding in found:
            print_text(console, f"{_MARKS[finding.state]}  {'' if name == last else name:<9} {finding.text}")
            if finding.remedy:
                print_text(console, f"{'':<16}-> {finding.remedy}")
            last = name
        wrong = sum(finding.state == "wrong" for _, finding in found)
        print_text(console, f"{wrong} to put right" if wrong else "nothing is in the way of a run")
    if wrong:
        raise typer.Exit(2)
