"""The table of backends.

Each is imported when a recipe chooses it: it needs packages that the others do not, and Unsloth must be imported
before transformers.
"""

from importlib import import_module

from motif_lite.policies.protocol import Backend

BACKENDS: dict[str, str] = {
    "unsloth": "motif_lite.policies.unsloth_policy:UnslothPolicy",
    "transformers": "motif_lite.policies.transformers_policy:TransformersPolicy",
    "server": "motif_lite.policies.server.policy:ServerPolicy",
}


def backend(name: str) -> Backend:
    """The class behind a name in `BACKENDS`, with all that it imports.

    Raises:
        MissingHardwareError: It needs a GPU or a package that is not here.
    """
    module, _, class_name = BACKENDS[name].partition(":")
    found: Backend = getattr(import_module(module), class_name)
    return found
