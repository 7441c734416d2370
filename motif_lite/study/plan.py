"""The runs of a study, and whether each of their recipes is suitable for it.

For each variant there is one run per seed, and, where a key is tuned, one per candidate value and tuning seed before
them. Tuning sees the validation problems only; the test problems of the benchmark are measured once, at the end of the
runs that count. ``load`` validates every recipe before anything runs.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from motif_lite.errors import ConflictError, MotifError, RecipeError, StudyError
from motif_lite.jobs import checking
from motif_lite.recipe.schema import Recipe
from motif_lite.recipe.spelling import nearest
from motif_lite.study.file import Study, Tuning, Value, counted, folder_name, read, toml


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a study: what `run.py` is asked for.

    Attributes:
        seed: Its recipe's seed.
        root: Its run directory.
        recipe: The recipe file.
        changes: For ``--set``.
        trains: Else the base model is measured.
        candidate: The value of the tuned key, in a tuning run.
        share: Of its budget, at which it pauses, to be gone on with or left; 1 for its end.
    """

    variant: str
    seed: int
    root: Path
    recipe: Path
    changes: tuple[str, ...]
    trains: bool
    candidate: Value | None = None
    share: float = 1.0

    @property
    def name(self) -> str:
        """For people."""
        tuning = f"tuning {self.variant}, {self.candidate}" if self.candidate is not None else self.variant
        return f"{tuning}, seed {self.seed}" + (f", to {100 * self.share:g} %" if self.share < 1 else "")

    def resolved(self) -> Recipe:
        """Its recipe, validated."""
        return checking.check(self.recipe, self.changes)


class LeftOut(NamedTuple):
    """An optional variant whose recipe is refused."""

    label: str
    claim: str | None
    why: str


@dataclass(frozen=True, slots=True)
class StudyPlan:
    """A study with its place: which runs there are, and where each goes.

    Attributes:
        strategies: By variant, how it thinks when it is measured.
        recipe: In place of the study's `base`, where one was given.
        left_out: Optional variants, which the study above lacks, with the reason for which their recipes are refused.
    """

    study: Study
    path: Path
    out: Path
    strategies: Mapping[str, str]
    recipe: Path | None = None
    left_out: Mapping[str, LeftOut] = field(default_factory=dict)

    def is_tuned(self, variant: str) -> bool:
        """Whether a variant picks a value of the tuned key."""
        return self.study.tune is not None and self.study.variants[variant].train and self.study.variants[variant].tune

    def tuning_runs(self, variant: str) -> list[Run]:
        """The runs that a variant's value is picked by, to their ends; none where it is not tuned."""
        tune = self.study.tune
        if tune is None or not self.is_tuned(variant):
            return []
        unmeasured = ("evaluation.before=false", "evaluation.after=false")  # the test problems are not looked at
        return [
            Run(
                variant, seed, self.out / "tuning" / variant / folder_name(value) / f"seed-{seed}",
                self.recipe_of(variant), (*self._changes(variant, value), *unmeasured, f"seed={seed}"), True, value,
            )
            for value in tune.values for seed in tune.seeds
        ]  # fmt: skip

    def final_run(self, variant: str, seed: int, value: Value | None) -> Run:
        """The run that counts, with the value that was picked if the variant is tuned."""
        return Run(
            variant, seed, self.out / "runs" / variant / f"seed-{seed}", self.recipe_of(variant),
            (*self._changes(variant, value), f"seed={seed}"), self.study.variants[variant].train,
        )  # fmt: skip

    def recipe_of(self, variant: str) -> Path:
        """A variant's recipe file."""
        return _recipe_of(self.study, self.path, variant)

    def num_tuning_runs(self, variant: str) -> int:
        """Of all rungs: a run that goes on after one counts once for each."""
        tune = self.study.tune
        if tune is None or not self.is_tuned(variant):
            return 0
        return len(tune.seeds) * sum(rung.num_values for rung in tune.rungs)

    @property
    def num_runs(self) -> int:
        """All runs, those of tuning included."""
        variants = self.study.variants
        return len(variants) * len(self.study.seeds) + sum(map(self.num_tuning_runs, variants))

    def _changes(self, variant: str, value: Value | None) -> tuple[str, ...]:
        """The study's own come first, so that a file can have more measured than what its table needs."""
        measured = [
            f'evaluation.strategies=["{self.strategies[variant]}"]',
            f"evaluation.greedy={'true' if self.study.decoding == 'greedy' else 'false'}",
        ]
        if self.study.decoding == "greedy":
            measured.append("evaluation.num_samples=0")
        if self.study.variants[variant].train:
            measured += ["evaluation.before=false", "evaluation.after=true"]  # before is a variant: train = false
        tuned = [] if value is None or self.study.tune is None else [f"{self.study.tune.key}={toml(value)}"]
        return (*measured, *_own_changes(self.study, self.path, variant), *tuned)


