"""How often each training problem was solved before training: selection.json of a run, and the same in the cache.

A run keeps its own, so that it goes on with the problems that it was begun with. The cache serves further runs that
would measure the same: it is found by all that the figures depend on.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from motif_lite import locks
from motif_lite.errors import RunError
from motif_lite.nouns import Problem
from motif_lite.paths import cache_folder
from motif_lite.recipe.data import SelectSection
from motif_lite.recipe.schema import Recipe
from motif_lite.recipe.section import PositiveInt
from motif_lite.runs import inputs, software
from motif_lite.runs.costs import Cost
from motif_lite.runs.files import read_record, write_record
from motif_lite.runs.records import Versioned

FILE = "selection.json"

_DECIDING = "evaluation", "grading", "policies", "rollout"
"""Folders of this program whose code decides what is replied and whether it is right."""

_REMEDY = "remove it: pass rates are then read from the cache, or measured again"


class PassRates(Versioned):
    """All of selection.json.

    Attributes:
        num_samples: Trajectories of each problem.
        num_correct: By problem, how many of them were right.
        cost: What measuring took.
    """

    num_samples: PositiveInt
    num_correct: dict[str, int]
    cost: Cost

    def of(self, problem: Problem) -> float:
        """The share of a problem's trajectories that were right."""
        return self.num_correct[problem.id] / self.num_samples

    def in_words(self, section: SelectSection) -> str:
        """How many problems lie within a recipe's bounds, below and above them."""
        least, most = section.min_pass_rate, section.max_pass_rate
        rates = [correct / self.num_samples for correct in self.num_correct.values()]
        too_hard, too_easy = sum(rate < least for rate in rates), sum(rate > most for rate in rates)
        return (
            f"{len(rates) - too_hard - too_easy:,} of {len(rates):,} problems have a pass rate between {least:g} and "
            f"{most:g}; {too_hard:,} are solved less often, {too_easy:,} more often"
        )


def kept(root: Path) -> PassRates | None:
    """Those of a run; None where it has measured none yet.

    Raises:
        RunError: The file is damaged.
    """
    return read_record(root / FILE, PassRates, _REMEDY)


def require_all(rates: PassRates, problems: Sequence[Problem], root: Path) -> None:
    """Refuse a run's rates in which a problem is missing.

    Raises:
        RunError: One is.
    """
    missing = [problem.id for problem in problems if problem.id not in rates.num_correct]
    if missing:
        raise RunError(
            f"{root / FILE}: {len(missing)} problems have no pass rate, the first is {missing[0]}; {_REMEDY}"
        )


def keep(root: Path, rates: PassRates) -> None:
    """Write a run's."""
    write_record(root / FILE, rates)


def cached_path(
    recipe: Recipe, model: Mapping[str, str], problems: Sequence[Problem], first_prompt: str, device: str
) -> Path | None:
    """Where the cache has them; None where a recipe has code of the user's own, or its model no sum.

    Args:
        model: The sums of its files.
        first_prompt: As it is rendered, of the first problem.
        device: Its type.
    """
    if recipe.code or not model:
        return None
    assert recipe.data.select is not None
    of_no_matter = {"max_width", "num_openings", "num_futures", "allocation"}
    loaded = {"backend", "dtype", "load_in_4bit", "max_seq_length", "fast_inference"}
    depends_on = {
        "program": _code(),
        "packages": software.installed(),
        "device": device,
        "model": inputs.in_one(model),
        "loaded": recipe.model.model_dump(mode="json", include=loaded),
        "prompt": first_prompt,
        "problems": inputs.of_problems(problems),
        "rollout": recipe.rollout.model_dump(mode="json", exclude=of_no_matter),
        "sampling": [recipe.evaluation.temperature, recipe.evaluation.top_p, recipe.data.select.num_samples],
        "seed": recipe.seed,
    }
    digest = hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()
    return cache_folder() / "pass_rates" / f"{digest[:32]}.json"


@cache
def _code() -> str:
    """The sum of all that decides: a version under development has one number for many."""
    root, found = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(path for folder in _DECIDING for path in (root / folder).rglob("*.py")):
        found.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


@contextmanager
def claimed(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Claim what is about to be put into the cache there.

    Args:
        wait: For the process that has claimed it.

    Yields:
        Whether it is ours.

    Raises:
        OSError: The cache cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with locks.taken(path.with_suffix(".lock"), wait=wait) as (_, is_ours):
        yield is_ours


def cached(path: Path) -> PassRates | None:
    """What the cache has there; a damaged file is as good as none."""
    try:
        return read_record(path, PassRates, "remove it")
    except RunError:
        return None


def put(path: Path, rates: PassRates) -> None:
    """Put them into the cache; runs of a study may do so at once.

    Raises:
        OSError: It cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    own = path.with_suffix(f".{os.getpid()}")
    write_record(own, rates)
    own.replace(path)
