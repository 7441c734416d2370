"""Sampling openings, and whole trajectories for evaluation."""

from collections.abc import Sequence

from motif_lite.nouns import Problem, Sampling, Trajectory, Turn
from motif_lite.policies.protocol import Policy
from motif_lite.rollout.rollouts import OnRound, derive_seed
from motif_lite.rollout.strategies import Strategy


def write_openings(
    policy: Policy,
    strategy: Strategy,
    problems: Sequence[Problem],
    sampling: Sampling,
    *,
    seed: int,
    start: int = 0,
    on_round: OnRound | None = None,
) -> list[tuple[Problem, Turn]]:
    """One opening per problem; those of equal problems are fastest next to each other.

    Args:
        start: Number of the first one, see `Strategy.continue_openings`.
    """
    rendered = [policy.render(strategy.first_messages(problem)) for problem in problems]
    on_progress = on_round(1, strategy.num_rounds, len(problems)) if on_round else None
    seeds = [derive_seed(seed, "round", 1, opening) for opening in range(start, start + len(rendered))]
    written = policy.generate(rendered, sampling, seeds=seeds, on_progress=on_progress)
    return [(problem, Turn(prompt, reply)) for problem, prompt, reply in zip(problems, rendered, written, strict=True)]


def think(
    policy: Policy,
    strategy: Strategy,
    problems: Sequence[Problem],
    openings: Sampling,
    futures: Sampling,
    *,
    seed: int,
    start: int = 0,
    on_round: OnRound | None = None,
) -> list[Trajectory]:
    """One whole trajectory per problem, all rounds: what evaluation measures.

    Args:
        start: Number of the first problem; what is thought is the same in one call for all and in several for parts.
    """
    first = write_openings(policy, strategy, problems, openings, seed=seed, start=start, on_round=on_round)
    rollouts = strategy.continue_openings(policy, first, 1, futures, seed=seed, start=start, on_round=on_round)
    return [opening.futures[0] for opening in rollouts.openings]
