"""Records of a run as numbers by name, and rollouts as rows of a table."""

from collections.abc import Iterator, Mapping

from motif_lite.loggers.base import Figures, Sample
from motif_lite.recipe.schema import Recipe
from motif_lite.rollout.totals import total_reward
from motif_lite.runs.records import Mark, StepMetrics
from motif_lite.runs.rollout_lines import RolloutLine

_MOST_CHARACTERS = 10_000
"""Of a text in a table: no logger shows more."""


def of_step(line: StepMetrics) -> Figures:
    """The numbers of a line of metrics.jsonl, such as ``tokens/openings``; not what it says of single problems."""
    return dict(_flat(line.model_dump(exclude={"version", "step", "visits"}), ""))


def of_mark(mark: Mark) -> Figures:
    """All numbers of a line of validation.jsonl, such as ``validation/accuracy``."""
    return dict(_flat(mark.model_dump(exclude={"version", "step"}), "validation/"))


def sample(recipe: Recipe, line: RolloutLine) -> Sample:
    """An opening as a row."""
    last = line.futures[0].rounds if line.futures else ()
    return Sample(
        problem=_text(line.problem),
        question=_text(line.question),
        gold=_text(line.gold),
        opening=_text(line.opening.reply),
        reward=total_reward(recipe, line.rewards),
        accuracy=line.accuracy,
        final=_text(last[-1].reply if last else line.opening.reply),
    )


def _flat(values: Mapping[str, object], prefix: str) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        match value:
            case int() | float():
                yield f"{prefix}{name}", float(value) if isinstance(value, bool) else value
            case dict():
                yield from _flat(value, f"{prefix}{name}/")
            case tuple():
                yield from _flat({str(number): each for number, each in enumerate(value, start=1)}, f"{prefix}{name}/")


def _text(text: str) -> str:
    """What every format has bytes for: a reply may hold half of a surrogate pair."""
    cut = text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]} (cut)"
    return cut.encode("utf-8", "replace").decode()
