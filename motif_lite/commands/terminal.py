"""What all commands have in common on the terminal: exit codes, and a live view while something long is under way."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

from motif_lite.errors import MotifError
from motif_lite.ranks import Followed
from motif_lite.views import formats
from motif_lite.views.live import RunConsole


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn errors into exit codes here, because Typer would swallow Ctrl-C."""
    errors = Console(stderr=True, highlight=False)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except Followed:
        os._exit(0)  # not at fault, with nothing to write; and taking PyTorch down takes seconds
    except MotifError as error:
        formats.print_text(errors, f"error: {error}")
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        formats.print_text(errors, "interrupted")
        raise typer.Exit(130) from None


@contextmanager
def watched(
    title: str, subtitle: str, how_to_go_on: Callable[[], str], terminal: Console | None = None
) -> Iterator[tuple[Console, RunConsole]]:
    """The terminal with a live view; on Ctrl-C it prints how to continue.

    Args:
        terminal: Where the view is; by default the standard output.
    """
    # This very stream: what libraries print is diverted.
    terminal = terminal or Console(file=sys.stdout, highlight=False)
    try:
        with RunConsole(terminal, title, subtitle) as live:
            yield terminal, live
    except KeyboardInterrupt:
        formats.print_text(Console(stderr=True, highlight=False), how_to_go_on())
        raise
