"""GRPO with TRL: options, steps, checkpoints, metrics."""
