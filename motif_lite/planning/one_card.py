"""One process, one GPU: which of several it is, and hiding the others from CUDA before PyTorch starts it.

With several visible GPUs TRL's trainer would wrap the model in DataParallel, and Unsloth would turn all to float16
because of an old second one. The processes of one run take the best ones, a GPU each.
"""

import os
from collections.abc import Sequence

from motif_lite.errors import MissingHardwareError
from motif_lite.planning import driver, pytorch
from motif_lite.planning.driver import Gpu
from motif_lite.ranks import ALONE, Ranks
from motif_lite.recipe.schema import Recipe


def choose(recipe: Recipe, gpus: Sequence[Gpu], ranks: Ranks = ALONE) -> Gpu | None:
    """The GPU that `model.device` names, or the best.

    Args:
        ranks: The second of several processes takes the second-best one, and so on.

    Raises:
        MissingHardwareError: There is no GPU of that number.
    """
    device = recipe.model.device
    if not gpus or device == "cpu":
        return None
    if ":" not in device:
        return best_first(gpus)[ranks.number]
    number = int(device.partition(":")[2])
    if number >= len(gpus):
        seen = ", ".join(f"cuda:{index} {gpu.name}" for index, gpu in enumerate(gpus))
        raise MissingHardwareError(f"model.device = 'cuda:{number}', and there are only: {seen}; name one of them")
    return gpus[number]


def best_first(gpus: Sequence[Gpu]) -> list[Gpu]:
    """By kernels of PyTorch's for it, bfloat16 in hardware, memory that is free and speed, in this order."""
    torch = pytorch.installed()

    def worth(gpu: Gpu) -> tuple[bool, bool, int, float]:
        has_kernels = not pytorch.why_no_kernels(torch, gpu.capability)
        speed = gpu.card.gigabytes_per_second if gpu.card else 0.0
        return has_kernels, gpu.has_bfloat16, round((gpu.memory_gib or 0.0) - gpu.used_gib), speed

    return sorted(gpus, key=worth, reverse=True)


def usable(gpus: Sequence[Gpu]) -> list[Gpu]:
    """Those that PyTorch has kernels for, the best first; all where it has none for any."""
    torch, best = pytorch.installed(), best_first(gpus)
    return [gpu for gpu in best if not pytorch.why_no_kernels(torch, gpu.capability)] or best


def use(recipe: Recipe, ranks: Ranks = ALONE) -> str | None:
    """Leave CUDA one GPU; call it before PyTorch starts CUDA.

    Args:
        ranks: Which of several processes this is; there is a GPU for each (`jobs.launching`).

    Returns:
        What was chosen, for people; None where there was no choice.

    Raises:
        MissingHardwareError: There is no GPU of that number, or nvidia-smi does not say which it is.
    """
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # CUDA's numbers are then nvidia-smi's
    asked = driver.ask()
    gpus = asked.gpus
    if ":" in recipe.model.device and not gpus:
        raise MissingHardwareError(f"model.device = {recipe.model.device!r}, and {asked.fault or 'no GPU is visible'}")
    chosen = choose(recipe, gpus, ranks)
    if chosen is None or len(gpus) == 1 or not chosen.uuid:
        return None
    os.environ["CUDA_VISIBLE_DEVICES"] = chosen.uuid
    if ranks.count > 1:
        best = (choose(recipe, gpus, Ranks(number, ranks.count)) for number in range(ranks.count))
        used = ", ".join(f"cuda:{gpus.index(gpu)} {gpu.name}" for gpu in best if gpu is not None)
        return f"this run uses {ranks.count} GPUs: {used}"
    others = ", ".join(f"cuda:{index} {gpu.name}" for index, gpu in enumerate(gpus) if gpu is not chosen)
    return (
        f"this run uses one GPU, cuda:{gpus.index(chosen)} {chosen.name} ({chosen.size}); not used: "
        f'{others}. model.device = "cuda:N" chooses another'
    )
