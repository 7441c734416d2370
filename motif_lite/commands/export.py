"""``run.py export``: a finished run in a form that other programs load."""

from pathlib import Path
from typing import Annotated

import typer

from motif_lite.commands.options import Changes
from motif_lite.commands.terminal import exit_codes, watched
from motif_lite.views import formats

HELP = "Export a finished run as adapter, merged model, GGUF or Ollama model, checked against adapter and base."

Run = Annotated[Path, typer.Option("--run", metavar="DIR", help="The finished run.")]
To = Annotated[Path, typer.Option("--to", metavar="DIR", help="A new folder for the export.")]
FormatName = Annotated[
    str, typer.Option("--format", metavar="FORMAT", help="adapter, merged, gguf or ollama; see docs/export.md.")
]
Quantisation = Annotated[
    str | None,
    typer.Option(
        "--quantisation", metavar="TYPE",
        help="How weights are stored: bf16, f16 or f32, and q8_0 for gguf and ollama, which is their default.",
    ),
]  # fmt: skip
Base = Annotated[
    str | None,
    typer.Option(
        "--base",
        metavar="NAME",
        help="The 16-bit model of a base that was loaded in 4 bits; with others it is refused.",
    ),
]
Adapter = Annotated[
    str | None,
    typer.Option("--adapter", metavar="DIR", help="In place of the run's last adapter: best, or a folder."),
]

PushName = Annotated[
    str | None,
    typer.Option("--push", metavar="NAME", help="Push an adapter or merged model to the hub, with a model card."),
]
Private = Annotated[bool, typer.Option("--private", help="With --push: if the repository is new, it is private.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="With --push: export, write the card and list the files; push nothing.")
]


def export(
    run: Run,
    to: To,
    format: FormatName,
    quantisation: Quantisation = None,
    base: Base = None,
    changes: Changes = None,
    adapter: Adapter = None,
    push: PushName = None,
    private: Private = False,
    dry_run: DryRun = False,
) -> None:
    """Export, check, push if asked to, and print what was found."""
    with exit_codes():
        # They import the hub's client, which takes a moment: the other commands do without.
        from motif_lite.jobs import export_job, push_job
        from motif_lite.views import exports

        asked = push_job.asked(push, format, is_private=private, is_dry=dry_run)
        job = export_job.job(run, to, format, quantisation, base, changes or [], adapter)
        with watched(run.name, f"{format} to {to}", job.how_to_go_on) as (terminal, live):
            if asked is not None:
                push_job.require_login(asked)
            found = job.perform(live)
            pushed = push_job.publish(asked, job, found, live) if asked is not None else None
        for line in exports.lines(found, to):
            formats.print_text(terminal, line)
        if asked is not None and pushed is not None:
            for line in exports.pushed_lines(asked.name, pushed.files, pushed.url):
                formats.print_text(terminal, line)
