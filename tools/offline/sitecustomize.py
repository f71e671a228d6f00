"""Blocks the network for every Python process that has this folder on its PYTHONPATH.

Python imports `sitecustomize` at start-up, so a notebook's kernel, and whatever Python it starts,
is cut off before its first cell. The audit hook sees each name look-up and each connection of the
socket module, lets loopback and local sockets pass (Jupyter itself talks over loopback) and raises
`NetworkBlockedError` for the rest. An audit hook cannot be removed again.
"""

import ipaddress
import sys


class NetworkBlockedError(OSError):
    """Raised in place of a connection to anything but this machine."""


def _is_local(host: object) -> bool:
    if isinstance(host, bytes):
        host = host.decode()
    if host is None or host in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(str(host)).is_loopback
    except ValueError:
        return False


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        if not isinstance(address, tuple):
            return
        host = address[0]
    else:
        return
    if not _is_local(host):
        raise NetworkBlockedError(
            f"{event} to {host!r} is blocked: notebooks must run without a network "
            "(tools/offline/sitecustomize.py)"
        )


sys.addaudithook(_refuse)
