"""A run directory: its files, and how a run is continued."""
