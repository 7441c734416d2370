"""Credits: which rounds are trained, with which advantage, and what that asks of the rest of a recipe."""
