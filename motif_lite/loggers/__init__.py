"""Training curves for the programs that people look at them with; metrics.jsonl stays the one record of a run."""
