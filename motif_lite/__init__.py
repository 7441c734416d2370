"""MOTIF on one consumer GPU: GRPO that rewards a first round of thinking by the futures it leads to."""

__version__ = "0.1.0"
