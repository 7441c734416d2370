"""``run.py --plan``: memory and time of a recipe, for this machine, a size or a card by name."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from motif_lite.errors import RecipeError
from motif_lite.jobs import checking, launching
from motif_lite.planning import projection
from motif_lite.planning.planner import Plan
from motif_lite.planning.rows import Lengths
from motif_lite.views import plan_table
from motif_lite.views.plan_table import PlannedTime

Vram = Annotated[float | None, typer.Option("--vram", metavar="GIB", help="With --plan: for a GPU of this size.")]
GpuName = Annotated[
    str | None, typer.Option("--gpu", metavar="NAME", help='With --plan: for this GPU, e.g. "RTX 3090" or T4.')
]
Typical = Annotated[
    int | None,
    typer.Option(
        "--typical", metavar="TOKENS", min=1, max=2**24,
        help="With --plan: also the time if replies usually have so many tokens.",
    ),
]  # fmt: skip


def show(
    recipe: Path | None,
    changes: list[str],
    vram: float | None,
    gpu: str | None,
    typical: int | None,
    processes: int = 1,
) -> None:
    """Print the plan, of several processes beside the time that one would take.

    Raises:
        RecipeError: The recipe does not fit, or the options do not.
    """
    if vram is not None and gpu is not None:
        raise RecipeError("--vram and --gpu both say which GPU to plan for; give one of them")
    launching.require_shareable(checking.check(recipe, changes), processes, trains=True, here=False)
    plan = checking.memory_plan(recipe, changes, vram, gpu, processes)
    time = _time(plan, typical)
    if processes > 1:
        time = replace(time, alone=_time(checking.memory_plan(recipe, changes, vram, gpu), None).worst)
    plan_table.print_plan(Console(highlight=False), plan, time)
    if not plan.fits:
        raise RecipeError(f"{recipe}: {plan.shortage}; {plan.remedy}")


def _time(plan: Plan, typical: int | None) -> PlannedTime:
    number = checking.expected_problems(plan.recipe)
    evaluated = list(checking.evaluated(plan.recipe, number))
    worst = projection.planned(plan, evaluated, Lengths.worst(plan.recipe))
    not_counted = tuple(checking.not_counted(plan.recipe, number))
    if typical is None:
        return PlannedTime(worst, not_counted=not_counted)
    usual = projection.planned(plan, evaluated, Lengths.typical(plan.recipe, typical))
    return PlannedTime(worst, usual, typical, not_counted)
