"""The socket that clients connect to."""

from __future__ import annotations

import socket
from collections.abc import Generator
from contextlib import contextmanager

from broker.errors import SettingsError

VANISHED_AFTER_MS = 30_000
"""How long bytes may stay unacknowledged by a client's machine. Held calls get some every ten seconds."""


@contextmanager
def listening(host: str, port: int) -> Generator[socket.socket]:
    """The socket that people and agents connect to.

    Raises:
        SettingsError: it cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named a TCP socket, or asyncio leaves Nagle's algorithm on, and an answer in two writes waits 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # a caller whose machine vanished is gone too, not waiting
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, VANISHED_AFTER_MS)
        try:
            listener.bind((host, port))
        except OSError as error:
            why = error.strerror or str(error)
            raise SettingsError(f"Cannot listen on {host}:{port}: {why}. Set server.host or server.port.") from error
        listener.listen(1024)
        yield listener
    finally:
        listener.close()
