"""The public port: one address, shared by all replicas of a machine."""

from __future__ import annotations

import socket

from segment_do.errors import SettingsError

__all__ = ["open_socket"]


def open_socket(host: str, port: int, *, shared: bool = True) -> socket.socket:
    """The listening socket, shared with the other replicas of this machine; or one that bears no other beside it.

    Raises:
        SettingsError: the address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind((host, port))
        listening.listen(2048)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise SettingsError(
            f"Cannot listen on {host}:{port}: {error.strerror}.", hint="Choose another port with SEGMENT_DO_PORT."
        ) from error
    return listening
