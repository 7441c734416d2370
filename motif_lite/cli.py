"""motif_lite on the command line: arguments to one call, errors to exit codes.

`main` is the command without a name, a recipe's run; the other commands follow it.

Exit codes: 0: done. 2: an error that the user can fix, explained in one message. 130: interrupted; can be resumed.
"""

import json as json_text
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from motif_lite import process, ranks
from motif_lite.commands import compare, doctor, export, grade, plan, score, serve, solve, study, view
from motif_lite.commands.options import Adapter, Changes, RecipeFile
from motif_lite.commands.terminal import exit_codes, watched
from motif_lite.credits.table import credit_of
from motif_lite.errors import RecipeError
from motif_lite.jobs import checking, dry_run_job, launching, solve_job, train_job
from motif_lite.recipe import idle_keys
from motif_lite.recipe.schema import Recipe
from motif_lite.runs.directory import RunDirectory
from motif_lite.solving.solver import Effort
from motif_lite.views import formats, tables

app = typer.Typer(
    subcommand_metavar="[COMMAND ...]", add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
)

Out = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="The run directory; by default runs/NAME-OF-RECIPE.")
]
Check = Annotated[bool, typer.Option("--check", help="Validate the recipe, print it with every default, and stop.")]
PlanOnly = Annotated[
    bool, typer.Option("--plan", help="Estimate memory and time of a run, and whether it fits; no download.")
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Load everything, show the first problem's prompts, replies and one step, and keep nothing."
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in --out, or the recipe's newest run.")]
PauseAt = Annotated[
    float | None,
    typer.Option(
        "--pause-at", metavar="SHARE", help="Pause training with this share of its budget spent; --resume goes on."
    ),
]
EvaluateOnly = Annotated[
    bool, typer.Option("--evaluate-only", help="Only evaluate: the run in --out, or the recipe's base model.")
]
StrategyName = Annotated[
    str | None,
    typer.Option("--strategy", metavar="NAME", help="With --evaluate-only: with this strategy alone."),
]
SolveOne = Annotated[
    bool, typer.Option("--solve-one", help="At the end of the run solve one held-out problem, and show its rounds.")
]
Processes = Annotated[
    int | None,
    typer.Option(
        "--processes", metavar="N", min=1,
        help="Share the run among N processes of this machine: a GPU each, or the processor's cores.",
    ),
]  # fmt: skip


@app.callback(
    invoke_without_command=True,
    help="Train a model to reason in rounds (MOTIF), evaluate it before and after, and write a report.",
)
def main(
    context: typer.Context,
    recipe: RecipeFile = None,
    changes: Changes = None,
    out: Out = None,
    check: Check = False,
    plan_only: PlanOnly = False,
    vram: plan.Vram = None,
    gpu: plan.GpuName = None,
    typical: plan.Typical = None,
    dry_run: DryRun = False,
    resume: Resume = False,
    pause_at: PauseAt = None,
    evaluate_only: EvaluateOnly = False,
    adapter: Adapter = None,
    strategy: StrategyName = None,
    solve_one: SolveOne = False,
    processes: Processes = None,
) -> None:
    """Do what the options ask for, unless a command was named."""
    of_plan = vram is not None or gpu is not None or typical is not None
    runs_only = evaluate_only or solve_one or adapter is not None or strategy is not None or pause_at is not None
    with exit_codes():
        here = ranks.of_environment(os.environ)
        require_run(here, bool(context.invoked_subcommand or check or plan_only or dry_run))
        if context.invoked_subcommand:
            if any(context.params.values()):
                name = context.invoked_subcommand
                raise RecipeError(f"options of {name} go after its name: python run.py {name} ...")
        elif check:
            if out or plan_only or of_plan or dry_run or resume or runs_only or processes:
                raise RecipeError("--check goes with --recipe and --set only; it neither loads nor runs anything")
            print_checked(checking.check(recipe, changes or []))
        elif plan_only:
            if out or dry_run or resume or runs_only:
                raise RecipeError(
                    "--plan goes with --recipe, --set, --gpu, --vram, --typical and --processes only; it neither "
                    "writes nor runs anything"
                )
            plan.show(recipe, changes or [], vram, gpu, typical, processes or 1)
        elif dry_run:
            if resume or runs_only or of_plan or processes:
                raise RecipeError("--dry-run goes with --recipe, --set and --out only; it tries a new run")
            try_out(dry_run_job.job(recipe, changes or [], out))
        elif of_plan:
            raise RecipeError(
                "--vram, --gpu and --typical go with --plan; to limit a run's memory use --set model.memory_gib=..."
            )
        else:
            changes = with_strategy(changes or [], strategy, evaluate_only=evaluate_only)
            job = train_job.job(
                recipe, changes, out, resume=resume, evaluate_only=evaluate_only, adapter=adapter, pause_at=pause_at
            )
            if solve_one:
                require_solvable(job)
            if is_shared(job, here, processes or 1):
                return
            perform(replace(job, ranks=here))
            if solve_one:
                solve.perform(solve_job.job(job.root, None, [], None, Effort()), [], held_out=True)


app.command(help=score.HELP)(score.score)
app.command(help=grade.HELP, context_settings=grade.SETTINGS)(grade.grade)
app.command(help=study.HELP)(study.study)
app.command(help=solve.HELP)(solve.solve)
app.command(help=serve.HELP)(serve.serve)
app.command(help=export.HELP)(export.export)
app.command(help=view.HELP)(view.view)
app.command(help=compare.HELP)(compare.compare)
app.command(help=doctor.HELP)(doctor.doctor)


def print_checked(recipe: Recipe) -> None:
    """A recipe as TOML, and beside it what in it does nothing."""
    print(formats.recipe_toml(recipe), end="")
    for remark in idle_keys.remarks(recipe, credit_of(recipe)):
        print(f"note: {remark}", file=sys.stderr)


def is_shared(job: train_job.RunJob, here: ranks.Ranks, processes: int) -> bool:
    """Whether the run is done with here, because other processes did it, or this one helped.

    Args:
        here: Which of several processes this is.
        processes: As asked for.

    Raises:
        MotifError: The run cannot be shared, or one of its processes was killed.
        typer.Exit: The run ended with an error, which was told.
    """
    launching.require_shareable(
        job.recipe, max(here.count, processes), trains=not job.evaluate_only, resumes=job.existing
    )
    if here.count == 1:
        if processes > 1 and (code := launching.launch(processes)):
            raise typer.Exit(code)
        return processes > 1
    if processes not in (1, here.count):
        raise RecipeError(f"--processes {processes}, but the launcher has started {here.count}; leave --processes out")
    if not here.is_main:
        replace(job, ranks=here).follow()
    return not here.is_main


def require_run(here: ranks.Ranks, is_other: bool) -> None:
    """Refuse what several processes would each do by themselves.

    Raises:
        RecipeError: A launcher has started several, and no run is asked for.
    """
    if here.count > 1 and is_other:
        raise RecipeError("only runs are shared among processes: start this command without a launcher")


def with_strategy(changes: list[str], strategy: str | None, *, evaluate_only: bool) -> list[str]:
    """The changes, with what ``--strategy`` is short for.

    Raises:
        RecipeError: The run trains.
    """
    if strategy is None:
        return changes
    if not evaluate_only:
        raise RecipeError("--strategy goes with --evaluate-only; to train with it --set rollout.strategy=...")
    return [*changes, f"evaluation.strategies=[{json_text.dumps(strategy)}]"]


def require_solvable(job: train_job.RunJob) -> None:
    """Refuse ``--solve-one`` before a long run where it would fail at the end.

    Raises:
        RecipeError: The run will have no adapter of its own, or its recipe has no held-out problem.
    """
    if job.pause_at < 1:
        raise RecipeError("--solve-one needs a trained adapter, and --pause-at ends before there is one; leave one out")
    if job.evaluate_only and not RunDirectory(job.root).adapter.exists():
        raise RecipeError("--solve-one goes with a run that trains, or that has trained; see run.py solve --held-out")
    if not job.recipe.evaluation.benchmarks:
        raise RecipeError("--solve-one takes a problem from [evaluation.benchmarks], and the recipe has none")


def perform(job: train_job.RunJob) -> None:
    """Run a job on the terminal, and print its results."""
    about = f"{job.recipe.model.name}, seed {job.recipe.seed}, {job.root}"
    with watched(job.name, about, job.how_to_go_on) as (terminal, live):
        job.perform(live)
    tables.print_closing(terminal, job.recipe, RunDirectory(job.root))


def try_out(job: dry_run_job.DryRunJob) -> None:
    """Show what a run would do, on its first problem."""
    from motif_lite.views.dry_run import Screen

    with watched(f"{job.name}, dry run", f"{job.recipe.model.name}, seed {job.recipe.seed}", job.how_to_go_on) as (
        terminal,
        live,
    ):
        job.perform(live, Screen(terminal))


def start() -> None:
    """The program."""
    process.prepare()
    with process.reported():
        app()
