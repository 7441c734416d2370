"""What the runs of a study got right, problem by problem, as comparisons take it."""

from collections.abc import Collection, Mapping

from motif_lite.evaluation.intervals import Outcomes
from motif_lite.runs.records import GradedReply
from motif_lite.study import finished
from motif_lite.study.plan import Run, StudyPlan
from motif_lite.study.votes import Votes, votes

Runs = Mapping[str, Mapping[int, Run]]
"""By variant and seed."""

Rights = Mapping[str, Mapping[str, Outcomes]]
"""By variant and seed, what was right."""


def rights(plan: StudyPlan, runs: Runs) -> Rights:
    """Of all runs."""
    return {name: {str(seed): _outcomes(plan, run, runs) for seed, run in runs[name].items()} for name in runs}


def _outcomes(plan: StudyPlan, run: Run, runs: Runs) -> Outcomes:
    """By problem, whether each sample was right, or the vote."""
    if counted := votes_of(plan, run, runs):
        return counted.outcomes
    return {problem: [each.correct for each in samples] for problem, samples in _by_problem(plan, run).items()}


def _by_problem(plan: StudyPlan, run: Run) -> dict[str, list[GradedReply]]:
    """The samples of each problem; the question is in the key, for other data may have the same ids.

    But for twins: those of one problem that seeds have with other numbers are one problem, as hard as it is.
    """
    are_twins = run.resolved().evaluation.benchmarks[plan.study.benchmark].twins == "instead"
    found: dict[str, list[GradedReply]] = {}
    for each in finished.graded(plan, run):
        found.setdefault(each.problem if are_twins else f"{each.problem}\n{each.question}", []).append(each)
    return found


def have_the_same_problems(by_seed: Collection[Outcomes]) -> bool:
    """Whether all seeds are measured on the same ones, so that seeds do not say what others would bring."""
    return len(by_seed) > 1 and len({frozenset(outcomes) for outcomes in by_seed}) == 1


def votes_of(plan: StudyPlan, run: Run, runs: Runs) -> Votes | None:
    """A run's votes; None where its variant has none."""
    if not plan.study.variants[run.variant].vote:
        return None
    reference = finished.result(plan, runs[plan.study.reference][run.seed])
    return votes(finished.result(plan, run), _by_problem(plan, run), reference)
