"""The results of a study, read from the directories of its runs, for JSON, tables and plots.

`results` depends on what was computed alone, so it is the same on every machine and after every interruption; `costs`
is what depends on the clock and on the machine. Both can be made of a study that is not finished.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from statistics import fmean
from typing import Any

from motif_lite import __version__
from motif_lite.evaluation import intervals
from motif_lite.evaluation.intervals import Outcomes
from motif_lite.runs import accounting
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.records import StepMetrics
from motif_lite.study import curves
from motif_lite.study import runs as study_runs
from motif_lite.study.curves import Curve
from motif_lite.study.plan import Run, StudyPlan

Json = dict[str, Any]
"""A table of table.json or of cost.json, which are written for people and other programs, and not read again."""

_PACKAGES = ("torch", "transformers", "trl", "peft", "unsloth")
"""Those whose version may change a figure, where they are installed."""

HALF = 0.5
"""The share of the reference's cost at which a variant is held against the reference's end."""


def results(plan: StudyPlan) -> Json:
    """All that does not depend on the clock; the content of table.json."""
    study, runs = plan.study, finished_runs(plan)
    variants = {variant: _variant(plan, variant, runs[variant]) for variant in study.variants}
    return {
        "study": f"{plan.path.resolve().parent.name}/{plan.path.name}",
        **study.model_dump(
            include={"title", "question", "caveat", "reference", "benchmark", "decoding", "confidence", "seeds"}
        ),
        "num_runs_done": plan.num_runs - study_runs.num_left(plan),
        "num_runs": plan.num_runs,
        "set": study.set,
        "sources": _sources(plan),
        "versions": {"motif_lite": __version__} | _versions(),
        "variants": variants,
        "comparisons": _comparisons(plan, variants, runs),
    }


def costs(plan: StudyPlan) -> Json:
    """Seconds and memory; the content of cost.json."""
    runs = finished_runs(plan)
    variants = {variant: _cost(plan, variant, runs[variant]) for variant in plan.study.variants}
    reference = {seed: seed_cost["marks"] for seed, seed_cost in variants[plan.study.reference]["seeds"].items()}
    for variant in variants.values():
        own = {seed: seed_cost["marks"] for seed, seed_cost in variant["seeds"].items()}
        variant["to_the_references_end"] = catching_up(own, reference, plan.study.confidence)
    return {"title": plan.study.title, "reference": plan.study.reference, "variants": variants}


def finished_runs(plan: StudyPlan) -> dict[str, dict[int, Run]]:
    """The runs that count and are done, by variant and seed."""
    known = {
        variant: {seed: study_runs.known_run(plan, variant, seed) for seed in plan.study.seeds}
        for variant in plan.study.variants
    }
    return {
        variant: {seed: run for seed, run in by_seed.items() if run and study_runs.is_done(plan, run)}
        for variant, by_seed in known.items()
    }


def catching_up(own: Mapping[Any, Curve], reference: Mapping[Any, Curve], confidence: float) -> Json:
    """How soon a variant is where the reference ends, on validation problems.

    Args:
        own: The variant's curves by seed, in tokens or seconds.
        reference: The reference's.
        confidence: Coverage of the interval.

    Returns:
        ``at_half``: accuracy at half of what the reference spends less the reference's at its end, each seed with its
        own reference, over seeds (`intervals.over_seeds`). ``share``: of the reference's mean cost, what it takes the
        variant's mean curve to be where the reference's mean curve ends; None if it never is. Nothing without curves.
    """
    seeds = [seed for seed in own if own[seed] and reference.get(seed)]
    if not seeds:
        return {}
    ends = {seed: reference[seed][-1] for seed in seeds}
    gains = [curves.at(own[seed], HALF * ends[seed][0]) - ends[seed][1] for seed in seeds]
    goal, whole = (fmean(end[place] for end in ends.values()) for place in (1, 0))
    reached = curves.first_reach(curves.mean([own[seed] for seed in seeds]), goal)
    return {
        "at_half": intervals.over_seeds(gains, confidence),
        "share": None if reached is None or not whole else reached / whole,
        "goal": goal,
    }


def _variant(plan: StudyPlan, name: str, runs: Mapping[int, Run]) -> Json:
    variant, tune = plan.study.variants[name], plan.study.tune
    seeds = {str(seed): _seed(plan, run) for seed, run in runs.items()}
    found: Json = {
        "label": variant.label or name,
        "recipe": plan.recipe_of(name).name,
        "set": variant.set,
        "trains": variant.train,
        "strategy": plan.strategies[name],
        "tuned": None,
        "accuracy": intervals.over_seeds([seed["accuracy"] for seed in seeds.values()], plan.study.confidence),
        "means": {
            key: _mean([seed[key] for seed in seeds.values()])
            for key in ("tokens", "trained_tokens", "steps", "answer_tokens")
        },
        "curve": curves.mean(marked) if (marked := [seed["marks"] for seed in seeds.values() if seed["marks"]]) else [],
        "seeds": seeds,
    }
    del found["accuracy"]["p_value"]  # of the accuracy's being zero, which nobody asks
    if tune and plan.is_tuned(name) and study_runs.is_picked(plan, name):
        tried = study_runs.candidates(plan, name)
        found["tuned"] = {
            "key": tune.key,
            "value": study_runs.picked(plan, name),
            "seeds": tune.seeds,
            "candidates": [{"value": value, "accuracy": accuracy} for value, accuracy in tried],
        }
    return found


def _seed(plan: StudyPlan, run: Run) -> Json:
    """One run: what it reached, and at what cost in tokens."""
    found, metrics = study_runs.result(plan, run), RunDirectory(run.root).metrics()
    cost = accounting.of_training(metrics)
    return {
        **{key: getattr(found, key) for key in ("accuracy", "interval", "num_problems", "num_samples", "num_correct")},
        "answer_tokens": found.generated_tokens / found.num_samples,
        "steps": metrics[-1].step if metrics else 0,
        "prompts": {phase: each.prompts for phase, each in cost.items() if phase in _asked(metrics)},
        "tokens": accounting.total(cost).generated_tokens,
        "trained_tokens": None if any(step.trained_tokens is None for step in metrics)
        else accounting.total(cost).trained_tokens,
        "marks": [[mark.tokens, mark.accuracy] for mark in study_runs.validation(run)],
    }  # fmt: skip


def _cost(plan: StudyPlan, name: str, runs: Mapping[int, Run]) -> Json:
    seeds = {str(seed): _seed_cost(plan, run) for seed, run in runs.items()}
    peaks = [seed["peak_memory_bytes"] for seed in seeds.values()]
    return {
        "label": plan.study.variants[name].label or name,
        "means": {
            key: _mean([seed[key] for seed in seeds.values()])
            for key in ("training_seconds", "tokens_per_second", "evaluation_seconds")
        },
        "peak_memory_bytes": {phase: max(peak.get(phase, 0) for peak in peaks) for peak in peaks for phase in peak},
        "seeds": seeds,
    }


def _seed_cost(plan: StudyPlan, run: Run) -> Json:
    marks, cost = study_runs.validation(run), accounting.of_training(RunDirectory(run.root).metrics())
    seconds = {phase: each.seconds for phase, each in cost.items() if each.seconds}
    training = marks[-1].seconds if marks else sum(seconds.values())
    return {
        "seconds": seconds,
        "training_seconds": training,
        "tokens_per_second": accounting.total(cost).generated_tokens / training if training else None,
        "evaluation_seconds": study_runs.result(plan, run).seconds,
        "peak_memory_bytes": {p: each.peak_memory_bytes for p, each in cost.items() if each.peak_memory_bytes},
        "marks": [[mark.seconds, mark.accuracy] for mark in marks],
    }


def _comparisons(plan: StudyPlan, variants: Mapping[str, Json], runs: Mapping[str, Mapping[int, Run]]) -> Json:
    """Every other variant against the reference, with Holm's correction over all of them."""
    study = plan.study
    others = [name for name in study.variants if name != study.reference]
    outcomes = {name: {str(seed): _outcomes(plan, run) for seed, run in runs[name].items()} for name in runs}
    reference, found = variants[study.reference]["seeds"], {}
    for name in others:
        own = variants[name]["seeds"]
        shared = [seed for seed in own if seed in reference]
        gains = [own[seed]["accuracy"] - reference[seed]["accuracy"] for seed in shared]
        pairs = [(outcomes[study.reference][seed], outcomes[name][seed]) for seed in shared]
        marks, goal = ({seed: of[seed]["marks"] for seed in of} for of in (own, reference))
        found[name] = {
            "over_seeds": intervals.over_seeds(gains, study.confidence),
            "same_problems": intervals.stratified_difference(pairs, study.confidence),
            "to_the_references_end": catching_up(marks, goal, study.confidence) if variants[name]["trains"] else {},
        }
    halves = [each["to_the_references_end"]["at_half"] for each in found.values() if each["to_the_references_end"]]
    for tests in (halves, *([each[test] for each in found.values()] for test in ("over_seeds", "same_problems"))):
        corrected = intervals.holm([test.get("p_value") for test in tests])
        for test, p_value in zip(tests, corrected, strict=True):
            test["p_value_holm"] = p_value
    return found


