"""Is this machine fit for a run, and what is to be done where it is not."""
