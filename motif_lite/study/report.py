"""The files of a study: table.md, table.json and plot.svg; separately, those that depend on the clock.

For each further benchmark there is a table-NAME.md.

table.md, table.json and plot.svg are the same bytes whenever they are made of the same runs: they hold no time, no
date and no path. cost.md, cost.json and seconds.svg hold the seconds and the memory.
"""

import json
from dataclasses import replace
from pathlib import Path

from motif_lite import locks
from motif_lite.errors import StudyError
from motif_lite.runs.files import write_whole
from motif_lite.study import plot as study_plot
from motif_lite.study import results as study_results
from motif_lite.study import table as study_table
from motif_lite.study.catching_up import Json
from motif_lite.study.plan import StudyPlan

TABLE, PLOT = "table.md", "plot.svg"


def write(plan: StudyPlan) -> Json:
    """Make all results again from the finished runs.

    Returns:
        The content of table.json.

    Raises:
        StudyError: They cannot be written.
    """
    try:
        plan.out.mkdir(parents=True, exist_ok=True)
        with locks.taken(plan.out / "lock", wait=True):  # another process may be at the same study, and just here, too
            found, cost = study_results.results(plan), study_results.costs(plan)
            _write(plan.out, found, cost)
            for benchmark in plan.study.also:
                other = replace(plan, study=plan.study.model_copy(update={"benchmark": benchmark}))
                write_whole(plan.out / f"table-{benchmark}.md", [study_table.table(study_results.results(other))])
    except OSError as error:
        where = error.filename or plan.out
        raise StudyError(
            f"{where}: cannot be written ({error.strerror}); free some space, or choose another --out"
        ) from None
    return found


def _write(out: Path, found: Json, cost: Json) -> None:
    pages = {
        "table.json": json.dumps(found, indent=1) + "\n",
        "cost.json": json.dumps(cost, indent=1) + "\n",
        PLOT: study_plot.by_tokens(found),
        "seconds.svg": study_plot.by_seconds(found, cost),
        "cost.md": study_table.cost_table(cost),
        TABLE: study_table.table(found),
    }
    for name, page in pages.items():
        write_whole(out / name, [page])
