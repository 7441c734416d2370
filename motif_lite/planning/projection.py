"""What a whole run will take, from the seconds of one group of openings.

The plan says how much longer a whole step takes than one group, and what an evaluation takes beside it; the group says
how fast this machine and these replies really are. Without a plan, replies and rows are counted instead.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from motif_lite.credits.table import credit_of
from motif_lite.planning import planner
from motif_lite.planning.planner import Plan
from motif_lite.planning.rows import Lengths, replies_in_round
from motif_lite.planning.timing import share, step_seconds, thinking_seconds
from motif_lite.recipe.schema import Recipe


@dataclass(frozen=True, slots=True)
class Evaluated:
    """Something that a run measures.

    Attributes:
        label: For people.
        num_trajectories: Problems times samples, at each of `times`.
        num_rounds: Of each trajectory.
        times: How often it is measured in the whole run.
        takes_budget: Its tokens and seconds are some of those that the recipe allows. Of a warm start each solution
            counts as long as an opening.
    """

    label: str
    num_trajectories: int
    num_rounds: int
    times: int
    takes_budget: bool = False


@dataclass(frozen=True, slots=True)
class Projection:
    """Seconds of a whole run.

    Attributes:
        step: Of one step, by phase.
        num_steps: Of the run: its limit, or as many as will spend its budget.
        training: Of all steps.
        evaluation: By what is measured, every time it is.
    """

    step: dict[str, float]
    num_steps: int
    training: float
    evaluation: dict[str, float]

    @property
    def total(self) -> float:
        """Training and evaluation."""
        return self.training + sum(self.evaluation.values())


def planned(plan: Plan, evaluated: Sequence[Evaluated], lengths: Lengths) -> Projection:
    """The plan of a whole run, before anything is measured.

    Args:
        lengths: Of prompts and replies.
    """
    recipe, shape, device, speed = plan.recipe, plan.shape, plan.machine.device, plan.speed
    step = step_seconds(share(recipe, plan.processes), shape, device, speed, lengths)

    def seconds(each: Evaluated) -> float:
        num_trajectories = math.ceil(each.num_trajectories / plan.processes)
        return sum(thinking_seconds(recipe, shape, device, speed, num_trajectories, each.num_rounds, lengths))

    evaluation = {each.label: each.times * seconds(each) for each in evaluated} | _imitating(recipe, step)
    taken = [each for each in evaluated if each.takes_budget]
    left = _Left(
        recipe,
        tokens=sum(
            each.num_trajectories * (lengths.opening + (each.num_rounds - 1) * lengths.future) for each in taken
        ),
        seconds=sum(evaluation[each.label] for each in taken) + evaluation.get(_STEPS, 0.0),
    )
    num_steps = left.num_steps(sum(step.values()), sum(planner.num_tokens(recipe, lengths).values()))
    return Projection(step=step, num_steps=num_steps, training=left.training(num_steps, step), evaluation=evaluation)


def project(
    recipe: Recipe,
    group: Recipe,
    seconds: Mapping[str, float],
    num_tokens: int,
    evaluated: Sequence[Evaluated],
    plan: Plan | None,
) -> Projection:
    """Extrapolate from one group.

    Args:
        group: The recipe of one step on one problem that was measured.
        seconds: What that step took, by phase.
        num_tokens: That it generated.
        plan: Of the recipe.
    """
    problems, costs = recipe.training.problems_per_step, _step_costs(group, plan)
    pace = {phase: seconds.get(phase, 0.0) / cost for phase, cost in costs.items() if cost}
    step = {phase: pace.get(phase, 0.0) * cost for phase, cost in _step_costs(recipe, plan).items()}
    step["grading"] = seconds.get("grading", 0.0) * problems
    evaluation = {each.label: each.times * _thinking(recipe, each, pace, plan) for each in evaluated}
    evaluation |= _imitating(recipe, step)
    taken = [each for each in evaluated if each.takes_budget]
    trajectories = group.rollout.num_openings * credit_of(group).futures_per_opening(group)
    left = _Left(
        recipe,
        tokens=sum(each.num_trajectories for each in taken) * num_tokens // trajectories,
        seconds=sum(evaluation[each.label] for each in taken) + evaluation.get(_STEPS, 0.0),
    )
    num_steps = left.num_steps(sum(step.values()), num_tokens * problems)
    return Projection(step=step, num_steps=num_steps, training=left.training(num_steps, step), evaluation=evaluation)


_STEPS = "supervised steps"


def _imitating(recipe: Recipe, step: Mapping[str, float]) -> dict[str, float]:
    """Seconds of a warm start's supervised steps: an example takes as long as a row of the update."""
    section = recipe.warm_start
    if section is None:
        return {}
    rows = credit_of(recipe).trained_per_step(recipe) * recipe.training.num_iterations
    return {_STEPS: step["update"] / rows * section.num_steps * section.examples_per_step}


@dataclass(frozen=True, slots=True)
class _Left:
    """What a recipe's limits leave for its steps.

    Attributes:
        tokens: That something else takes of them, as are the seconds.
    """

    recipe: Recipe
    tokens: int
    seconds: float

    def num_steps(self, step_seconds: float, step_tokens: int) -> int:
        """As many as will spend what is left."""
        training, limits = self.recipe.training, [self.recipe.training.max_steps]
        if training.until_tokens is not None:
            limits.append(math.ceil(max(0, training.until_tokens - self.tokens) / max(1, step_tokens)))
        if training.until_seconds is not None and step_seconds:
            limits.append(math.ceil(max(0.0, training.until_seconds - self.seconds) / step_seconds))
        return min(limits)

    def training(self, num_steps: int, step: Mapping[str, float]) -> float:
        """Seconds of so many steps."""
        limit = self.recipe.training.until_seconds
        return min(num_steps * sum(step.values()), math.inf if limit is None else max(0.0, limit - self.seconds))


def _step_costs(recipe: Recipe, plan: Plan | None) -> dict[str, float]:
    """Of a step, by phase: only their ratios to those of other recipes count."""
    if plan is not None:
        return step_seconds(recipe, plan.shape, plan.machine.device, plan.speed)
    num_rounds = recipe.rollout.num_rounds if recipe.rollout.strategy != "single_round" else 1
    return {
        "openings": float(recipe.openings_per_step),
        "futures": float(sum(replies_in_round(recipe, number) for number in range(2, num_rounds + 1))),
        "update": float(credit_of(recipe).trained_per_step(recipe)),
    }


def _thinking(recipe: Recipe, each: Evaluated, pace: Mapping[str, float], plan: Plan | None) -> float:
    """Seconds of one measurement; later rounds go as fast as futures did, or where there were none as openings."""
    first, later = float(each.num_trajectories), float(each.num_trajectories * (each.num_rounds - 1))
    if plan is not None:
        first, later = thinking_seconds(
            recipe, plan.shape, plan.machine.device, plan.speed, each.num_trajectories, each.num_rounds
        )
    return pace["openings"] * first + pace.get("futures", pace["openings"]) * later
