"""The command line, or one message where this Python cannot run it: it is too old, or packages are missing.

Only the standard library is imported here, and nothing that an older Python cannot read.
"""

import platform
import sys

_OLDEST = (3, 11)


def start() -> None:
    """Run the command of the command line; exit with 2 where it cannot begin."""
    if sys.version_info < _OLDEST:
        _give_up("motif_lite needs Python 3.11 or newer", "make an environment with one")
    try:
        from motif_lite.cli import start as begin
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "motif_lite"):
            raise
        files = "-r requirements.txt, or without an NVIDIA GPU -r requirements-cpu.txt"
        _give_up(f"the package {package} is not installed", "activate its environment, or pip install " + files)
    begin()


def _give_up(fault: str, remedy: str) -> None:
    where = f"Python {platform.python_version()}, {sys.executable}"
    print(f"error: {fault} ({where}); {remedy}: see docs/install.md", file=sys.stderr)
    sys.exit(2)
