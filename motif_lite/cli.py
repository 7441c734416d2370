"""motif_lite on the command line: arguments to one call, errors to exit codes.

`main` is the command without a name, a recipe's run; the other commands follow it.

Exit codes: 0: done. 2: an error that the user can fix, explained in one message. 130: interrupted; can be resumed.
"""

import json as json_text
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from motif_lite import process
from motif_lite.commands import export, serve, solve, view
from motif_lite.commands.terminal import exit_codes, watched
from motif_lite.errors import DataError, RecipeError
from motif_lite.evaluation.verdicts import verdict
from motif_lite.jobs import checking, dry_run_job, grade_job, score_job, solve_job, train_job
from motif_lite.runs.directory import RunDirectory
from motif_lite.solving.solver import Effort
from motif_lite.views import formats, plan_table, tables, verdicts
from motif_lite.views.live import RunConsole

if TYPE_CHECKING:
    from motif_lite.study.plan import StudyPlan

app = typer.Typer(
    subcommand_metavar="[COMMAND ...]", add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
)

RecipeFile = Annotated[
    Path | None, typer.Option("--recipe", metavar="FILE", help="The recipe to run, e.g. recipes/tiny_cpu.toml.")
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe; VALUE is TOML. Repeatable."),
]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="The run directory; by default runs/NAME-OF-RECIPE.")
]
Check = Annotated[bool, typer.Option("--check", help="Validate the recipe, print it with every default, and stop.")]
Plan = Annotated[
    bool, typer.Option("--plan", help="Estimate memory and time of a step, and whether it fits; no download.")
]
Vram = Annotated[
    float | None,
    typer.Option("--vram", metavar="GIB", help="With --plan: for a GPU of this size."),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Load everything, show the first problem's prompts, replies and one step, and keep nothing."
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in --out, or the recipe's newest run.")]
EvaluateOnly = Annotated[
    bool, typer.Option("--evaluate-only", help="Only evaluate: the run in --out, or the recipe's base model.")
]
AdapterName = Annotated[
    str | None,
    typer.Option("--adapter", metavar="DIR", help="With --evaluate-only: this adapter, a folder or a hub name."),
]
StrategyName = Annotated[
    str | None,
    typer.Option("--strategy", metavar="NAME", help="With --evaluate-only: with this strategy alone."),
]
SolveOne = Annotated[
    bool, typer.Option("--solve-one", help="At the end of the run solve one held-out problem, and show its rounds.")
]
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
Adapter = Annotated[
    str | None,
    typer.Option("--adapter", metavar="DIR", help="Score with this adapter: a folder or a hub name."),
]
Json = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write the scores to this file.")]

Gold = Annotated[str | None, typer.Argument(metavar="GOLD", help="The right answer, without a box.")]
GradedText = Annotated[
    str | None, typer.Argument(metavar="REPLY", help="A whole reply; - reads it from standard input.")
]
Pairs = Annotated[
    Path | None,
    typer.Option("--pairs", metavar="FILE", help="Grade JSON lines with gold and reply; print one for each."),
]

StudyFile = Annotated[Path, typer.Argument(metavar="FILE", help="The study, e.g. studies/tiny_credit.toml.")]
StudyOut = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Folder for runs and results; by default next to FILE."),
]
StudyCheck = Annotated[
    bool, typer.Option("--check", help="Validate the study with all its recipes, print its runs, and stop.")
]


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
    plan: Plan = False,
    vram: Vram = None,
    dry_run: DryRun = False,
    resume: Resume = False,
    evaluate_only: EvaluateOnly = False,
    adapter: AdapterName = None,
    strategy: StrategyName = None,
    solve_one: SolveOne = False,
) -> None:
    """Do what the options ask for, unless a command was named."""
    runs_only = evaluate_only or solve_one or adapter is not None or strategy is not None
    with exit_codes():
        if context.invoked_subcommand:
            if any(context.params.values()):
                name = context.invoked_subcommand
                raise RecipeError(f"options of {name} go after its name: python run.py {name} ...")
        elif check:
            if out or plan or vram is not None or dry_run or resume or runs_only:
                raise RecipeError("--check goes with --recipe and --set only; it neither loads nor runs anything")
            print(formats.recipe_toml(checking.check(recipe, changes or [])), end="")
        elif plan:
            if out or dry_run or resume or runs_only:
                raise RecipeError(
                    "--plan goes with --recipe, --set and --vram only; it neither writes nor runs anything"
                )
            found = checking.memory_plan(recipe, changes or [], vram)
            plan_table.print_plan(Console(highlight=False), found)
            if not found.fits:
                raise RecipeError(f"{recipe}: {found.shortage}; {found.remedy}")
        elif dry_run:
            if resume or runs_only or vram is not None:
                raise RecipeError("--dry-run goes with --recipe, --set and --out only; it tries a new run")
            try_out(dry_run_job.job(recipe, changes or [], out))
        elif vram is not None:
            raise RecipeError("--vram goes with --plan; to limit a run's memory use --set model.memory_gib=...")
        else:
            if strategy is not None and not evaluate_only:
                raise RecipeError("--strategy goes with --evaluate-only; to train with it --set rollout.strategy=...")
            changes = [
                *(changes or []),
                *([f"evaluation.strategies=[{json_text.dumps(strategy)}]"] if strategy else []),
            ]
            job = train_job.job(recipe, changes, out, resume=resume, evaluate_only=evaluate_only, adapter=adapter)
            if solve_one:
                require_solvable(job)
            perform(job)
            if solve_one:
                solve.perform(solve_job.job(job.root, None, [], None, Effort()), [], held_out=True)


