"""How a problem is thought through: openings, and the futures that continue them; a module per way of thinking.

A strategy turns problems into prompts and replies into trajectories; it never knows how replies are generated.
"""

from motif_lite.rollout.strategies.base import Strategy
from motif_lite.rollout.strategies.multi_round import MultiRound
from motif_lite.rollout.strategies.single_round import SingleRound
from motif_lite.rollout.strategies.table import STRATEGIES, strategy_of

__all__ = ["STRATEGIES", "MultiRound", "SingleRound", "Strategy", "strategy_of"]
