"""run.log: what libraries had to say."""

import logging
from pathlib import Path


class _LogFile(logging.FileHandler):
    """A file that may stop being writable without anything else going wrong."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Say nothing: what logging prints of it would be logged."""


def handler(path: Path) -> logging.Handler:
    """A handler that appends to the file."""
    found = _LogFile(path, encoding="utf-8", errors="backslashreplace")
    found.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    return found