@app.command(help="Score hand-written openings by their futures, as training would.")
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


@app.command(
    help="Grade a reply, or a file of them, as training would: the verdict and the rule that decided.",
    context_settings={"ignore_unknown_options": True},  # answers may begin with a minus
)
def grade(gold: Gold = None, reply: GradedText = None, pairs: Pairs = None) -> None:
    """Print verdicts; the exit code does not depend on them."""
    with exit_codes():
        if gold is not None and re.match("--[a-z]", gold):
            raise RecipeError(f"grade has no option {gold}; its one option is --pairs FILE")
        if pairs is not None and gold is None:
            grade_file(pairs)
        elif pairs is None and gold is not None and reply is not None:
            terminal = Console(file=sys.stdout, highlight=False)
            found = verdict(gold, sys.stdin.read() if reply == "-" else reply)
            for line in verdicts.lines(found, terminal.width):
                formats.print_text(terminal, line)
        else:
            raise DataError("grade takes either GOLD and REPLY, or --pairs FILE; put answers in single quotes")


@app.command("study", help="Compare variants over seeds: runs, tables, figures. Repeat it to continue.")
def study_command(file: StudyFile, out: StudyOut = None, check: StudyCheck = False) -> None:
    """Validate a study and run it to the end."""
    from motif_lite.study.live import print_plan
    from motif_lite.study.plan import load

    with exit_codes():
        plan = load(file, out)
        if check:
            print_plan(Console(highlight=False), plan)
        else:
            perform_study(plan)


app.command(help=solve.HELP)(solve.solve)
app.command(help=serve.HELP)(serve.serve)
app.command(help=export.HELP)(export.export)
app.command(help=view.HELP)(view.view)


def grade_file(path: Path) -> None:
    """Grade a file of replies; progress goes to the standard error stream, so that the verdicts may go to a file."""
    pairs = grade_job.read(path)
    progress = Console(file=sys.stderr, highlight=False)
    with RunConsole(progress, "grade", str(path)) as live:
        live.phase("grading", f"{len(pairs)} replies")
        found = grade_job.graded(pairs, live.advance)
    for pair, each in zip(pairs, found, strict=True):
        print(grade_job.as_json(pair, each))
    formats.print_text(progress, grade_job.summary(found))


def perform_study(plan: "StudyPlan") -> None:
    """Run a study on the terminal; it continues when the terminal is closed."""
    from motif_lite.study import report as study_report
    from motif_lite.study import runs as study_runs
    from motif_lite.study.live import StudyConsole, print_closing

    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    terminal = Console(file=sys.stdout, highlight=False)
    try:
        with StudyConsole(terminal, plan.study.title, str(plan.out)) as live:
            study_runs.perform(plan, study_runs.THIS_PROGRAM, live, lambda: study_report.write(plan))
    except KeyboardInterrupt:
        formats.print_text(
            Console(stderr=True, highlight=False), "to continue, repeat the command; finished runs are kept"
        )
        raise
    print_closing(terminal, plan, study_report.write(plan))


def require_solvable(job: train_job.RunJob) -> None:
    """Refuse ``--solve-one`` before a long run where it would fail at the end.

    Raises:
        RecipeError: The run will have no adapter of its own, or its recipe has no held-out problem.
    """
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
    app()
