"""The explorer: every rollout of a run as a page, in one file or served while the run trains."""
