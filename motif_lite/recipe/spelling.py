"""Suggestions for misspelled names."""

import difflib
from collections.abc import Collection


def nearest(name: str, known: Collection[str]) -> str:
    """`` (did you mean ...?)`` where a known name is spelled similarly, otherwise nothing."""
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
