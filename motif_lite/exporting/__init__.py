"""A trained model in forms that other programs load, each checked against adapter and base before it counts as done."""
