"""Will it fit, how wide, how long: a plan of a recipe on a machine, made without torch and before any download.

`memory.py` says what each phase needs; here it is held against the machine. Where the recipe says ``auto``, the plan
chooses the widest batches that fit, and training uses what it chose. Where a recipe does not fit, the plan looks for
the smallest changes that make it: first those that cost time only, then those that change what is learned.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from motif_lite.credits.table import credit_of
from motif_lite.planning import memory, precision, shapes
from motif_lite.planning.machine import GIB, Machine
from motif_lite.planning.memory import Estimate
from motif_lite.planning.rows import (
    Lengths,
    bounds_openings,
    dequantises,
    futures_per_step,
    measured,
    replies_in_round,
)
from motif_lite.planning.shapes import ModelShape
from motif_lite.planning.speeds import Speed, assumed
from motif_lite.planning.timing import share, step_seconds
from motif_lite.recipe.keys import changed
from motif_lite.recipe.schema import Recipe, decided

_USABLE = 0.95
"""Share of the memory that a plan may fill; allocators never fill all of it."""

_WIDEST = 512
"""More sequences than this in one call gain nothing worth having."""

Changes = dict[str, Any]
"""New values by the dotted path of their key."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A recipe with every ``auto`` decided, and what it needs.

    Attributes:
        recipe: As given, with numbers for ``auto``.
        shape: Of the model.
        num_tokens: Generated in one step, by phase, if every reply runs to its limit.
        speed: Of the machine, assumed or measured.
        seconds: Of one step, by phase, under the same condition.
        processes: That share the run: memory is that of each, and seconds are those of all together.
        changes: The smallest changes that make it fit; empty where it fits, None where none were found.
    """

    recipe: Recipe
    shape: ModelShape
    machine: Machine
    estimate: Estimate
    num_tokens: dict[str, int]
    speed: Speed
    seconds: dict[str, float]
    changes: Changes | None
    processes: int = 1

    @property
    def usable_bytes(self) -> int:
        """What the phases may fill."""
        return _usable(self.machine)

    @property
    def fits(self) -> bool:
        """Whether every phase does."""
        return self.estimate.peak <= self.usable_bytes

    @property
    def shortage(self) -> str:
        """What does not fit, in a sentence without its end."""
        over = [phase for phase in self.estimate.phases if self.estimate.total(phase) > self.usable_bytes]
        needs = ", ".join(f"{phase} {self.estimate.total(phase) / GIB:.1f}" for phase in over)
        return f"does not fit: {needs} GiB needed, {self.usable_bytes / GIB:.1f} usable on {self.machine.name}"

    @property
    def remedy(self) -> str:
        """What to do where it does not fit."""
        if self.changes is None:
            return "nothing in the recipe makes it fit; choose a smaller model"
        return f"the smallest changes that make it fit: {self.flags}"

    @property
    def flags(self) -> str:
        """`changes` to paste behind the command."""
        return " ".join(f"--set {key}={_toml(value)}" for key, value in (self.changes or {}).items())


def make(
    recipe: Recipe,
    shape: ModelShape,
    machine: Machine,
    *,
    trains: bool = True,
    speed: Speed | None = None,
    processes: int = 1,
) -> Plan:
    """Decide what the recipe leaves open, and say what it needs.

    Args:
        trains: It is not for an evaluation alone.
        speed: Of the machine, where it was measured.
        processes: That share the run; machine and speed are those of each.
    """
    speed = speed or assumed(machine)
    chosen = _chosen(recipe, shape, machine)
    estimate = memory.estimate(chosen, shape, machine, trains=trains)
    fits = estimate.peak <= _usable(machine)
    return Plan(
        recipe=chosen,
        shape=shape,
        machine=machine,
        estimate=estimate,
        num_tokens=num_tokens(chosen, Lengths.worst(chosen)),
        speed=speed,
        seconds=step_seconds(share(chosen, processes), shape, machine.device, speed),
        changes={} if fits else _smallest_changes(recipe, shape, machine, trains),
        processes=processes,
    )


def _usable(machine: Machine) -> int:
    return int(_USABLE * machine.memory_gib * GIB)


def _chosen(recipe: Recipe, shape: ModelShape, machine: Machine) -> Recipe:
    """The recipe with the largest numbers that fit for ``auto``, and the smallest where none fits."""
    width, micro_batch = recipe.rollout.max_width, recipe.training.micro_batch_size
    given = {"rollout.max_width": width, "training.micro_batch_size": micro_batch}
    decided_now = {key: 1 for key, value in given.items() if value == "auto"}
    trial = changed(recipe, decided_now | precision.decisions(recipe, machine.device))

    def fits(larger: Recipe, phases: set[str]) -> bool:
        estimate = memory.estimate(larger, shape, machine)
        return all(estimate.total(phase) <= _usable(machine) for phase in phases & estimate.phases.keys())

    def with_largest(key: str, candidates: list[int], phases: set[str]) -> Recipe:
        for size in candidates:
            larger = changed(trial, {key: size})
            if fits(larger, phases):
                return larger
        return trial

    def widest(changes: Changes) -> Recipe:
        nonlocal trial
        trial = changed(trial, changes)
        if width != "auto":
            return trial
        openings = {"openings"} if bounds_openings(recipe, shape) else set()
        return with_largest("rollout.max_width", _widths(recipe), {"futures", "warm start", "evaluation"} | openings)

    frugal = _frugal_weights(trial, shape) if recipe.rollout.weights == "auto" else None
    if frugal:
        narrow, wide = (widest({"rollout.weights": weights}) for weights in (frugal, "16bit"))
        trial = narrow if _narrows(wide, narrow) or not fits(wide, _held_in_16_bits(wide, machine)) else wide
    else:
        trial = widest({})
    if micro_batch == "auto":
        trial = with_largest("training.micro_batch_size", _micro_batches(recipe), {"update"})
    return trial


def _frugal_weights(recipe: Recipe, shape: ModelShape) -> str | None:
    """How weights are held where there is no memory for those in 16 bits; None where there are none of these."""
    if dequantises(recipe, shape):
        return "4bit"
    return "32bit" if recipe.rollout.weights == "16bit" else None


def _held_in_16_bits(recipe: Recipe, machine: Machine) -> set[str]:
    """The phases in which there are weights in 16 bits: a second copy on a CPU stays."""
    generating = {"openings", "futures", "warm start", "evaluation"}
    return generating | ({"imitation", "update"} if precision.writes_in_bf16(recipe, machine.device) else set())


_WORTH_WRITING_OUT = 32
"""Replies at a time that weights in 16 bits must leave memory for: a step is as long for fewer."""


def _narrows(wide: Recipe, narrow: Recipe) -> bool:
    """Whether weights in 16 bits leave memory for too few replies at a time."""
    widths = decided(wide.rollout.max_width), decided(narrow.rollout.max_width)
    return widths[0] < min(_WORTH_WRITING_OUT, widths[1])


def _micro_batches(recipe: Recipe) -> list[int]:
    """Sizes that divide the rows of a step, the largest first."""
    rows = credit_of(recipe).trained_per_step(recipe)
    return [size for size in range(rows, 0, -1) if rows % size == 0]


def _widths(recipe: Recipe) -> list[int]:
    """Powers of two up to what training and evaluation can use, the largest first."""
    futures = futures_per_step(recipe)
    problems = [each.num_trajectories for trains in (True, False) for each in measured(recipe, trains=trains)]
    if recipe.warm_start is not None:
        problems.append(recipe.warm_start.num_problems)
    useful = min(_WIDEST, max([futures, *problems]))
    return [2**power for power in range(math.ceil(math.log2(useful)), -1, -1)]


def num_tokens(recipe: Recipe, lengths: Lengths) -> dict[str, int]:
    """Generated in one step, by phase."""
    rollout, rows = recipe.rollout, recipe.openings_per_step
    num_rounds = rollout.num_rounds if rollout.strategy != "single_round" else 1
    later = sum(replies_in_round(recipe, round_number) for round_number in range(2, num_rounds + 1))
    return {"openings": rows * lengths.opening, "futures": later * lengths.future}


def _smallest_changes(recipe: Recipe, shape: ModelShape, machine: Machine, trains: bool) -> Changes | None:
    """Walk down the ladder of `_STEPS` until the plan fits, then climb back wherever that is possible."""

    def fits(changes: Changes) -> bool:
        trial = changed(recipe, changes)
        its_shape = shapes.of(trial.model.name) if "model.name" in changes else shape
        chosen = _chosen(trial, its_shape, machine)
        return memory.estimate(chosen, its_shape, machine, trains=trains).peak <= _usable(machine)

    changes: Changes = {}
    for key, candidates in _STEPS:
        for value in candidates(recipe):
            changes[key] = value
            if fits(changes):
                return _climbed_back(recipe, changes, fits)
    return None


def _climbed_back(recipe: Recipe, changes: Changes, fits: Callable[[Changes], bool]) -> Changes:
    """Undo or soften each change, those that matter most to what is learned first."""
    for key, candidates in reversed(_STEPS):
        if key in changes:
            others = {other: value for other, value in changes.items() if other != key}
            milder = ({**others, key: value} for value in candidates(recipe))
            changes = others if fits(others) else next(filter(fits, milder))
    return changes


def _halvings(value: int, least: int) -> Iterator[int]:
    while value // 2 >= least:
        value //= 2
        yield value


def _smaller_weights(recipe: Recipe) -> Iterator[str]:
    smaller = "4bit" if recipe.model.load_in_4bit else "32bit"
    return iter((smaller,) if recipe.rollout.weights == "16bit" else ())


def _smaller_widths(recipe: Recipe) -> Iterator[int]:
    width = recipe.rollout.max_width
    return iter(()) if width == "auto" else _halvings(width, 1)


def _smaller_micro_batches(recipe: Recipe) -> Iterator[int]:
    size = recipe.training.micro_batch_size
    return iter(()) if size == "auto" else (smaller for smaller in _micro_batches(recipe) if smaller < size)


def _more_logit_chunks(recipe: Recipe) -> Iterator[int]:
    return iter((4, 16) if recipe.model.backend == "unsloth" and recipe.training.logit_chunks is None else ())


def _smaller_shares(recipe: Recipe) -> Iterator[float]:
    shares = (0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
    given = recipe.model.gpu_memory_utilization
    return (share for share in shares if recipe.model.fast_inference and share < given)


def _smaller_models(recipe: Recipe) -> Iterator[str]:
    family, name = [f"Qwen/Qwen2.5-{size}-Instruct" for size in ("7B", "3B", "1.5B", "0.5B")], recipe.model.name
    return iter(family[family.index(name) + 1 :] if name in family else ())


_STEPS: list[tuple[str, Callable[[Recipe], Iterator[Any]]]] = [
    # these cost time only
    ("rollout.weights", _smaller_weights),
    ("rollout.max_width", _smaller_widths),
    ("training.micro_batch_size", _smaller_micro_batches),
    ("training.gradient_checkpointing", lambda recipe: iter(() if recipe.training.gradient_checkpointing else (True,))),
    ("training.logit_chunks", _more_logit_chunks),
    ("model.gpu_memory_utilization", _smaller_shares),
    # these change what is learned, from next to nothing to everything
    ("training.optimizer", lambda recipe: iter(("adamw_8bit", "paged_adamw_8bit"))),
    ("model.load_in_4bit", lambda recipe: iter(() if recipe.model.load_in_4bit else (True,))),
    ("training.problems_per_step", lambda recipe: _halvings(recipe.training.problems_per_step, 1)),
    ("lora.rank", lambda recipe: _halvings(recipe.lora.rank, 8)),
    ("rollout.futures.max_tokens", lambda recipe: _halvings(recipe.rollout.futures.max_tokens, 256)),
    ("rollout.openings.max_tokens", lambda recipe: _halvings(recipe.rollout.openings.max_tokens, 256)),
    ("rollout.max_prompt_tokens", lambda recipe: _halvings(recipe.rollout.max_prompt_tokens, 256)),
    ("model.name", _smaller_models),
]
"""What can be made smaller, the least painful first, with the values to try in order."""


def _toml(value: object) -> str:
    if isinstance(value, str):
        return f"'\"{value}\"'"  # the shell takes the outer quotes
    return str(value).lower() if isinstance(value, bool) else str(value)
