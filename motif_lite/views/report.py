"""``report.html``: one self-contained page with the recipe, the accuracies and how training went.

Everything is escaped by Jinja: what a model wrote is text here, whatever it looks like. Plots are inline SVG.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from motif_lite import __version__
from motif_lite.monitor import findings
from motif_lite.recipe.schema import Recipe
from motif_lite.runs import accounting, selection
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.records import Evaluation, Measurement, StepMetrics, Subject
from motif_lite.runs.rollout_lines import RolloutLine
from motif_lite.views import plots, story
from motif_lite.views.explorer import page
from motif_lite.views.formats import about_gains, gain, printable, recipe_toml
from motif_lite.views.pages import template


def write(recipe: Recipe, run: RunDirectory) -> None:
    """Write the report of whatever the run has so far."""
    metrics, marks, evaluation = run.metrics(), run.marks(), run.evaluation()
    warnings = findings.diagnose(recipe, metrics, marks)
    text = template("report.html.j2").render(
        title=printable(run.root.name),
        version=__version__,
        recipe_toml=printable(recipe_toml(recipe)),
        confidence=recipe.evaluation.confidence,
        story=story.sentences(recipe, metrics, marks, evaluation, warnings, _kept(run), selection.kept(run.root)),
        rows=_rows(evaluation, recipe.evaluation.confidence),
        about_gains=about_gains(evaluation),
        plots=plots.of_run(metrics, marks, run.preparing),
        costs=accounting.of(run),
        planned=metrics[-1].planned_memory_bytes if metrics else {},
        samples=_samples(run, metrics),
        warnings=warnings,
        explorer=page.PAGE if (run.root / page.PAGE).exists() else "",
    )
    run.write_report(text)


def _kept(run: RunDirectory) -> story.Kept:
    return story.Kept(run.best_step(), is_trained=run.adapter.exists())


@dataclass(frozen=True, slots=True)
class _Row:
    """Of the evaluation table."""

    subject: Subject
    before: Measurement | None
    after: Measurement | None
    gain: str


def _rows(evaluation: Evaluation, confidence: float) -> list[_Row]:
    return [
        _Row(
            subject,
            evaluation.find(subject, "before"),
            evaluation.find(subject, "after"),
            gain(evaluation, subject, confidence),
        )
        for subject in evaluation.subjects()
    ]


@dataclass(frozen=True, slots=True)
class _Sample:
    """An opening with its first future, to be shown."""

    question: str
    gold: str
    rewards: str
    rounds: list[str]
    num_right: int
    num_futures: int


def _samples(run: RunDirectory, metrics: Sequence[StepMetrics]) -> list[_Sample]:
    """Openings of the last step: with the highest, the middle and the lowest reward."""
    if not metrics:
        return []
    ranked = sorted(run.rollouts_of(metrics[-1].step), key=lambda line: sum(line.rewards.values()))
    places = dict.fromkeys((len(ranked) - 1, len(ranked) // 2, 0)) if ranked else {}
    return [_sample(ranked[place]) for place in places]


def _sample(line: RolloutLine) -> _Sample:
    return _Sample(
        question=printable(line.question),
        gold=printable(line.gold),
        rewards=", ".join(f"{name} {value:.2f}" for name, value in line.rewards.items()),
        rounds=[printable(turn.reply) for turn in (line.opening, *line.futures[0].rounds)],
        num_right=sum(future.correct for future in line.futures),
        num_futures=len(line.futures),
    )
