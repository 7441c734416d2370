"""``run.py serve``: an OpenAI-compatible endpoint that thinks in rounds."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from motif_lite.commands.options import Changes, RecipeFile
from motif_lite.commands.terminal import exit_codes, watched
from motif_lite.jobs import serve_job, solve_job
from motif_lite.jobs.serve_job import Address, ServeJob
from motif_lite.solving.solver import MOST_ROUNDS, Effort
from motif_lite.views import formats

HELP = "Serve a model that thinks in rounds as an OpenAI-compatible API, for chat programs and editors."

Run = Annotated[Path | None, typer.Option("--run", metavar="DIR", help="A finished run: its recipe and adapter.")]
Adapter = Annotated[
    str | None, typer.Option("--adapter", metavar="DIR", help="An adapter: a folder, or its name on the hub.")
]
Rounds = Annotated[
    int | None,
    typer.Option("--rounds", metavar="N", min=2, max=MOST_ROUNDS, help="Rounds; by default the recipe's."),
]
Host = Annotated[str, typer.Option("--host", metavar="HOST", help="Where to listen; other than loopback needs --key.")]
Port = Annotated[int, typer.Option("--port", metavar="N", min=0, max=65535, help="The port; 0 takes a free one.")]
Key = Annotated[
    str | None,
    typer.Option(
        "--key", metavar="KEY", envvar="MOTIF_LITE_SERVE_KEY", show_envvar=False,
        help="Requests must have it. Other users see the command line: better set MOTIF_LITE_SERVE_KEY.",
    ),
]  # fmt: skip
AtOnce = Annotated[
    int,
    typer.Option("--at-once", metavar="N", min=1, max=1024, help="Most answers that are written or wait; then 503."),
]
Seconds = Annotated[
    float, typer.Option("--seconds", metavar="S", min=1, max=86_400, help="Most seconds for an answer.")
]


def serve(
    run: Run = None,
    recipe: RecipeFile = None,
    changes: Changes = None,
    adapter: Adapter = None,
    rounds: Rounds = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    key: Key = None,
    at_once: AtOnce = 128,
    seconds: Seconds = 600,
) -> None:
    """Load a model and answer requests until Ctrl-C."""
    with exit_codes():
        serve_job.require_packages()
        serve_job.require_key(host, key)
        more = [f"rollout.num_rounds={rounds}"] if rounds is not None else []
        model = solve_job.job(run, recipe, [*(changes or []), *more], adapter, Effort(), command="serve")
        perform(ServeJob(model, Address(host, port), key, at_once, seconds))


def perform(job: ServeJob) -> None:
    """Serve the job's model."""
    about = f"{job.model.recipe.model.name}, {job.model.adapter or 'no adapter'}"
    with ExitStack() as held:
        with watched(job.model.name, about, job.model.how_to_go_on) as (terminal, live):
            listening = held.enter_context(job.listening(live))
        formats.print_text(terminal, f"model {job.model.name} at {listening.url}; Ctrl-C ends")
        listening.serve()
