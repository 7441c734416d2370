"""The results of a study, read from the directories of its runs, for JSON, tables and plots.

`results` depends on what was computed alone, so it is the same on every machine and after every interruption; `costs`
is what depends on the clock and on the machine. Both can be made of a study that is not finished.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from statistics import fmean

from motif_lite.evaluation import differences, intervals, memorisation
from motif_lite.evaluation.best_mark import best_mark
from motif_lite.evaluation.intervals import Outcomes
from motif_lite.runs import accounting, software
from motif_lite.runs.costs import total
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.records import StepMetrics
from motif_lite.study import curves, finished, schedule, tuning
from motif_lite.study.catching_up import Json
from motif_lite.study.comparisons import comparisons, to_the_references_end
from motif_lite.study.outcomes import Rights, Runs, have_the_same_problems, rights, votes_of
from motif_lite.study.plan import Run, StudyPlan


def results(plan: StudyPlan) -> Json:
    """All that does not depend on the clock; the content of table.json."""
    study, runs, files = plan.study, finished_runs(plan), (plan.path, plan.recipe)
    right = rights(plan, runs)
    variants = {variant: _variant(plan, variant, runs, right) for variant in study.variants}
    return {
        "study": " --recipe ".join(f"{path.resolve().parent.name}/{path.name}" for path in filter(None, files)),
        **study.model_dump(
            include={"title", "question", "caveat", "reference", "benchmark", "decoding", "confidence", "seeds"}
        ),
        "num_runs_done": plan.num_runs - schedule.num_left(plan),
        "num_runs": plan.num_runs,
        "set": study.set,
        "sources": _sources(plan),
        "software": _software(run for by_seed in runs.values() for run in by_seed.values()),
        "variants": variants,
        "left_out": {name: each._asdict() for name, each in plan.left_out.items()},
        "past_its_best": _past_its_best(runs[study.reference], study.confidence),
        "all_seeds_have_the_same_problems": have_the_same_problems(right[study.reference].values()),
        "comparisons": comparisons(plan, variants, right),
    }


def costs(plan: StudyPlan) -> Json:
    """Seconds and memory; the content of cost.json."""
    runs = finished_runs(plan)
    variants = {variant: _cost(plan, variant, runs[variant]) for variant in plan.study.variants}
    reference = variants[plan.study.reference]
    for variant in variants.values():
        variant["to_the_references_end"] = to_the_references_end(variant, reference, plan.study.confidence)
    return {"title": plan.study.title, "reference": plan.study.reference, "tuning": _halved(plan), "variants": variants}


def _halved(plan: StudyPlan) -> Json:
    """By variant, what tuning took, and the tokens that halving saved; nothing where no value was dropped early."""
    if plan.study.tune is None or plan.study.tune.halve_at is None:
        return {}
    return {name: asdict(tuning.cost(plan, name)) for name in plan.study.variants if tuning.num_done(plan, name)}


def finished_runs(plan: StudyPlan) -> dict[str, dict[int, Run]]:
    """The runs that count and are done, by variant and seed."""
    known = {
        variant: {seed: schedule.known_run(plan, variant, seed) for seed in plan.study.seeds}
        for variant in plan.study.variants
    }
    done = {
        variant: {seed: run for seed, run in by_seed.items() if run and finished.is_done(plan, run)}
        for variant, by_seed in known.items()
    }
    reference = done[plan.study.reference]  # which tells how many samples vote
    return {
        variant: {seed: run for seed, run in runs.items() if seed in reference or not plan.study.variants[variant].vote}
        for variant, runs in done.items()
    }


def _variant(plan: StudyPlan, name: str, runs: Runs, right: Rights) -> Json:
    variant, tune = plan.study.variants[name], plan.study.tune
    seeds = {str(seed): _seed(plan, run, runs, right[name][str(seed)]) for seed, run in runs[name].items()}
    found: Json = {
        "label": variant.label or name,
        "recipe": plan.recipe_of(name).name,
        "set": variant.set,
        "times_tokens": variant.times_tokens,
        "trains": variant.train,
        "strategy": plan.strategies[name],
        "claim": variant.claim,
        "memorisation": list(filter(None, (_memorisation(plan, run) for run in runs[name].values()))),
        "tuned": None,
        "accuracy": asdict(
            differences.accuracy_over_seeds([seed["accuracy"] for seed in seeds.values()], plan.study.confidence)
        ),
        "means": {
            key: _mean([seed[key] for seed in seeds.values()])
            for key in ("tokens", "trained_tokens", "steps", "answer_tokens")
        },
        "curve": curves.mean(marked) if (marked := [seed["marks"] for seed in seeds.values() if seed["marks"]]) else [],
        "seeds": seeds,
    }
    del found["accuracy"]["p_value"]  # which an accuracy has none of
    if tune and plan.is_tuned(name) and tuning.is_picked(plan, name):
        tried = tuning.candidates(plan, name)
        found["tuned"] = {
            "key": tune.key,
            "value": tuning.picked(plan, name),
            "seeds": tune.seeds,
            "candidates": [asdict(candidate) for candidate in tried],
        }
    return found


def _seed(plan: StudyPlan, run: Run, runs: Runs, outcomes: Outcomes) -> Json:
    """One run: what it reached, and at what cost in tokens."""
    counted = votes_of(plan, run, runs)
    voted: Json = {}
    if counted is not None:
        voted = {
            "accuracy": intervals.accuracy(counted.outcomes),
            "num_samples": len(counted.outcomes), "num_correct": sum(right for [right] in counted.outcomes.values()),
            "answer_tokens": counted.tokens, "votes": counted.size, "votes_wanted": counted.wanted,
        }  # fmt: skip
    found, directory = finished.result(plan, run), RunDirectory(run.root)
    metrics = directory.metrics()
    cost, marks = accounting.of_training(metrics, directory.preparing), finished.validation(run)
    return {
        "accuracy": found.accuracy,
        "interval": list(intervals.interval(outcomes, plan.study.confidence)),
        **{key: getattr(found, key) for key in ("num_problems", "num_samples", "num_correct")},
        "answer_tokens": found.generated_tokens / found.num_samples,
        "steps": metrics[-1].step if metrics else 0,
        "prompts": {phase: each.prompts for phase, each in cost.items() if phase in _asked(metrics)},
        "tokens": directory.spent().tokens,
        "trained_tokens": None if any(step.trained_tokens is None for step in metrics)
        else total(cost).trained_tokens,
        "marks": [[mark.tokens, mark.accuracy] for mark in marks],
        "validation_problems": marks[-1].num_problems if marks else 0,
    } | voted  # fmt: skip


def _memorisation(plan: StudyPlan, run: Run) -> Json | None:
    """What a run's model gave away of the benchmark; None where it was not probed."""
    recipe, benchmark = run.resolved(), plan.study.benchmark
    found = (each for each in memorisation.kept_of(recipe, RunDirectory(run.root)) if each.benchmark == benchmark)
    kept = next(found, None)
    return None if kept is None else {"share": recipe.evaluation.memorisation, **kept.model_dump()}


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
    marks, directory = finished.validation(run), RunDirectory(run.root)
    cost, spent = accounting.of_training(directory.metrics(), directory.preparing), directory.spent()
    seconds = {phase: each.seconds for phase, each in cost.items() if each.seconds}
    training = marks[-1].seconds if marks else spent.seconds
    return {
        "seconds": seconds,
        "training_seconds": training,
        "tokens_per_second": spent.tokens / training if training else None,
        "evaluation_seconds": finished.result(plan, run).seconds,
        "peak_memory_bytes": {p: each.peak_memory_bytes for p, each in cost.items() if each.peak_memory_bytes},
        "marks": [[mark.seconds, mark.accuracy] for mark in marks],
        "validation_problems": marks[-1].num_problems if marks else 0,
    }


def _past_its_best(runs: Mapping[int, Run], confidence: float) -> Json:
    """By seed, the best mark and the end, where that is worse; with `best_mark`'s test, corrected for all seeds."""
    found: Json = {}
    for seed, run in runs.items():
        best = best_mark(finished.validation(run), 1 - (1 - confidence) / len(runs))
        if best and best.is_better:
            found[str(seed)] = {"cost": best.best.tokens, "best": best.best.accuracy, "end": best.last.accuracy}
    return found


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


def _software(runs: Iterable[Run]) -> list[Json]:
    """What the runs were made with, as they wrote it down, with how many were; None where they did not."""
    found: list[Json] = []
    for run in runs:
        recorded: list[dict[str, str] | None] = [each.packages for each in software.recorded(run.root)]
        for packages in recorded or [None]:
            known = next((each for each in found if each["packages"] == packages), None)
            if known is None:
                found.append(known := {"packages": packages, "num_runs": 0})
            known["num_runs"] += 1
    return found


def _asked(metrics: Sequence[StepMetrics]) -> set[str]:
    """Phases that have prompts."""
    return {phase for step in metrics for phase in step.prompts}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None
