"""The table of loggers: each is imported when a recipe names it, as it needs a package of its own."""

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec

from motif_lite.errors import MissingHardwareError
from motif_lite.loggers.base import LoggedRun, Logger

LOGGERS: dict[str, str] = {
    "tensorboard": "motif_lite.loggers.tensorboard_logger:TensorBoardLogger",
    "wandb": "motif_lite.loggers.wandb_logger:WandbLogger",
    "trackio": "motif_lite.loggers.trackio_logger:TrackioLogger",
}
"""By the name of the package that each one needs."""


def require(names: Sequence[str]) -> None:
    """Refuse loggers whose packages are missing, before anything is loaded.

    Raises:
        MissingHardwareError: Some are; all are named.
    """
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise MissingHardwareError(
            f"logging: not installed: {', '.join(missing)}; install the versions of requirements-logging.txt "
            f"(pip install -r requirements-logging.txt), or leave them out of logging"
        )


def opened(name: str, run: LoggedRun) -> Logger:
    """A logger of this name, ready to log."""
    module, _, class_name = LOGGERS[name].partition(":")
    found: Logger = getattr(import_module(module), class_name)(run)
    return found