def _outcomes(plan: StudyPlan, run: Run) -> Outcomes:
    """By problem, whether each sample was right; the question is in the key, for other data may have the same ids."""
    outcomes: dict[str, list[bool]] = {}
    for each in study_runs.graded(plan, run):
        outcomes.setdefault(f"{each.problem}\n{each.question}", []).append(each.correct)
    return outcomes


def _sources(plan: StudyPlan) -> Json:
    """Where problems come from, by what they are used for, as the reference's recipe has it."""
    study = plan.study
    value = study.tune.values[0] if study.tune and plan.is_tuned(study.reference) else None
    recipe = plan.final_run(study.reference, study.seeds[0], value).resolved()
    evaluation = recipe.evaluation
    validation = evaluation.validation
    return {
        "train": recipe.data.as_source().model_dump(exclude_none=True),
        "validation": validation.model_dump(exclude_none=True) if validation else None,
        "test": evaluation.benchmarks[study.benchmark].model_dump(exclude_none=True),
        "samples_per_problem": evaluation.num_samples if study.decoding == "sampled" else 1,
        "temperature": evaluation.temperature if study.decoding == "sampled" else 0.0,
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _asked(metrics: Sequence[StepMetrics]) -> set[str]:
    """Phases that have prompts."""
    return {phase for step in metrics for phase in step.prompts}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None
