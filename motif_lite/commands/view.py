"""``run.py view``: every rollout of a run, in a browser."""

import threading
import webbrowser
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from motif_lite.commands.terminal import exit_codes, watched
from motif_lite.jobs import view_job
from motif_lite.views import formats

HELP = "Look at every rollout of a run in a browser, also while it trains."

Run = Annotated[Path, typer.Argument(metavar="DIR", help="The run directory, e.g. runs/tiny_cpu.")]
Html = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Write one self-contained page to this file, and stop.")
]
Port = Annotated[
    int, typer.Option("--port", metavar="N", min=0, max=65535, help="Port on 127.0.0.1; by default a free one.")
]
NoBrowser = Annotated[bool, typer.Option("--no-browser", help="Only print the address; do not open a browser.")]


def view(run: Run, html: Html = None, port: Port = 0, no_browser: NoBrowser = False) -> None:
    """Serve the explorer until Ctrl-C, or write it to a file."""
    with exit_codes():
        job = view_job.job(run)
        with watched("view", str(run), lambda: "nothing has been changed") as (terminal, live):
            live.phase("reading", "rollouts.jsonl")
            if html is not None:
                job.write(html, live.advance)
                return
            server = job.server(port, live.advance)
        formats.print_text(terminal, f"{len(server.followed)} groups of rollouts at {server.url}; Ctrl-C ends")
        if not no_browser:
            # a browser of the terminal's returns when it is closed, and the server must answer before that
            threading.Thread(target=webbrowser.open, args=(server.url,), daemon=True).start()
        with server, suppress(KeyboardInterrupt):
            server.serve_forever()
