"""The key of an API: of a server that is asked, and of one's own endpoint."""

import os

from motif_lite.errors import ServerError

VARIABLE = "MOTIF_LITE_API_KEY"
"""The environment variable with a server's key; a recipe is kept with its run, and is no place for one."""

WHAT_IT_IS = "ASCII without spaces or control characters"
"""Of every key: it stands in a header of each request."""


def is_key(text: str) -> bool:
    """Whether a header can hold it; an empty text is no key."""
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


def of_environment() -> str | None:
    """The key that `VARIABLE` holds; None where it is not set, or empty.

    Raises:
        ServerError: It is none; the message leaves it out.
    """
    key = os.environ.get(VARIABLE, "")
    if key and not is_key(key):
        raise ServerError(f"{VARIABLE}: a key is {WHAT_IT_IS}; set the variable again, without a line break")
    return key or None
