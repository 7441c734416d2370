"""Accuracy on held-out problems, with what it cost and how sure it is.

The judge is the reward's (`answers.is_correct`), the prompts and token limits are the training's; only the
temperature differs. Every graded reply is kept, so that runs can be compared problem by problem later. A measurement
is made in parts, each kept as it is done: one that was interrupted goes on with the part that is missing.
"""

from collections.abc import Iterator, Mapping, Sequence

from motif_lite.context import RunContext
from motif_lite.evaluation import differences
from motif_lite.evaluation.measuring import measure_parts, outcomes_of, settings_of, summary
from motif_lite.nouns import Problem
from motif_lite.policies.protocol import ADAPTER_FILE
from motif_lite.recipe.schema import Recipe, decided
from motif_lite.runs import inputs
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.parts import Parts, remove_all
from motif_lite.runs.records import (
    Comparison,
    Evaluation,
    Measurement,
    PartsHeader,
    Settings,
    Subject,
    When,
)

_KEPT_LATER = {"problems", "prompts"}
"""Settings that early versions did not keep."""


def evaluate(context: RunContext, benchmarks: Mapping[str, Sequence[Problem]], when: When) -> None:
    """Measure what the recipe asks for and evaluation.json does not have yet; write each result as it comes.

    Args:
        benchmarks: Problems by benchmark name.
    """
    recipe, run = context.recipe, context.run
    evaluation, width = run.evaluation(), decided(recipe.rollout.max_width)
    policy = _sum_of_policy(run, when)
    for subject in _subjects(recipe):
        measured = inputs.of_problems(benchmarks[subject.benchmark])
        settings = settings_of(recipe, subject, recipe.evaluation.benchmarks[subject.benchmark])
        settings = settings.model_copy(update={"problems": measured})
        if _is_measured(evaluation, subject, when, settings, policy):
            continue
        parts = Parts(run.graded_path(subject, when), PartsHeader(settings=settings, width=width, policy=policy))
        _tell_of_changes(context, evaluation, subject, when, settings, policy, parts.num_dropped)
        problems = list(benchmarks[subject.benchmark]) * (settings.num_samples or 1)
        for part in measure_parts(context, problems, subject, len(parts.graded)):
            parts.add(part)
            if context.replies is not None:
                context.replies.drop()
        run.write_graded(subject, when, parts.graded)
        measurement = _measurement(subject, when, settings, parts, policy)
        evaluation = _with(evaluation, measurement)
        evaluation = evaluation.model_copy(update={"comparisons": _comparisons(evaluation, run, settings.confidence)})
        run.write_evaluation(evaluation)
        parts.remove()
        context.observer.result(measurement)


def is_complete(recipe: Recipe, run: RunDirectory) -> bool:
    """Whether evaluation.json has all that the recipe of a trained run asks for."""
    evaluation, section = run.evaluation(), recipe.evaluation
    asked: dict[When, bool] = {"before": section.before, "after": section.after}
    return all(
        _is_measured(evaluation, subject, when, settings_of(recipe, subject, section.benchmarks[subject.benchmark]))
        for when in asked
        if asked[when]
        for subject in _subjects(recipe)
    )


def agree(one: Settings, other: Settings) -> bool:
    """Whether what was measured with them may be compared, as far as both are known."""
    unknown = {name for name in _KEPT_LATER if None in (getattr(one, name), getattr(other, name))}
    return one.model_dump(exclude=unknown) == other.model_dump(exclude=unknown)


def forget(when: When, run: RunDirectory) -> None:
    """Drop all figures of this time, as they are about to become those of another adapter."""
    evaluation = run.evaluation()
    if evaluation.measurements:
        kept = tuple(each for each in evaluation.measurements if each.when != when)
        run.write_evaluation(Evaluation(measurements=kept))
    remove_all(run.root / "evaluations", when)


def _subjects(recipe: Recipe) -> Iterator[Subject]:
    section = recipe.evaluation
    decodings = ["greedy"] * section.greedy + ["sampled"] * (section.num_samples > 0)
    for benchmark in section.benchmarks:
        for strategy in section.strategies:
            for decoding in decodings:
                yield Subject(benchmark, strategy, decoding)


def _is_measured(
    evaluation: Evaluation, subject: Subject, when: When, settings: Settings, policy: str | None = None
) -> bool:
    found = evaluation.find(subject, when)
    is_same = found is not None and found.settings is not None and agree(found.settings, settings)
    return found is not None and is_same and (policy is None or found.policy in (None, policy))


def _sum_of_policy(run: RunDirectory, when: When) -> str | None:
    """Of what is measured; None where it is not known."""
    if when == "after":
        return inputs.of_file(run.adapter / ADAPTER_FILE)
    kept = inputs.kept(run.root)
    return None if kept is None else inputs.in_one(kept.model)


def _tell_of_changes(
    context: RunContext,
    evaluation: Evaluation,
    subject: Subject,
    when: When,
    settings: Settings,
    policy: str | None,
    num_dropped: int,
) -> None:
    """Say why something is measured again that was measured, or begun, before."""
    found = evaluation.find(subject, when)
    what = None
    if found is not None and found.settings is not None and not agree(found.settings, settings):
        others = settings.model_copy(update={"problems": None})
        what = "the problems have changed" if agree(found.settings, others) else None  # asked for, if not
    elif found is not None and found.policy != policy:
        what = "the adapter has changed"
    elif num_dropped:
        what = "it was begun with other problems, weights or settings"
    if what is not None:
        context.observer.note(f"note: {', '.join(subject)}, {when}: {what}; all of it is measured again")


def _measurement(subject: Subject, when: When, settings: Settings, parts: Parts, policy: str | None) -> Measurement:
    return Measurement(
        **subject._asdict(),
        when=when,
        **dict(summary(parts.graded, settings.confidence)),
        seconds=parts.seconds,
        peak_memory_bytes=parts.peak_memory_bytes,
        settings=settings,
        policy=policy,
    )


def _with(evaluation: Evaluation, new: Measurement) -> Evaluation:
    """With one measurement more, or in the place of the one that was made before."""
    by_key = {(each.subject, each.when): each for each in evaluation.measurements} | {(new.subject, new.when): new}
    return evaluation.model_copy(update={"measurements": tuple(by_key.values())})


def _comparisons(evaluation: Evaluation, run: RunDirectory, confidence: float) -> tuple[Comparison, ...]:
    """Paired comparisons of after with before, wherever both were measured in the same way, corrected together."""
    found = [
        comparison
        for subject in evaluation.subjects()
        if (before := evaluation.find(subject, "before"))
        and (after := evaluation.find(subject, "after"))
        and before.settings is not None
        and after.settings is not None
        and agree(before.settings, after.settings)
        and (comparison := _comparison(run, subject, confidence))
    ]
    corrected = differences.holm([each.p_value for each in found])
    return tuple(
        each.model_copy(update={"p_value_holm": p_value}) for each, p_value in zip(found, corrected, strict=True)
    )


def _comparison(run: RunDirectory, subject: Subject, confidence: float) -> Comparison | None:
    """None where no problem was measured both times."""
    pair = outcomes_of(run.graded(subject, "before")), outcomes_of(run.graded(subject, "after"))
    found = differences.same_problems([pair], confidence)
    if found is None:
        return None
    return Comparison(
        **subject._asdict(),
        difference=found.difference,
        interval=found.interval,
        p_value=found.p_value,
        num_problems=found.num_problems,
    )
