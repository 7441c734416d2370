"""Recipes: what a run depends on, read from TOML, checked at once, then frozen."""
