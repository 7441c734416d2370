"""What a run leaves for people at its end: its report, the page of its rollouts, and what it took."""

from motif_lite.errors import RunError
from motif_lite.observer import Observer
from motif_lite.recipe.schema import Recipe
from motif_lite.runs import accounting
from motif_lite.runs.directory import RunDirectory

_LARGEST_ROLLOUTS = 50_000_000
"""Bytes of rollouts.jsonl that still become a page by themselves: some seconds, and half as many bytes."""


def report(recipe: Recipe, run: RunDirectory, observer: Observer) -> None:
    """Write all of it; report.html comes last, so a run that has it lacks nothing."""
    from motif_lite.evaluation import audit
    from motif_lite.views import report as report_page

    observer.phase("reporting")
    run.write_accounting(accounting.of(run))
    if recipe.evaluation.audit:
        observer.phase("reporting", "audit")
        audit.write(run, audit.of(recipe, run, observer.advance))
    _show_rollouts(recipe, run, observer)
    report_page.write(recipe, run)


def _show_rollouts(recipe: Recipe, run: RunDirectory, observer: Observer) -> None:
    """Write the page of all rollouts, unless it would be large. What goes wrong with it costs the run nothing."""
    from motif_lite.views.explorer import page

    rollouts, file = run.root / "rollouts.jsonl", run.root / page.PAGE
    if not rollouts.exists():
        return
    try:
        file.unlink(missing_ok=True)  # it may show fewer steps
        if rollouts.stat().st_size <= _LARGEST_ROLLOUTS:
            page.write(recipe, run, file, observer.advance)
        else:
            observer.note(f"to see the rollouts: python run.py view {run.root}")
    except (OSError, RunError) as error:
        observer.note(f"note: {page.PAGE} was not written: {error}")
