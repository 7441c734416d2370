"""The table of backends.

Each is imported when a recipe chooses it: it needs packages that the others do not, and Unsloth must be imported
before transformers.
"""

import os
from importlib import import_module

from motif_lite.errors import MissingHardwareError
from motif_lite.policies.protocol import Backend
from motif_lite.recipe.schema import Recipe

BACKENDS: dict[str, str] = {
    "unsloth": "motif_lite.policies.unsloth_policy:UnslothPolicy",
    "transformers": "motif_lite.policies.transformers_policy:TransformersPolicy",
    "server": "motif_lite.policies.server.policy:ServerPolicy",
}


def require_device(recipe: Recipe) -> None:
    """Refuse a device that the recipe's backend cannot work on, without importing it.

    Raises:
        MissingHardwareError: It is the processor, and the backend works on the GPU.
    """
    wants_cpu = recipe.model.backend == "unsloth" and recipe.model.device == "cpu"
    if wants_cpu and os.environ.get("UNSLOTH_FORCE_CPU") != "1":
        raise MissingHardwareError(
            "model.device = 'cpu', but model.backend = 'unsloth' works on the GPU; set model.device to 'auto', or "
            "model.backend to 'transformers'"
        )


def backend(name: str) -> Backend:
    """The class behind a name in `BACKENDS`, with all that it imports.

    Raises:
        MissingHardwareError: It needs a GPU or a package that is not here.
    """
    module, _, class_name = BACKENDS[name].partition(":")
    found: Backend = getattr(import_module(module), class_name)
    return found
