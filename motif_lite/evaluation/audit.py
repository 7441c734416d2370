"""What was measured, counted in other ways: by the reference's rule, and by a majority vote over samples.

Nothing is generated: the graded replies of the run's measurements are read. A vote is shown over all samples, and over
as many as cost the tokens of one multi-round answer, so that rounds are compared with samples at equal tokens.
"""

from collections.abc import Callable
from statistics import fmean

from motif_lite.evaluation import intervals
from motif_lite.evaluation.voting import majority_is_right
from motif_lite.grading import reference
from motif_lite.grading.rule_golds import is_rule
from motif_lite.nouns import OnProgress
from motif_lite.recipe.schema import Recipe
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.files import write_record
from motif_lite.runs.records import GradedReply, Interval, Record, Subject, Versioned, When

FILE = "audit.json"

Judge = Callable[[GradedReply], bool]


class Count(Record):
    """An accuracy, counted in one way.

    Attributes:
        rule: ``ours``, ``reference``, or ``maj@K``, a vote over the first K samples of each problem.
        tokens: Generated for one answer by this rule, on average.
        is_equal_tokens: K was chosen to cost what one answer in several rounds costs.
    """

    benchmark: str
    strategy: str
    decoding: str
    when: When
    rule: str
    accuracy: float
    interval: Interval
    num_problems: int
    tokens: float
    is_equal_tokens: bool = False


class Audit(Versioned):
    """All of audit.json."""

    counts: tuple[Count, ...] = ()


def of(recipe: Recipe, run: RunDirectory, on_progress: OnProgress) -> Audit:
    """Count all that a run has measured."""
    measured = [(each.subject, each.when) for each in run.evaluation().measurements]
    counts: list[Count] = []
    for done, (subject, when) in enumerate(measured, start=1):
        counts += _counts(recipe, run, subject, when)
        on_progress(done, len(measured))
    return Audit(counts=tuple(counts))


def write(run: RunDirectory, audit: Audit) -> None:
    """Keep it with the run."""
    write_record(run.root / FILE, audit)


def kept(run: RunDirectory) -> Audit:
    """What was counted; nothing where no recipe asked for it."""
    path = run.root / FILE
    return Audit.model_validate_json(path.read_text(encoding="utf-8")) if path.exists() else Audit()


def _counts(recipe: Recipe, run: RunDirectory, subject: Subject, when: When) -> list[Count]:
    graded = run.graded(subject, when)
    by_problem: dict[str, list[GradedReply]] = {}
    for each in graded:
        by_problem.setdefault(each.problem, []).append(each)
    source, confidence = recipe.evaluation.benchmarks[subject.benchmark].source, recipe.evaluation.confidence
    per_sample = fmean(each.tokens for each in graded)

    def count(rule: str, outcomes: dict[str, list[bool]], tokens: float, *, is_equal: bool = False) -> Count:
        return Count(
            **subject._asdict(), when=when, rule=rule, accuracy=intervals.accuracy(outcomes),
            interval=intervals.interval(outcomes, confidence), num_problems=len(outcomes), tokens=tokens,
            is_equal_tokens=is_equal,
        )  # fmt: skip

    found = [
        count("ours", _outcomes(by_problem, lambda each: each.correct), per_sample),
    ]
    if not any(is_rule(each.gold) for each in graded):
        by_text = _outcomes(by_problem, lambda each: reference.is_correct(each.gold, each.final, source=source))
        found.append(count("reference", by_text, per_sample))
    num_samples = min(map(len, by_problem.values()))
    equal = _samples_at_equal_tokens(run, subject, when, per_sample)
    sizes = {num_samples, *([equal] if equal is not None and equal <= num_samples else [])}
    for size in sorted(sizes) if num_samples > 1 else []:
        outcomes = {name: [majority_is_right(samples[:size])] for name, samples in by_problem.items()}
        found.append(count(f"maj@{size}", outcomes, size * per_sample, is_equal=size == equal))
    return found


def _outcomes(by_problem: dict[str, list[GradedReply]], judge: Judge) -> dict[str, list[bool]]:
    return {name: [judge(each) for each in samples] for name, samples in by_problem.items()}


def _samples_at_equal_tokens(run: RunDirectory, subject: Subject, when: When, per_sample: float) -> int | None:
    """How many single-round samples cost what one greedy answer in several rounds costs; None for other subjects."""
    if subject.strategy != "single_round":
        return None
    rounds = run.evaluation().find(Subject(subject.benchmark, "multi_round", "greedy"), when)
    if rounds is None or not per_sample:
        return None
    return max(1, round(rounds.generated_tokens / rounds.num_samples / per_sample))
