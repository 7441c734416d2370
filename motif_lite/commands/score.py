"""``run.py score``: hand-written openings by their futures."""

from pathlib import Path
from typing import Annotated

import typer

from motif_lite.commands.options import Adapter, Changes, RecipeFile
from motif_lite.commands.terminal import exit_codes, watched
from motif_lite.jobs import score_job
from motif_lite.views import tables

HELP = "Score hand-written openings by their futures, as training would."

Openings = Annotated[
    Path,
    typer.Option(
        "--openings",
        metavar="FILE",
        help="JSON lines, one per problem: question, answer, and a list of openings.",
    ),
]
Futures = Annotated[
    int | None,
    typer.Option(
        "--futures",
        metavar="N",
        min=1,
        max=10_000,
        help=f"Futures per opening; by default the recipe's num_futures, at least {score_job.LEAST_FUTURES}.",
    ),
]
Json = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write the scores to this file.")]


def score(
    openings: Openings,
    recipe: RecipeFile = None,
    changes: Changes = None,
    futures: Futures = None,
    adapter: Adapter = None,
    json: Json = None,
) -> None:
    """Print the openings of each problem, the best first."""
    with exit_codes():
        if json is not None:
            score_job.require_writable(json, recipe, openings)
        job = score_job.job(recipe, changes or [], openings, num_futures=futures, adapter=adapter)
        about = f"{job.recipe.model.name}, seed {job.recipe.seed}, {adapter or 'no adapter'}"
        with watched(job.name, about, job.how_to_go_on) as (terminal, live):
            scores = job.perform(live)
        tables.print_scores(terminal, job.recipe, scores)
        if json is not None:
            score_job.write(json, scores, job)
