"""What a run is told about its plan: what the plan decided to its disadvantage, and what takes memory beside it."""

from collections.abc import Iterator

from motif_lite.planning.planner import Plan
from motif_lite.recipe.schema import Recipe


def remarks(given: Recipe, plan: Plan) -> Iterator[str]:
    """Each without an end.

    Args:
        given: The recipe that was planned, with its ``auto``.
    """
    decided = plan.recipe.rollout
    if given.rollout.weights == "auto" and decided.weights == "32bit":
        yield (
            "replies are generated in 32 bits: there is no memory for the weights in 16 bits beside them "
            "(rollout.weights)"
        )
    if given.rollout.weights == "auto" and decided.weights == "4bit":
        yield (
            f"4-bit weights are dequantised at every token step: there is no memory for them in 16 bits beside "
            f"{decided.max_width} replies at a time (rollout.weights, rollout.max_width)"
        )
    if plan.machine.remark:
        yield f"{plan.machine.name}: {plan.machine.remark}"
