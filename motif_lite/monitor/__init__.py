"""Warnings: what goes wrong in training, found in its metrics."""
