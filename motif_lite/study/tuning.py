"""Which value of the tuned key each variant picks.

All values are compared at equal shares of the same budget. With successive halving (Jamieson and Talwalkar, arXiv
1502.07943) the worse half is dropped at each rung, and the rest go on from their checkpoints. A value whose run is
given up, because its gradients are no numbers any more, is worse than all others of its rung.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import fmean

from motif_lite.errors import StudyError
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.giving_up import is_given_up
from motif_lite.study.file import Value
from motif_lite.study.finished import accuracy, is_done
from motif_lite.study.plan import Run, StudyPlan


@dataclass(frozen=True, slots=True)
class Candidate:
    """A value that was tried.

    Attributes:
        accuracy: On validation problems, the mean over the tuning seeds; None where a run of it has failed.
        share: Of the budget, after which that was measured.
    """

    value: Value
    accuracy: float | None
    share: float

    @property
    def worth(self) -> float:
        """What it is compared by."""
        return -1.0 if self.accuracy is None else self.accuracy


@dataclass(frozen=True, slots=True)
class Cost:
    """What the tuning of a variant took.

    Attributes:
        generated: Tokens, by all its runs.
        saved: What they would have generated besides if all had gone on to the end, at the rate so far; 0 until a value
            is picked, as a run may still go on.
        training_seconds: Of all its runs, with what prepared them.
        validation_seconds: Of their marks.
    """

    generated: int
    saved: int
    training_seconds: float
    validation_seconds: float


def rungs(plan: StudyPlan, variant: str) -> Iterator[list[Run]]:
    """The runs of each rung: all values, then those that are left. The next rung is known once one is done."""
    tune = plan.study.tune
    if tune is None or not plan.is_tuned(variant):
        return
    left = list(tune.values)
    for rung in tune.rungs:
        left = left[: rung.num_values]
        runs = [replace(run, share=rung.share) for run in plan.tuning_runs(variant) if run.candidate in left]
        yield runs
        if not all(is_done(plan, run) for run in runs):
            return
        left = [each.value for each in sorted(_judged(runs), key=lambda each: -each.worth)]


def candidates(plan: StudyPlan, variant: str) -> list[Candidate]:
    """Each value as it stood at its last rung that is done, in the order of the study."""
    found: dict[Value, Candidate] = {}
    for runs in rungs(plan, variant):
        if all(is_done(plan, run) for run in runs):
            found |= {each.value: each for each in _judged(runs)}
    return list(found.values())


def picked(plan: StudyPlan, variant: str) -> Value | None:
    """The most accurate value of the last rung, of equals the first; None if nothing is tuned.

    Raises:
        StudyError: All values of that rung have failed.
    """
    tune, last = plan.study.tune, list(rungs(plan, variant))[-1:]
    if tune is None or not last:
        return None
    best = max(_judged(last[0]), key=lambda each: each.worth)
    if best.accuracy is None:
        failed = ", ".join(str(each.value) for each in _judged(last[0]))
        raise StudyError(
            f"{variant}: no value of {tune.key} can be picked: the gradients of all that were left ({failed}) were not "
            f"numbers any more. Take these out of tune.values or add others, such as lower learning rates, or set "
            f"model.dtype = 'float32'; then repeat the command (what has run is in {last[0][0].root.parents[1]})"
        )
    return best.value


def is_picked(plan: StudyPlan, variant: str) -> bool:
    """Whether all that the choice of a value waits for is done."""
    return num_done(plan, variant) == plan.num_tuning_runs(variant)


def num_done(plan: StudyPlan, variant: str) -> int:
    """Tuning runs that are done; one that goes on after a rung counts once for each."""
    return sum(is_done(plan, run) for runs in rungs(plan, variant) for run in runs)


def cost(plan: StudyPlan, variant: str) -> Cost:
    """What the tuning of a variant took so far, and saved."""
    generated = saved = training_seconds = validation_seconds = 0.0
    nothing_goes_on = is_picked(plan, variant)
    for run in plan.tuning_runs(variant):
        directory = RunDirectory(run.root)
        spent, metrics = directory.spent(), directory.metrics()
        generated += spent.tokens
        training_seconds += spent.seconds
        validation_seconds += sum(mark.evaluation_seconds for mark in directory.marks())
        if nothing_goes_on and metrics and metrics[-1].share_done and not is_given_up(metrics):
            steps = spent.tokens - spent.preparing.generated_tokens
            saved += steps / metrics[-1].share_done - steps
    return Cost(round(generated), round(saved), training_seconds, validation_seconds)


def _judged(runs: list[Run]) -> list[Candidate]:
    """The values of a rung that is done, in the order of the study."""
    by_value: dict[Value, list[Run]] = {}
    for run in runs:
        assert run.candidate is not None
        by_value.setdefault(run.candidate, []).append(run)
    return [Candidate(value, _mean_accuracy(those), those[0].share) for value, those in by_value.items()]


def _mean_accuracy(runs: list[Run]) -> float | None:
    known = [found for run in runs if (found := accuracy(run)) is not None]
    return fmean(known) if len(known) == len(runs) else None