def load(path: Path, out: Path | None = None, recipe: Path | None = None) -> StudyPlan:
    """Read a study and validate it with all recipes that follow from it.

    Args:
        path: The TOML file.
        out: Where its runs and results go; by default the folder next to it with its name.
        recipe: In place of the study's `base`; by default its results then go into a folder of its name in that folder.

    Raises:
        StudyError: Something in it is wrong; all that is, is named.
    """
    study, out = read(path), out or (path.with_suffix("") / recipe.stem if recipe else path.with_suffix(""))
    if recipe is not None:
        study = study.model_copy(update={"base": str(recipe.absolute())})
    study = _with_benchmarks(study, path)
    if out == path:
        raise StudyError(f"{path}: name it NAME.toml, or say with --out where its results go")
    mistakes: dict[str, list[str]] = {}
    strategies: dict[str, str] = {}
    left_out: dict[str, LeftOut] = {}
    for variant, own in study.variants.items():
        try:
            strategies[variant] = _strategy(study, path, variant)
        except MotifError as error:
            if own.optional and isinstance(error, ConflictError):
                left_out[variant] = LeftOut(own.label or variant, own.claim, _reason(error))
            else:
                mistakes.setdefault(str(error), []).append(variant)
    there = {name: variant for name, variant in study.variants.items() if name not in left_out}
    plan = StudyPlan(study.model_copy(update={"variants": there}), path, out, strategies, recipe, left_out)
    for variant in strategies:
        for mistake in _mistakes(plan, variant):
            mistakes.setdefault(mistake, []).append(variant)
    if mistakes:
        lines = [f"  variants {', '.join(names)}: {_indented(mistake)}" for mistake, names in mistakes.items()]
        raise StudyError("\n".join([f"{path}: {counted(lines)} in the recipes of the study", *lines]))
    return plan


def _reason(error: RecipeError) -> str:
    """Why a recipe is refused, without the file's name, which differs between machines."""
    where, _, mistakes = str(error).partition("\n")
    return "; ".join(line.strip() for line in mistakes.splitlines()) or where


def _with_benchmarks(study: Study, path: Path) -> Study:
    """The study with the benchmarks of its base where it leaves them to that; with none where that recipe is wrong."""
    try:
        known = list(checking.check(path.parent / study.base, study.set).evaluation.benchmarks)
    except MotifError:  # said once for each variant
        return study.model_copy(update={"also": []}) if study.also == "all" else study
    benchmark = study.benchmark or next(iter(known), "")
    also = [name for name in known if name != benchmark] if study.also == "all" else study.also
    return study.model_copy(update={"benchmark": benchmark, "also": also})


def _recipe_of(study: Study, path: Path, variant: str) -> Path:
    return path.parent / (study.variants[variant].recipe or study.base)


def _own_changes(study: Study, path: Path, variant: str) -> tuple[str, ...]:
    own = study.variants[variant]
    changes = (*study.set, *own.set)
    if own.times_tokens == 1:
        return changes
    recipe = checking.check(_recipe_of(study, path, variant), changes)
    rollout = recipe.rollout
    limit = rollout.openings.max_tokens + (own.times_tokens - 1) * rollout.futures.max_tokens
    length = max(recipe.model.max_seq_length, rollout.max_prompt_tokens + limit)
    return (*changes, f"rollout.openings.max_tokens={limit}", f"model.max_seq_length={length}")


