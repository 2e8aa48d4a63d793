"""Why a connection failed, in a few words for people.

What belongs here: reading the errors of sockets, of TLS and of the system. What does not: the sentences around it.
Imports no HTTP: a command that is a client of the gateway says it in the same words and starts at once.
"""

from __future__ import annotations

import os
import socket
import ssl


def why(error: BaseException | None) -> str:
    """In a few words, why a connection failed."""
    match error:
        case None:
            return "it closed the connection"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted: {error.verify_message.rstrip('.')}"
        case ssl.SSLError():
            return f"no TLS: {error.reason or 'the handshake broke off'}"
        case socket.gaierror():
            return error.strerror or "its name is unknown"
        case OSError(errno=int(number)):
            return os.strerror(number)
        case ConnectionError():
            return "the connection was closed"
        case _:
            return type(error).__name__
