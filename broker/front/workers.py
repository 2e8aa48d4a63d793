"""Several processes, the workers, that share one listener: each connection is at the worker that its agent belongs to.

Any worker takes a connection and reads it as ever. When the head of a request is there, its `Authorization` tells whose
it is: what one agent sends is answered by one worker, so its sessions and processes are there. If that is another
worker, the connection goes over to it with what was read of the request. That may come late, too: a proxy sends
requests of many agents over one connection.

What belongs here: whose a connection is, and how it gets there. What does not: starting workers (`broker.cli.workers`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any
from zlib import crc32

from broker.front.connection import Connection, Server
from broker.front.cycle import Whole

log = logging.getLogger(__name__)

LARGEST = 512 * 1024
"""Bytes of a request that go over at most: more than a whole head and what the event loop reads at once."""


class _Elsewhere(Exception):
    """The rest of the request is for another worker."""


@dataclass(frozen=True, slots=True)
class Place:
    """A worker's place among the others. Pickled it is what a process that inherited the `descriptors` has.

    Args:
        number: which it is, from 0.
        listener: where clients connect to; of all workers.
        inbox: where connections come from that others handed on.
        outboxes: what leads to the inbox of each worker, by number.
    """

    number: int
    listener: socket.socket
    inbox: socket.socket
    outboxes: Sequence[socket.socket]

    @property
    def descriptors(self) -> Sequence[int]:
        """All of its sockets."""
        return [one.fileno() for one in (self.listener, self.inbox, *self.outboxes)]

    def __reduce__(self) -> tuple[Callable[..., Place], tuple[Any, ...]]:
        """How it is pickled."""
        return _inherited, (self.number, *self.descriptors)


def worker_of(authorization: bytes, many: int) -> int:
    """The number of the worker, of so many, that a request belongs to; how the scheme is written does not matter."""
    return crc32(authorization.rpartition(b" ")[2]) % many


def _inherited(number: int, *descriptors: int) -> Place:
    for one in descriptors:
        os.set_inheritable(one, False)  # no MCP server gets a connection of ours
    listener, inbox, *outboxes = [socket.socket(fileno=one) for one in descriptors]
    return Place(number, listener, inbox, outboxes)


def places(listener: socket.socket, many: int) -> list[Place]:
    """A place for each of `many` workers on one listener.

    Connections that wait in an inbox outlive the worker that reads it: its successor has the same place.
    """
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(many)]
    for outbox, inbox in pairs:
        outbox.setblocking(False)
        inbox.setblocking(False)
        outbox.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LARGEST)
    return [Place(number, listener, pairs[number][1], [outbox for outbox, _ in pairs]) for number in range(many)]


class SharedConnection(Connection):
    """A connection to a broker of several workers.

    Args:
        place: of this worker.
        begun: what another worker read of the request.
    """

    def __init__(self, place: Place, begun: bytes = b"", **given: Any) -> None:
        super().__init__(**given)
        self._place = place
        self._begun = begun
        self._head: bytes | None = b""  # what came of the request, until its head is whole
        self._torn = False  # whether that may lack its first bytes, which came together with the end of another

    def connection_made(self, transport: asyncio.Transport) -> None:
        """A client came, perhaps by way of another worker."""
        super().connection_made(transport)
        if self._begun:
            self.loop.call_soon(self.data_received, b"")  # not here: reading would go on though a long body stopped it

    def data_received(self, data: bytes) -> None:
        """Read on, what another worker had read first."""
        data, self._begun = self._begun + data, b""
        self._torn = False
        if self._head is not None:
            self._head += data
        super().data_received(data)

    def _repeats(self, whole: Whole) -> bool:
        known = super()._repeats(whole)  # that head was answered here before
        if known:
            self._head = b""
        return known

    def on_headers_complete(self) -> None:
        """It is known whose the request is."""
        if not self.parser.should_upgrade() and self._head is not None:
            worker = self._worker()
            if worker != self._place.number:
                self._hand_on(worker, self._head)
                raise _Elsewhere
            self._head = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The next request may begin, also in what is there already."""
        super().on_message_complete()
        if not self.parser.should_upgrade():
            self._head, self._torn = b"", True

    def _worker(self) -> int:
        for name, value in self.headers:
            if name == b"authorization":
                return worker_of(value, len(self._place.outboxes))
        return self._place.number

    def _hand_on(self, worker: int, begun: bytes) -> None:
        self._undigested = 0  # here it is done with
        if self._torn or self.transport.get_write_buffer_size():
            self.transport.abort()  # it was sent before the one before was answered to its end
            return
        connection = self.transport.get_extra_info("socket").fileno()
        try:
            socket.send_fds(self._place.outboxes[worker], [begun], [connection])
        except OSError as error:  # the inbox is full: nobody reads it
            log.warning("A connection was turned away: worker %d does not take it (%s).", worker, error.strerror)
            self._refuse(503, "The part of the broker that this agent belongs to does not answer. Try again.")
        else:
            self.transport.abort()  # closes it here only


@contextmanager
def taking(place: Place, server: Server) -> Generator[None]:
    """Serve what other workers hand on, until the end of the context."""
    loop = asyncio.get_running_loop()
    under_way: set[asyncio.Future[Any]] = set()

    async def serve(connection: socket.socket, begun: bytes) -> None:
        config = server.config
        make = partial(SharedConnection, place, begun, config=config, server_state=server.server_state, app_state={})
        try:
            await loop.connect_accepted_socket(make, connection)
        except OSError:  # who is gone already misses nothing
            connection.close()

    def take() -> None:
        with suppress(BlockingIOError):
            begun, descriptors, _, _ = socket.recv_fds(place.inbox, LARGEST, 1)
            for one in descriptors:  # none, if this process has too many open already
                connection = socket.socket(fileno=one)
                connection.setblocking(False)
                task = asyncio.ensure_future(serve(connection, begun))
                under_way.add(task)
                task.add_done_callback(under_way.discard)

    loop.add_reader(place.inbox, take)
    try:
        yield
    finally:
        loop.remove_reader(place.inbox)
