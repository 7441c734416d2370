"""Telling a lack of memory from other errors, and what to do first."""

import gc

import torch


def is_out_of_memory(error: Exception) -> bool:
    """Whether an allocation failed: on a GPU it has a class of its own, on a CPU only words."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def free_memory_of(error: RuntimeError) -> None:
    """Free the tensors of the failed call: the frames of its traceback hold them."""
    error.__traceback__ = None
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
