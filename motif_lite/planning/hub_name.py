"""Names on the hub."""

import re

_PART = r"[A-Za-z0-9][\w.-]*"


def is_full(name: str) -> bool:
    """Whether it has the form ``OWNER/NAME``."""
    return re.fullmatch(f"{_PART}/{_PART}", name) is not None


def is_new(name: str) -> bool:
    """Whether the hub takes it for a new repository: ``OWNER/NAME``, or ``NAME`` among one's own."""
    has_form = re.fullmatch(f"(?:{_PART}/)?{_PART}", name) is not None
    return has_form and len(name) <= 96 and "--" not in name and ".." not in name
