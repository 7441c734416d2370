"""Thinking in rounds: prompts, openings, futures, and what they earn."""
