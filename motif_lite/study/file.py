"""A study's file: recipes with changes, times seeds; TOML, validated when it is read."""

import math
import re
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from motif_lite.errors import StudyError
from motif_lite.recipe.schema import Recipe
from motif_lite.recipe.spelling import nearest
from motif_lite.recipe.toml import read_toml

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Text = Annotated[str, Field(min_length=1, max_length=4000, pattern=r"^[^\x00-\x08\x0b-\x1f]*$")]
Value = bool | int | float | Annotated[str, Field(max_length=100)]

_BRANCH = re.compile(r"\[key\]|bool|int|float|constrained-\w+|function-\S+")
"""What pydantic puts into a key's path without it being part of the key: in a table's key, or in a choice of types."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


class Tuning(_Section):
    """One key whose value every trained variant picks for itself, from the same list."""

    key: Annotated[str, Field(pattern=r"^[a-z0-9_]+(\.([A-Za-z0-9_-]+|\"[^\"]+\"))+$", max_length=200)]
    """The recipe's key, e.g. `training.learning_rate`."""
    values: Annotated[list[Value], Field(min_length=2, max_length=50)]
    """The candidates; of equally good ones the first is taken."""
    seeds: Annotated[list[Seed], Field(min_length=1, max_length=100)] = [101]
    """Seeds of the tuning runs; others than those of the study."""
    halve_at: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] | None = None
    """Successive halving: with this share of the budget spent, a mark of validation, the less accurate half of the \
values is dropped; the rest go on, and are halved again with twice that share, until one is left or the budget is \
spent. By default all values run to the end."""

    @model_validator(mode="after")
    def _candidates_differ(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: one is listed twice; remove it")
        if equal := [f"{a} and {b}" for a, b in combinations(self.values, 2) if a == b]:
            raise ValueError(f"values: {', '.join(equal)} are equal; leave one out")
        if len({folder_name(value) for value in self.values}) < len(self.values):
            raise ValueError("values: two of them have the same name as a folder; leave one out")
        return self

    @property
    def rungs(self) -> list["Rung"]:
        """Where values are compared, in order; after the last rung the best value is picked."""
        found = [Rung(len(self.values), self.halve_at or 1.0)]
        while found[-1].share < 1 and found[-1].num_values > 2:
            found.append(Rung(math.ceil(found[-1].num_values / 2), min(1.0, 2 * found[-1].share)))
        return found


class Rung(NamedTuple):
    """A comparison in tuning: so many values, each run to the same share of its budget."""

    num_values: int
    share: float


class Variant(_Section):
    """One of the things that are compared."""

    recipe: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """A recipe of its own, relative to the study file; by default the study's `base`."""
    set: list[str] = []
    """Changes as for `--set`, after those of the study."""
    label: Annotated[Text, Field(max_length=60)] | None = None
    """What tables and figures call it; by default its name."""
    train: bool = True
    """`false`: the base model is measured."""
    tune: bool = True
    """`false`: it keeps its recipe's value of the tuned key."""
    strategy: str | None = None
    """How it thinks when it is measured; by default its recipe's `rollout.strategy`, as it is trained."""
    times_tokens: Annotated[int, Field(ge=1, le=1000)] = 1
    """Its one round (`single_round`) may have the tokens of so many rounds of its recipe: an opening and futures."""
    against: Name | None = None
    """The variant that it is compared with; by default the study's `reference`."""
    vote: bool = False
    """`true`: its answer to a problem is a majority vote over so many of its samples as take the tokens of one answer \
of the reference."""
    claim: Annotated[Text, Field(max_length=300)] | None = None
    """What may be claimed if the reference is better than this variant, as a sentence without its full stop."""
    gain_over: Name | None = None
    """With `claim`: the variant, not trained, over which the reference gains; the claim is about how much of that \
this variant gains, too."""
    optional: bool = False
    """`true`: where its recipe is refused, e.g. rewards that its strategy cannot have, it is left out."""


class Study(_Section):
    """What is compared with what, on which seeds."""

    title: Annotated[Text, Field(max_length=200)]
    """The heading of its table and figures."""
    question: Text
    """What it asks, in words."""
    caveat: Text | None = None
    """What its table cannot answer; stands above it."""
    base: Annotated[str, Field(min_length=1, max_length=4096)]
    """The recipe that variants change, relative to the study file."""
    seeds: Annotated[list[Seed], Field(min_length=1, max_length=1000)]
    """One run of every variant for each; a seed decides the problems, too, so variants are paired by it."""
    set: list[str] = []
    """Changes for all variants, as for `--set`."""
    reference: Name
    """The variant that all others are compared with."""
    benchmark: Name | Literal[""] = ""
    """The benchmark of the recipe that gives the final figures; by default its first one."""
    also: list[Name] | Literal["all"] = []
    """Further benchmarks of the recipe, e.g. of twins, or `all` of them; each has a table of its own."""
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
                f"reference: there is no variant {self.reference!r}{nearest(self.reference, self.variants)}; known: "
                f"{', '.join(self.variants)}"
            )
        if len({name.lower() for name in self.variants}) < len(self.variants):
            broken.append("variants: two names differ in upper and lower case only; rename one")
        if len(set(self.seeds)) < len(self.seeds):
            broken.append("seeds: one is listed twice; remove it")
        broken += self._misplaced()
        if self.tune and set(self.tune.seeds) & set(self.seeds):
            both = ", ".join(map(str, sorted(set(self.tune.seeds) & set(self.seeds))))
            broken.append(f"tune.seeds: {both} would be tuned on and count as a result; take other seeds for tuning")
        broken += self._not_to_be_set("set", self.set, self.tune)
        for name, variant in self.variants.items():
            is_tuned = variant.train and variant.tune
            broken += self._not_to_be_set(f"variants.{name}.set", variant.set, self.tune if is_tuned else None)
        if broken:
            raise ValueError("\n".join(broken))
        return self

    def _misplaced(self) -> Iterator[str]:
        """Keys of variants that make no sense there, as complaints."""
        for name, variant in self.variants.items():
            if variant.vote and (variant.train or name == self.reference or self.decoding != "sampled"):
                yield (
                    f"variants.{name}.vote: is for a variant with train = false that is not the reference, in a study "
                    f'with decoding = "sampled"'
                )
            if variant.against is not None and variant.against not in set(self.variants) - {name}:
                known = ", ".join(other for other in self.variants if other != name)
                yield f"variants.{name}.against: there is no other variant {variant.against!r}; known: {known}"
            if variant.against is not None and (variant.vote or variant.claim or name == self.reference):
                yield (
                    f"variants.{name}.against: is for neither a vote, nor a claim, nor the study's reference, as votes "
                    f"and claims are about the reference; leave it out"
                )
            if variant.optional and name in {self.reference, *(other.against for other in self.variants.values())}:
                yield f"variants.{name}.optional: others are compared with it, so it cannot be left out; remove it"
            if variant.gain_over is not None:
                yield from self._no_gain(name, variant.gain_over)
            if variant.claim and name == self.reference:
                yield f"variants.{name}.claim: claims are made against the reference, by the other variants; move it"

    def _no_gain(self, name: str, over: str) -> Iterator[str]:
        """Why there is no gain of a variant over another one that a claim could be about."""
        where = f"variants.{name}.gain_over"
        if over not in self.variants:
            known = ", ".join(self.variants)
            yield f"{where}: there is no variant {over!r}{nearest(over, self.variants)}; known: {known}"
        elif over in {name, self.reference} or self.variants[over].train or self.variants[over].optional:
            yield f"{where}: must be a variant with train = false that is neither this one nor the reference"
        if not self.variants[name].claim:
            yield f"{where}: is about a claim; add one, or leave it out"

    def compared_with(self, name: str) -> str:
        """The variant that another one is compared with."""
        return self.variants[name].against or self.reference

    @staticmethod
    def _not_to_be_set(where: str, changes: Sequence[str], tune: Tuning | None) -> Iterator[str]:
        """Changes that are not a variant's to make, as complaints."""
        for change in changes:
            key = change.partition("=")[0].strip()
            if key == "seed":
                yield f"{where}: seed is the study's; name it in seeds"
            if tune and key == tune.key:
                yield f"{where}: {key} is what is tuned; name the value in tune.values, or give it tune = false"


