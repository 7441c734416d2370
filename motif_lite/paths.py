"""Where things lie outside a run directory."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """What can be made again at any time: ``$MOTIF_LITE_CACHE``, or ``motif_lite`` in the user's cache folder."""
    chosen = os.environ.get("MOTIF_LITE_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "motif_lite"
