"""A study: recipes with changes, times seeds, so that they can be compared fairly; read from TOML and checked at once.

``load`` reads the file and validates it together with every recipe that follows from it, before anything runs. A
`Study` says which runs there are: for each variant one per seed, and, where a key is tuned, one per candidate value
and tuning seed before them. Tuning sees the validation problems only; the test problems of the benchmark are measured
once, at the end of the runs that count.

`study_runs` performs the runs, `study_results` reads what they left, `study_table` and `study_plot` show it.
"""

import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from motif_lite import pipeline
from motif_lite.errors import MotifError, StudyError
from motif_lite.recipe import Recipe

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Text = Annotated[str, Field(min_length=1, max_length=4000, pattern=r"^[^\x00-\x08\x0b-\x1f]*$")]
Value = bool | int | float | Annotated[str, Field(max_length=100)]

_LARGEST_FILE = 1_000_000
"""Bytes; so that a device or a data set that was named by mistake is not read to its end."""

_BRANCH = re.compile(r"\[key\]|bool|int|float|constrained-\w+|function-\S+")
"""What pydantic puts into a key's path without it being part of the key: in a table's key, or in a choice of types."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


class Tuning(_Section):
    """One key whose value every trained variant picks for itself, from the same list."""

    key: Annotated[str, Field(pattern=r"^[a-z0-9_]+(\.[A-Za-z0-9_-]+)+$", max_length=200)]
    """The recipe's key, e.g. `training.learning_rate`."""
    values: Annotated[list[Value], Field(min_length=2, max_length=50)]
    """The candidates; of equally good ones the first is taken."""
    seeds: Annotated[list[Seed], Field(min_length=1, max_length=100)] = [101]
    """Seeds of the tuning runs; others than those of the study."""

    @model_validator(mode="after")
    def _candidates_differ(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: one of them is named twice; leave one out")
        if len({_folder_name(value) for value in self.values}) < len(self.values):
            raise ValueError("values: two of them have the same name as a folder; leave one out")
        return self


class Variant(_Section):
    """One of the things that are compared."""

    recipe: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """A recipe of its own, relative to the study file; by default the study's `base`."""
    set: list[str] = []
    """Changes as for `--set`, after those of the study."""
    label: Annotated[Text, Field(max_length=60)] | None = None
    """What tables and figures call it; by default its name."""
    train: bool = True
    """`false`: the bare model is measured."""
    tune: bool = True
    """`false`: it keeps its recipe's value of the tuned key."""
    strategy: str | None = None
    """How it thinks when it is measured; by default its recipe's `rollout.strategy`, as it is trained."""


class Study(_Section):
    """What is compared with what, on which seeds."""

    title: Annotated[Text, Field(max_length=200)]
    """The heading of its table and figures."""
    question: Text
    """What it asks, in words."""
    base: Annotated[str, Field(min_length=1, max_length=4096)]
    """The recipe that variants change, relative to the study file."""
    seeds: Annotated[list[Seed], Field(min_length=1, max_length=1000)]
    """One run of every variant for each; a seed decides the problems, too, so variants are paired by it."""
    set: list[str] = []
    """Changes for all variants, as for `--set`."""
    reference: Name
    """The variant that all others are compared with."""
    benchmark: Name
    """The benchmark of the recipe that gives the final figures."""
    decoding: Literal["sampled", "greedy"] = "sampled"
    """How its replies are written: at the recipe's `evaluation.temperature`, or greedily."""
    confidence: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] = 0.95
    """Coverage of the intervals over seeds."""
    tune: Tuning | None = None
    """The key to tune, if any."""
    variants: Annotated[dict[Name, Variant], Field(min_length=1, max_length=100)]
    """A table for each, `[variants.NAME]`."""

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        broken = []
        if self.reference not in self.variants:
            broken.append(
                f"reference: there is no variant {self.reference!r}{_nearest(self.reference, self.variants)}; known: "
                f"{', '.join(self.variants)}"
            )
        if len({name.lower() for name in self.variants}) < len(self.variants):
            broken.append("variants: two names differ in upper and lower case only; rename one")
        if len(set(self.seeds)) < len(self.seeds):
            broken.append("seeds: one of them is named twice; leave one out")
        if self.tune and set(self.tune.seeds) & set(self.seeds):
            both = ", ".join(map(str, sorted(set(self.tune.seeds) & set(self.seeds))))
            broken.append(f"tune.seeds: {both} would be tuned on and count as a result; take other seeds for tuning")
        for name, changes in [("set", self.set), *((f"variants.{n}.set", v.set) for n, v in self.variants.items())]:
            broken += [f"{name}: {reason}" for change in changes if (reason := self._belongs_to_the_study(change))]
        if broken:
            raise ValueError("\n".join(broken))
        return self

    def _belongs_to_the_study(self, change: str) -> str:
        """Why a change is not a variant's to make; empty if it is."""
        key = change.partition("=")[0].strip()
        if key == "seed":
            return "seed is the study's; name it in seeds"
        if self.tune and key == self.tune.key:
            return f"{key} is what is tuned; name its value in tune.values, or set tune = false and use another recipe"
        return ""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a study: what `run.py` is asked for.

    Attributes:
        seed: Its recipe's seed.
        root: Its run directory.
        recipe: The recipe file.
        changes: For ``--set``.
        trains: Else the bare model is measured.
        candidate: The value of the tuned key, in a tuning run.
    """

    variant: str
    seed: int
    root: Path
    recipe: Path
    changes: tuple[str, ...]
    trains: bool
    candidate: Value | None = None

    @property
    def name(self) -> str:
        """For people."""
        tuning = f"tuning {self.variant}, {self.candidate}" if self.candidate is not None else self.variant
        return f"{tuning}, seed {self.seed}"

    def resolved(self) -> Recipe:
        """Its recipe, validated."""
        return pipeline.check(self.recipe, self.changes)


@dataclass(frozen=True, slots=True)
class Plan:
    """A study with its place: which runs there are, and where each goes.

    Attributes:
        strategies: By variant, how it thinks when it is measured.
    """

    study: Study
    path: Path
    out: Path
    strategies: Mapping[str, str]

    def is_tuned(self, variant: str) -> bool:
        """Whether a variant picks a value of the tuned key."""
        return self.study.tune is not None and self.study.variants[variant].train and self.study.variants[variant].tune

    def tuning_runs(self, variant: str) -> list[Run]:
        """The runs that a variant's value is picked by; none where it is not tuned."""
        tune = self.study.tune
        if tune is None or not self.is_tuned(variant):
            return []
        unmeasured = ("evaluation.before=false", "evaluation.after=false")  # the test problems are not looked at
        return [
            Run(
                variant, seed, self.out / "tuning" / variant / _folder_name(value) / f"seed-{seed}",
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

    @property
    def num_runs(self) -> int:
        """All runs, those of tuning included."""
        variants = self.study.variants
        return len(variants) * len(self.study.seeds) + sum(len(self.tuning_runs(name)) for name in variants)

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
        tuned = [] if value is None or self.study.tune is None else [f"{self.study.tune.key}={_toml(value)}"]
        return (*measured, *_own_changes(self.study, variant), *tuned)


def load(path: Path, out: Path | None = None) -> Plan:
    """Read a study and validate it with all recipes that follow from it.

    Args:
        path: The TOML file.
        out: Where its runs and results go; by default the folder beside it that has its name.

    Raises:
        StudyError: Something in it is wrong; all that is, is named.
    """
    study, out = _validated(_read(path), path), out or path.with_suffix("")
    if out == path:
        raise StudyError(f"{path}: name it NAME.toml, or say with --out where its results go")
    mistakes: dict[str, list[str]] = {}
    strategies: dict[str, str] = {}
    for variant in study.variants:
        try:
            strategies[variant] = _strategy(study, path, variant)
        except MotifError as error:
            mistakes.setdefault(str(error), []).append(variant)
    plan = Plan(study, path, out, strategies)
    for variant in strategies:
        for mistake in _mistakes(plan, variant):
            mistakes.setdefault(mistake, []).append(variant)
    if mistakes:
        lines = [f"  variants {', '.join(names)}: {_indented(mistake)}" for mistake, names in mistakes.items()]
        raise StudyError("\n".join([f"{path}: {_counted(lines)} in the recipes of the study", *lines]))
    return plan


def _recipe_of(study: Study, path: Path, variant: str) -> Path:
    return path.parent / (study.variants[variant].recipe or study.base)


def _own_changes(study: Study, variant: str) -> tuple[str, ...]:
    return (*study.set, *study.variants[variant].set)


def _strategy(study: Study, path: Path, variant: str) -> str:
    recipe = pipeline.check(_recipe_of(study, path, variant), _own_changes(study, variant))
    return study.variants[variant].strategy or recipe.rollout.strategy


def _mistakes(plan: Plan, variant: str) -> list[str]:
    """What is wrong with a variant's recipes, each once."""
    tune, found = plan.study.tune, dict[str, None]()
    values = tune.values if tune and plan.is_tuned(variant) else [None]
    counting = [plan.final_run(variant, plan.study.seeds[0], value) for value in values]
    for run in [*plan.tuning_runs(variant), *counting]:
        try:
            found |= dict.fromkeys(_cannot_be_measured(plan, variant, run.resolved()))
        except MotifError as error:
            found[str(error)] = None
    return list(found)


def _cannot_be_measured(plan: Plan, variant: str, recipe: Recipe) -> Iterator[str]:
    """Why a valid recipe does not give what the study's table needs."""
    study, evaluation = plan.study, recipe.evaluation
    if study.benchmark not in evaluation.benchmarks:
        known = ", ".join(evaluation.benchmarks) or "none"
        yield f"no benchmark {study.benchmark!r}{_nearest(study.benchmark, evaluation.benchmarks)}; it has: {known}"
    if plan.strategies[variant] not in evaluation.strategies:
        yield f"evaluation.strategies lacks {plan.strategies[variant]!r}, which the study measures; leave it out of set"
    if study.decoding == "greedy" and not evaluation.greedy:
        yield "evaluation.greedy is off, and the study measures greedy decoding; leave it out of set"
    if study.decoding == "sampled" and not evaluation.num_samples:
        yield "evaluation.num_samples is 0, and the study measures samples; set it, or decoding = 'greedy'"
    if plan.is_tuned(variant) and getattr(evaluation, "validation", None) is None:
        yield "tuning needs held-out problems: set evaluation.validation, or leave out [tune]"


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
        if len(content) > _LARGEST_FILE:
            raise StudyError(f"{path}: has more than {_LARGEST_FILE:,} bytes, which is no study; check the path")
        return tomllib.loads(content.decode("utf-8-sig").replace("\r\n", "\n"))
    except FileNotFoundError:
        raise StudyError(f"{path}: there is no such study; shipped ones are in studies/") from None
    except UnicodeDecodeError as error:
        raise StudyError(f"{path}: cannot be read as a text file ({error}); save it as UTF-8") from None
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except (ValueError, RecursionError) as error:  # also numbers of 5000 digits, a null in the name
        raise StudyError(f"{path}: is not valid TOML: {error}") from None


def _validated(settings: dict[str, Any], path: Path) -> Study:
    try:
        return Study.model_validate(settings)
    except ValidationError as error:
        lines = list(dict.fromkeys(f"  {line}" for detail in error.errors() for line in _explained(detail)))
        raise StudyError("\n".join([f"{path}: {_counted(lines)} in the study", *lines])) from None


def _explained(detail: ErrorDetails) -> list[str]:
    """A pydantic error as lines ``key: what is wrong, and the remedy``."""
    path = ".".join(str(part) for part in detail["loc"] if not _BRANCH.fullmatch(str(part)))
    match detail["type"]:
        case "extra_forbidden":
            return [f"{path}: unknown key{_nearest(path.rpartition('.')[2], _keys()) or '; remove it'}"]
        case "missing":
            return [f"{path}: must be given"]
        case "value_error":
            mistakes = str(detail["ctx"]["error"]).split("\n")
            return [f"{path}: {mistake}" if path else mistake for mistake in mistakes]
        case _:
            given = "" if isinstance(detail["input"], dict | BaseModel) else f" (got {detail['input']!r:.80})"
            return [f"{path}: {detail['msg'][:1].lower()}{detail['msg'][1:]}{given}"]


def _keys() -> list[str]:
    return [name for section in (Study, Tuning, Variant) for name in section.model_fields]


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _counted(lines: Sequence[str]) -> str:
    return f"{len(lines)} mistakes" if len(lines) > 1 else "a mistake"


def _indented(text: str) -> str:
    return text.replace("\n", "\n    ")


def _toml(value: Value) -> str:
    return tomli_w.dumps({"value": value}).removeprefix("value = ").strip()


def _folder_name(value: Value) -> str:
    """A candidate as the name of a folder: ``0.0005``."""
    return re.sub(r"[^A-Za-z0-9.+-]", "_", _toml(value).strip('"')).lstrip(".") or "_"