def read(path: Path) -> Study:
    """Read a study file; its recipes are not looked at.

    Raises:
        StudyError: It cannot be read, or something in it is wrong; all that is, is named.
    """
    settings = read_toml(path, "study", "studies/", StudyError)
    if settings.keys() & {*Recipe.model_fields, "extends"} and not settings.keys() & Study.model_fields.keys():
        raise StudyError(f"{path}: this is a recipe: python run.py --recipe {path}")
    try:
        return Study.model_validate(settings)
    except ValidationError as error:
        lines = list(dict.fromkeys(f"  {line}" for detail in error.errors() for line in _explained(detail)))
        raise StudyError("\n".join([f"{path}: {counted(lines)} in the study", *lines])) from None


def _explained(detail: ErrorDetails) -> list[str]:
    """A pydantic error as lines ``key: what is wrong, and the remedy``."""
    path = ".".join(str(part) for part in detail["loc"] if not _BRANCH.fullmatch(str(part)))
    match detail["type"]:
        case "extra_forbidden":
            return [f"{path}: unknown key{nearest(path.rpartition('.')[2], _keys()) or '; remove it'}"]
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


def counted(lines: Sequence[str]) -> str:
    """``a mistake`` or ``3 mistakes``."""
    return f"{len(lines)} mistakes" if len(lines) > 1 else "a mistake"


def toml(value: Value) -> str:
    """A candidate as ``--set`` takes it."""
    return tomli_w.dumps({"value": value}).removeprefix("value = ").strip()


def folder_name(value: Value) -> str:
    """A candidate as the name of a folder: ``0.0005``."""
    return re.sub(r"[^A-Za-z0-9.+-]", "_", toml(value).strip('"')).lstrip(".") or "_"