def _strategy(study: Study, path: Path, variant: str) -> str:
    recipe = checking.check(_recipe_of(study, path, variant), _own_changes(study, path, variant))
    return study.variants[variant].strategy or recipe.rollout.strategy


def _mistakes(plan: StudyPlan, variant: str) -> list[str]:
    """What is wrong with a variant's recipes, each once."""
    tune, found = plan.study.tune, dict[str, None]()
    values = tune.values if tune and plan.is_tuned(variant) else [None]
    counting = [plan.final_run(variant, plan.study.seeds[0], value) for value in values]
    for run in [*plan.tuning_runs(variant), *counting]:
        try:
            found |= dict.fromkeys(_cannot_be_measured(plan, run, run.resolved()))
        except MotifError as error:
            found[str(error)] = None
    return list(found)


def _cannot_be_measured(plan: StudyPlan, run: Run, recipe: Recipe) -> Iterator[str]:
    """Why a valid recipe does not give what the study's table needs."""
    study, evaluation, variant = plan.study, recipe.evaluation, run.variant
    for name in (study.benchmark, *study.also):
        if name not in evaluation.benchmarks:
            known = ", ".join(evaluation.benchmarks) or "none"
            yield f"no benchmark {name!r}{nearest(name, evaluation.benchmarks)}; it has: {known}"
    if plan.strategies[variant] not in evaluation.strategies:
        yield f"evaluation.strategies lacks {plan.strategies[variant]!r}, which the study measures; leave it out of set"
    if study.decoding == "greedy" and not evaluation.greedy:
        yield "evaluation.greedy is off, and the study measures greedy decoding; leave it out of set"
    if run.trains and run.candidate is None and not evaluation.after:
        yield "evaluation.after is off, and the study measures what was trained; leave it out of set"
    if study.decoding == "sampled" and not evaluation.num_samples:
        yield "evaluation.num_samples is 0, and the study measures samples; set it, or decoding = 'greedy'"
    if study.variants[variant].times_tokens > 1:
        yield from _not_of_more_tokens(plan.strategies[variant], recipe)
    if plan.is_tuned(variant) and evaluation.validation is None:
        yield "tuning needs held-out problems: set evaluation.validation, or leave out [tune]"
    if study.tune and plan.is_tuned(variant) and evaluation.validation is not None:
        yield from _between_marks(study.tune, evaluation.validation.num_marks)


def _not_of_more_tokens(strategy: str, recipe: Recipe) -> Iterator[str]:
    """Why one round of several rounds' tokens cannot be compared with these rounds."""
    if strategy != "single_round":
        yield (
            f"times_tokens gives one round the tokens of several, and this is measured as {strategy}: set strategy = "
            f'"single_round", or leave times_tokens out'
        )
    if recipe.model.name == "tiny":
        yield (
            'times_tokens compares rounds with tokens on one model, and model.name = "tiny" is another model for each '
            "rollout.num_rounds: name a folder, e.g. of run.py export --format merged"
        )


def _between_marks(tune: Tuning, num_marks: int) -> Iterator[str]:
    """Why values cannot be compared where they should be halved."""
    off = [rung.share for rung in tune.rungs if not math.isclose(rung.share * num_marks, round(rung.share * num_marks))]
    if off or round(tune.rungs[0].share * num_marks) == 0:
        share = max(1, round(num_marks / 4)) / num_marks  # in all its digits: a run pauses at it or later
        advice = f"take a multiple of 1/{num_marks}, e.g. {share}, or other num_marks" if share < 1 else "take more"
        where = f"evaluation.validation.num_marks = {num_marks}"
        yield f"tune.halve_at = {tune.halve_at} is not at a mark of {where}: {advice}"


def _indented(text: str) -> str:
    return text.replace("\n", "\n    ")
