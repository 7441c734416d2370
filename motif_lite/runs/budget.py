"""How far a run has come: by steps, and where the recipe says so by generated tokens or by seconds.

A budget is spent once its first limit is reached. All figures are those that the run has written down, so a resumed
run knows what was spent before it. Evaluation costs nothing here. What prepares training does (`preparing`): its tokens
and seconds are taken off the limits, and shares are those of what is left for the steps.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from motif_lite.recipe.training import TrainingSection
from motif_lite.runs.costs import NOTHING, Cost, Costs, total
from motif_lite.runs.records import StepMetrics


@dataclass(frozen=True, slots=True)
class Spent:
    """What training has taken so far.

    Attributes:
        tokens: Generated, openings and futures, and to prepare training.
        seconds: Of all phases of its steps, and of what prepared them.
        preparing: What that took of both.
    """

    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0
    preparing: Cost = NOTHING

    def and_step(self, tokens: Mapping[str, int], seconds: Mapping[str, float]) -> "Spent":
        """With one more step, whose figures are given by phase."""
        return Spent(
            self.steps + 1, self.tokens + sum(tokens.values()), self.seconds + sum(seconds.values()), self.preparing
        )


def spent(metrics: Iterable[StepMetrics], preparing: Costs | None = None) -> Spent:
    """What the lines of metrics.jsonl add up to.

    Args:
        preparing: What was done before the first step took, by phase.
    """
    before = total(preparing or {})
    so_far = Spent(0, before.generated_tokens, before.seconds, before)
    for line in metrics:
        so_far = so_far.and_step(line.tokens, line.seconds)
    return so_far


def share_done(training: TrainingSection, so_far: Spent) -> float:
    """From 0 to 1: the share of the limit that is nearest; 1 as well where what prepares it leaves nothing."""
    shares, before = [so_far.steps / training.max_steps], so_far.preparing
    if training.until_tokens is not None:
        shares.append(_share(so_far.tokens, before.generated_tokens, training.until_tokens))
    if training.until_seconds is not None:
        shares.append(_share(so_far.seconds, before.seconds, training.until_seconds))
    return min(1.0, max(shares))


def _share(so_far: float, before: float, limit: float) -> float:
    return (so_far - before) / (limit - before) if limit > before else 1.0


def learning_rate_factor(training: TrainingSection, share: float) -> float:
    """What the learning rate is multiplied by once this share of the budget is spent.

    The schedules of transformers, over a budget instead of over steps.
    """
    warmup = training.warmup_fraction
    if share < warmup and training.lr_schedule != "constant":
        return share / warmup
    left = (1 - share) / (1 - warmup)
    match training.lr_schedule:
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * (1 - left)))
        case "linear":
            return left
        case _:
            return 1.0
