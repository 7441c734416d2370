"""Measurements that are run by hand: see docs/measurements.md."""
