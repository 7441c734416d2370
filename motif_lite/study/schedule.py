"""Which runs of a study are left, and which of them can be performed now."""

from collections.abc import Iterator

from motif_lite.study import tuning
from motif_lite.study.finished import is_done
from motif_lite.study.plan import Run, StudyPlan


def missing(plan: StudyPlan) -> Iterator[Run]:
    """The runs that are not done and can be: those that count wait until their variant's value is picked."""
    study = plan.study
    for variant in study.variants:
        yield from (run for runs in tuning.rungs(plan, variant) for run in runs if not is_done(plan, run))
    for seed in study.seeds:  # all variants on one seed, then the next: what there is can be compared early
        for variant in study.variants:
            if (run := known_run(plan, variant, seed)) and not is_done(plan, run):
                yield run


def num_left(plan: StudyPlan) -> int:
    """Runs that are not done, those included that wait for others."""
    left = 0
    for variant in plan.study.variants:
        left += plan.num_tuning_runs(variant) - tuning.num_done(plan, variant)
        known = [known_run(plan, variant, seed) for seed in plan.study.seeds]
        left += sum(run is None or not is_done(plan, run) for run in known)
    return left


def known_run(plan: StudyPlan, variant: str, seed: int) -> Run | None:
    """The run that counts; None while its variant's value is not picked."""
    if not tuning.is_picked(plan, variant):
        return None
    return plan.final_run(variant, seed, tuning.picked(plan, variant))
