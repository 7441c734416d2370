"""Telling a lack of memory from other errors, and what to do first."""

import gc

import torch

from motif_lite.planning.machine import says_that_an_allocation_failed

MEMORY_ERRORS = (RuntimeError, MemoryError)
"""What a lack of memory is raised as, with much else."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether an allocation failed: on a GPU it has a class of its own, on a CPU each library has its own words."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and says_that_an_allocation_failed(error)


def free_memory_of(error: Exception) -> None:
    """Free the tensors of the failed call: the frames of its traceback hold them."""
    error.__traceback__ = None
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
