"""The section `[data]` of a recipe, and what its benchmarks share with it, with the documentation of their keys."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from motif_lite.recipe.section import PositiveInt, Section

OptionName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=64)]

Option = bool | int | float | str | list[bool | int | float | str]


class _ColumnsSection(Section):
    """Keys that training data and benchmarks share."""

    question_column: str | None = None
    """Column with the question; by default the data set's own, or in a file `question` or `problem`."""
    answer_column: str | None = None
    """Column with the gold answer; by default `answer`. Of a longer text, the answer is what follows `####`, or what \
is in the last `\\boxed{}`."""
    num_problems: PositiveInt | None = None
    """Number of problems, drawn with the recipe's seed; by default all (where they are generated: 2000)."""
    twins: Literal["instead", "originals"] | None = None
    """`instead`: take each problem's twin, with other numbers and names and a computed answer, in place of it, and \
leave out those without one; for `gsm8k` and files whose answers hold their sums as GSM8K's do, `<<2*3=6>>`. \
`originals`: only the problems that have a twin, as they are, to compare with."""
    options: dict[OptionName, Option] | None = None
    """A table of options for a `reasoning_gym` task, e.g. `min_terms = 2`; by default those of the package."""


class SourceSection(_ColumnsSection):
    """Where problems come from."""

    source: Annotated[str, Field(min_length=1)]
    """A data set of the hub (`gsm8k`, `math500`, `aime24` and more), a generated task (`chain_sum`, `chain_sum_26`, \
`reasoning_gym:NAME`), the path of a JSONL, JSON, CSV or Parquet file, or a function of your own that gives rows, \
`FILE.py:NAME`; see sources.md and extending.md."""


class ValidationSection(SourceSection):
    """Held-out problems that are evaluated during training, one sample each; none may be in a benchmark."""

    source: Annotated[str, Field(min_length=1)] = "data.train"
    """As of a benchmark. By default the source of the training problems, with the columns, options and twins of \
`[data]`; what is drawn from it here is left out of training."""
    num_marks: Annotated[int, Field(ge=1, le=1000)] = 10
    """Evaluations during the run, at equal shares of its budget, plus one before the first step."""


class SelectSection(Section):
    """Which training problems are kept, by how often the policy solves them before training."""

    num_samples: Annotated[int, Field(ge=1, le=1024)] = 4
    """Trajectories per problem, with the strategy and token limits of `rollout` and the temperature of `evaluation`."""
    min_pass_rate: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Problems that are solved less often are left out; by default those that are never solved."""
    max_pass_rate: Annotated[float, Field(ge=0, le=1)] = 0.99
    """Problems that are solved more often are left out; by default those that are always solved."""

    @model_validator(mode="after")
    def _has_room(self) -> Self:
        if self.min_pass_rate > self.max_pass_rate:
            raise ValueError(
                f"min_pass_rate = {self.min_pass_rate:g} is above max_pass_rate = {self.max_pass_rate:g}: no problem "
                f"would be left"
            )
        return self


class SkipSection(Section):
    """Which training problems are left out for a while, by how they came out in the run so far."""

    after: PositiveInt = 2
    """Leave a problem out once its group had no signal in this many visits in a row."""
    visits: PositiveInt = 2
    """Of its next visits so many are left to other problems, drawn with the seed. Then it is asked again and, if its \
group has no signal again, left out for as many."""


class DataSection(_ColumnsSection):
    """The training problems."""

    train: Annotated[str, Field(min_length=1)]
    """As `source` of a benchmark: a known name or a file."""
    curriculum: PositiveInt | None = None
    """For `reasoning_gym` tasks: begin with the easiest level of the package's curriculum for the task, and move to \
the next after this many training steps, up to the hardest. `num_problems` are then shared out among the levels. By \
default all problems have the difficulty that `options` say."""
    raise_above: Annotated[float, Field(gt=0, le=1)] | None = None
    """With `curriculum`: move up only when the mean accuracy over the last `curriculum` steps at this level is at \
least this; by default always."""
    lower_below: Annotated[float, Field(gt=0, lt=1)] | None = None
    """With `raise_above`: go back to the level before when that mean is below this; by default never."""
    select: SelectSection | None = None
    """A table `[data.select]` with the keys below: measure the pass rate of every training problem before the first \
step, and train on those within bounds; by default all are trained. Further runs with the same model, problems, \
prompt, limits, sampling and seed read the rates from the cache, and wait for them where another run is measuring \
them, unless the recipe names code of your own. The tokens and seconds of the selection are taken off `until_tokens` \
and `until_seconds`."""
    skip: SkipSection | None = None
    """A table `[data.skip]` with the keys below: leave out for a while problems whose groups had no signal the last \
times that they were asked; by default each has its turn in every epoch."""
    refill: Annotated[int, Field(ge=0, le=1024)] = 0
    """Most extra problems that a step samples to replace groups without signal, as many at a time as are missing \
(DAPO's dynamic sampling). Their tokens count towards the budget. 0 is off."""

    @property
    def changes_problems(self) -> bool:
        """Whether later steps ask easier or harder problems than earlier ones: their accuracies are not comparable."""
        return self.skip is not None or self.curriculum is not None

    def as_source(self) -> SourceSection:
        """The same description in the form that benchmarks have."""
        own = {"train", "select", "curriculum", "raise_above", "lower_below", "skip", "refill"}
        return SourceSection(**{"source": self.train, **self.model_dump(exclude=own)})
