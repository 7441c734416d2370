"""The kinds of sources. To add one: a module with a class like `base.Rows` or `base.Generator`, and a line here."""

from motif_lite.tasks.sources.base import Generator, Rows
from motif_lite.tasks.sources.chain_sums import ChainSums
from motif_lite.tasks.sources.data_files import DataFiles
from motif_lite.tasks.sources.gym import Gym
from motif_lite.tasks.sources.hub import HubDatasets
from motif_lite.tasks.sources.own_functions import OwnFunctions

FILES = DataFiles()

KINDS: tuple[Rows | Generator, ...] = (OwnFunctions(), HubDatasets(), ChainSums(), Gym(), FILES)
"""In the order in which they are asked whether they take a source; files take what is left."""


def kind_of(name: str) -> Rows | Generator:
    """The kind of a source."""
    return next(kind for kind in KINDS if kind.takes(name))


def known_names() -> list[str]:
    """Names that can be chosen from; files and functions have theirs from the user."""
    return [name for kind in KINDS for name in kind.names()]
