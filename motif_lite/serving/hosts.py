"""Names of this machine that no other machine can use."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether a host, without brackets or port, is ``localhost`` or a loopback address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
