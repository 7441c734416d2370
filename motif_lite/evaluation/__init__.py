"""Accuracy with its cost and its interval."""
