"""The variants of a study against each other: differences, tests, and how soon one is where the other ends."""

from collections.abc import Mapping
from dataclasses import asdict

from motif_lite.evaluation import differences, intervals
from motif_lite.evaluation.intervals import Outcomes
from motif_lite.study.catching_up import Json, catching_up
from motif_lite.study.outcomes import Rights
from motif_lite.study.plan import StudyPlan


def comparisons(plan: StudyPlan, variants: Mapping[str, Json], rights: Rights) -> Json:
    """Every variant against its reference; all tests are one family, which Holm's correction is over."""
    study = plan.study
    end, found = variants[study.reference], {}
    for name in (name for name in study.variants if name != study.reference):
        other = study.compared_with(name)
        own, reference = variants[name], variants[other]
        shared = [seed for seed in own["seeds"] if seed in reference["seeds"]]
        pairs = [(rights[other][seed], rights[name][seed]) for seed in shared]
        gains = [_gain(before, after) for before, after in pairs]
        problems = differences.same_problems(pairs, study.confidence)
        found[name] = {
            "against": other,
            "over_seeds": asdict(differences.over_seeds(gains, study.confidence)),
            "same_problems": asdict(problems) if problems else {},
            "to_the_references_end": to_the_references_end(own, end, study.confidence) if own["trains"] else {},
            "gains": _gains(plan, name, rights),
        }
    correct(found)
    return found


def _gains(plan: StudyPlan, name: str, rights: Rights) -> Json:
    """What a claim about a gain is judged by: the reference's and the variant's own; nothing where it is about none."""
    over = plan.study.variants[name].gain_over
    if over is None:
        return {}
    found: Json = {"over": over}
    shared = [seed for seed in rights[name] if seed in rights[over] and seed in rights[plan.study.reference]]
    for role, which in (("reference", plan.study.reference), ("own", name)):
        gains = [_gain(rights[over][seed], rights[which][seed]) for seed in shared]
        found[role] = asdict(differences.over_seeds(gains, plan.study.confidence))
    return found if len(shared) > 1 else {}


def correct(comparisons: Json) -> None:
    """Give every test of a table its p-value corrected for all of them."""
    tests = [
        test
        for each in comparisons.values()
        for test in (each["over_seeds"], each["same_problems"], each["to_the_references_end"].get("at_half"))
        if test is not None
    ]
    for test, p_value in zip(tests, differences.holm([test.get("p_value") for test in tests]), strict=True):
        test["p_value_holm"] = p_value


def _gain(before: Outcomes, after: Outcomes) -> float:
    """Of one seed, on the problems that both have; where they have none, of what each was measured on."""
    if before.keys() & after.keys():
        before, after = _only(before, after), _only(after, before)
    return intervals.accuracy(after) - intervals.accuracy(before)


def _only(outcomes: Outcomes, others: Outcomes) -> Outcomes:
    return {problem: row for problem, row in outcomes.items() if problem in others}


def to_the_references_end(own: Json, reference: Json, confidence: float) -> Json:
    """As `catching_up`, by the marks of both."""
    marks, goals = ({seed: each["marks"] for seed, each in of["seeds"].items()} for of in (own, reference))
    return catching_up(marks, goals, _validation_problems(reference), confidence)


def _validation_problems(variant: Json) -> int:
    """The same number on every seed; 0 where nothing was measured along the way."""
    return min((each["validation_problems"] for each in variant["seeds"].values()), default=0)
