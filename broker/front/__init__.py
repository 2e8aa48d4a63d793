"""The front door: what any connection may take of the broker before anybody knows who asks, and for how long.

listener (where clients connect to) · connection (one client's, and the server of them) ← workers (the same where
several processes share the listener) · cycle (a request and its answer). What belongs here: HTTP/1.1 as bytes, and the
process that listens. What does not: what a request says and what is answered to it (`broker.gateway`, `broker.web`),
when the broker stops (`broker.app`).
"""

from __future__ import annotations

from broker.front.connection import Connection, Server, allow_many_connections
from broker.front.listener import listening
from broker.front.workers import Place, SharedConnection, places, taking, worker_of

__all__ = [
    "Connection",
    "Place",
    "Server",
    "SharedConnection",
    "allow_many_connections",
    "listening",
    "places",
    "taking",
    "worker_of",
]
