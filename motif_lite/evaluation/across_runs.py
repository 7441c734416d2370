"""Runs compared on the problems that they share: paired tests, and what each run answered.

Two runs are two draws: a test here says whether these two policies differ on these problems, not what other seeds
would bring. For that see studies.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from motif_lite.evaluation.differences import Difference, holm, same_problems
from motif_lite.evaluation.measuring import settings_of
from motif_lite.recipe.schema import Recipe
from motif_lite.runs import inputs
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.records import GradedReply, Mark, Settings, Subject

_ASIDE = {"source", "problems", "confidence"}
"""Settings that may differ: only problems that both runs have are compared."""


@dataclass(frozen=True, slots=True)
class PairedTest:
    """A run against the first one.

    Attributes:
        what: Is compared, for people.
        run: Place of the other run among all.
        accuracies: Of the first run and of the other, on all problems of each.
        difference: Of the other less the first; None where there is none.
        p_holm: Corrected for all tests of the comparison.
        why_not: Where there is no difference.
    """

    what: str
    run: int
    accuracies: tuple[float, float]
    difference: Difference | None
    p_holm: float | None = None
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class SharedProblem:
    """A problem that all runs answered, with the first sample of each.

    Attributes:
        what: It was measured with, for people.
    """

    what: str
    question: str
    gold: str
    answers: tuple[GradedReply, ...]


def paired_tests(runs: Sequence[RunDirectory], recipes: Sequence[Recipe], confidence: float) -> list[PairedTest]:
    """All runs against the first: each measurement after training, and the last held-out mark.

    Args:
        runs: Two or more.
        recipes: Theirs.
        confidence: Of the intervals.
    """
    settings = [_settings_of_marks(recipe) for recipe in recipes]
    found = list[PairedTest]()
    for place, run in enumerate(runs[1:], start=1):
        differing = _differing(settings[0], settings[place])
        found += _of_benchmarks(runs[0], run, place, confidence)
        found += _of_marks(runs[0], run, place, confidence, differing)
    corrected = holm([test.difference.p_value if test.difference else None for test in found])
    return [replace(test, p_holm=p) for test, p in zip(found, corrected, strict=True)]


def shared_problems(runs: Sequence[RunDirectory], most: int) -> list[SharedProblem]:
    """Problems that all runs answered after training; those that only some got right come first.

    Args:
        most: Problems to give, at most.
    """
    found = list[SharedProblem]()
    for subject in _shared_subjects(runs):
        by_question = [_first_samples(run, subject) for run in runs]
        for question, reply in by_question[0].items():
            if all(question in replies for replies in by_question):
                answers = tuple(replies[question] for replies in by_question)
                found.append(SharedProblem(label(subject), question, reply.gold, answers))
    return sorted(found, key=lambda each: len({answer.correct for answer in each.answers}) == 1)[:most]


def label(subject: Subject) -> str:
    """What was measured, for people."""
    return ", ".join(subject)


def _shared_subjects(runs: Sequence[RunDirectory]) -> list[Subject]:
    """Measured after training in all runs."""
    measured = [[each.subject for each in run.evaluation().measurements if each.when == "after"] for run in runs]
    return [subject for subject in measured[0] if all(subject in others for others in measured[1:])]


def _of_benchmarks(first: RunDirectory, other: RunDirectory, place: int, confidence: float) -> Iterator[PairedTest]:
    for subject in _shared_subjects([first, other]):
        ours, theirs = (run.evaluation().find(subject, "after") for run in (first, other))
        assert ours is not None and theirs is not None
        accuracies, why_not = (ours.accuracy, theirs.accuracy), _differing(ours.settings, theirs.settings)
        difference = None
        if not why_not:
            difference = same_problems([(_outcomes(first, subject), _outcomes(other, subject))], confidence)
            why_not = "" if difference else "no problem in common"
        yield PairedTest(label(subject), place, accuracies, difference, why_not=why_not)


def _of_marks(
    first: RunDirectory, other: RunDirectory, place: int, confidence: float, differing: str
) -> Iterator[PairedTest]:
    """The last marks, if both runs hold out the same problems.

    Args:
        differing: Why their settings forbid comparing them; empty where they do not.
    """
    ours, theirs = (next(reversed(run.marks()), None) for run in (first, other))
    if ours is None or theirs is None:
        return
    sums = [kept.validation if (kept := inputs.kept(run.root)) else None for run in (first, other)]
    is_paired = sums[0] is not None and sums[0] == sums[1] and ours.outcomes is not None and theirs.outcomes is not None
    why_not = differing if is_paired else "not the same held-out problems, or measured by an early version"
    difference = None if why_not else same_problems([(_by_place(ours), _by_place(theirs))], confidence)
    yield PairedTest("held out, last mark", place, (ours.accuracy, theirs.accuracy), difference, why_not=why_not)


def _by_place(mark: Mark) -> dict[str, list[bool]]:
    return {str(place): [each == "1"] for place, each in enumerate(mark.outcomes or "")}


def _settings_of_marks(recipe: Recipe) -> Settings:
    """What marks are measured with; the source of their problems is put aside, as for any measurement."""
    decoding = "sampled" if recipe.evaluation.num_samples else "greedy"
    return settings_of(recipe, Subject("validation", recipe.rollout.strategy, decoding), recipe.data.as_source())


def _differing(ours: Settings | None, theirs: Settings | None) -> str:
    """Which settings of two measurements forbid comparing them; empty where none do."""
    if ours is None or theirs is None:
        return "measured by an early version"
    one, two = _compared(ours), _compared(theirs)
    different = [name for name, value in one.items() if name in two and two[name] != value]
    return f"measured with different {', '.join(different)}" if different else ""


def _compared(settings: Settings) -> dict[str, object]:
    return {**settings.model_dump(exclude={*_ASIDE, "prompts"}), **(settings.prompts or {})}


def _outcomes(run: RunDirectory, subject: Subject) -> dict[str, list[bool]]:
    """By question: ids of generated problems are those of another problem with another seed."""
    outcomes: dict[str, list[bool]] = {}
    for each in run.graded(subject, "after"):
        outcomes.setdefault(each.question, []).append(each.correct)
    return outcomes


def _first_samples(run: RunDirectory, subject: Subject) -> dict[str, GradedReply]:
    found: dict[str, GradedReply] = {}
    for each in run.graded(subject, "after"):
        found.setdefault(each.question, each)
    return found
