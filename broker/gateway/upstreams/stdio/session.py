"""The process of one legacy session (2025-11-25 and before): what it says goes to the one client that it has.

What belongs here: on which of the client's streams a message travels. The process is this client's alone, so its
requests, their answers and progress tokens pass untouched; only the ids of the client's requests are the broker's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from broker.gateway.jsonrpc import INTERNAL_ERROR
from broker.gateway.sse import SSE_HEADERS
from broker.gateway.upstreams import UpstreamReply
from broker.gateway.upstreams.stdio.alarm import Patience, loop_time
from broker.gateway.upstreams.stdio.backlog import Backlog
from broker.gateway.upstreams.stdio.connection import Connection
from broker.gateway.upstreams.stdio.exchange import CANCELLED, PROGRESS, REQUEST_CANCELLED, Exchange, params_of, same
from broker.gateway.upstreams.stdio.process import Command
from broker.gateway.upstreams.stdio.readers import Reader, Said
from broker.gateway.wire import dumps, error_message, is_response

MOST_ASKED = 256
"""Requests of a server that its client has not answered."""


class Session(Connection):
    """The process of one legacy session.

    A message goes on the stream of the newest request that takes one, so that what is said before an answer comes
    before it; else on the stream that GET opened; else it is kept until there is one of them.
    """

    modern: ClassVar[bool] = False

    def __init__(
        self, command: Command, grant_id: str, patience: Patience, on_end: Callable[[Connection], None]
    ) -> None:
        super().__init__(command, grant_id, patience, on_end)
        self._listener: Reader | None = None
        self._backlog = Backlog()
        self._asked: dict[bytes, float] = {}
        self._dropping = False

    @property
    def busy(self) -> bool:
        """Whether requests are under way or a client listens."""
        return super().busy or self._listener is not None

    def listen(self) -> UpstreamReply:
        """The stream for what belongs to no request (2025-11-25, Listening for Messages from the Server).

        There is one: a client that opens another has lost the first, which ends; what was not read there comes here.
        """
        reader = Reader(self._readers)
        before, self._listener = self._listener, reader
        if before is not None:
            before.end()
        for said in [*(before.clear() if before is not None else ()), *self._kept()]:
            reader.put(said)

        async def close() -> None:
            self._unlisten(reader)

        return UpstreamReply(200, list(SSE_HEADERS), reader.events(), close=close)

    async def notify(self, message: Mapping[str, Any], *, own: bool = False) -> None:
        """Send a notification, or an answer to a request of the server.

        A cancellation is sent only if it names a request that is under way. The server then owes it no answer
        (2025-11-25, Cancellation), and one that comes all the same is dropped: the request is over. That of a
        request which the broker cancels for itself is still wanted.
        """
        if is_response(message):
            self._settle(message.get("id"))
        elif message.get("method") == CANCELLED:
            params = params_of(message)
            exchange = self._named(params.get("requestId"))
            if exchange is None:
                return
            message = {**message, "params": {**params, "requestId": exchange.number}}
            if not own:
                self._end_cancelled(exchange)
        await super().notify(message)

    def _end_cancelled(self, exchange: Exchange) -> None:
        del self._exchanges[exchange.number]
        cancelled = error_message(exchange.id, REQUEST_CANCELLED, "The request was cancelled.")
        exchange.reader.put(Said(cancelled, 0))
        exchange.reader.end()

    def _named(self, request_id: Any) -> Exchange | None:
        under_way = reversed(self._exchanges.values())
        return next((one for one in under_way if one.sent and same(one.id, request_id)), None)

    def _begin(self, message: Mapping[str, Any], *, streams: bool) -> Exchange:
        exchange = super()._begin(message, streams=streams)
        if streams and self._listener is None:
            for said in self._kept():
                exchange.reader.put(said)
        return exchange

    def _left(self, exchange: Exchange, unread: list[Said]) -> None:
        """A lost connection is no cancel in this era, and a cancel may still come; the server may wait for an answer to
        what was not read."""
        for said in unread:
            if not is_response(said.message) and said.message["method"] != PROGRESS:
                self._place(said)

    # -- what the server says -----------------------------------------------------------------------------------------

    def _hear(self, said: Said) -> None:
        message = said.message
        if message["method"] == PROGRESS and (exchange := self._tokened(params_of(message).get("progressToken"))):
            exchange.heard = loop_time()
            if exchange.hears:
                exchange.reader.put(said)
        elif "id" not in message:
            if message["method"] == CANCELLED:
                self._settle(params_of(message).get("requestId"))
            self._place(said)
        elif len(self._asked) < MOST_ASKED:
            self._asked[dumps(message["id"])] = loop_time()
            self._place(said)
        else:
            self._refuse(said.message, f"{MOST_ASKED} requests of this server wait for the client's answer already.")

    def _tokened(self, token: Any) -> Exchange | None:
        if token is None:
            return None
        return next((one for one in reversed(self._exchanges.values()) if same(one.token, token)), None)

    def _place(self, said: Said) -> None:
        """Give a message to the stream that it belongs on."""
        exchange = next((one for one in reversed(self._exchanges.values()) if one.hears), None)
        reader = exchange.reader if exchange is not None else self._listener
        if exchange is not None:
            exchange.heard = loop_time()
        if reader is not None:
            reader.put(said)
            return
        for dropped in self._backlog.keep(said):
            self._drop(dropped.message)

    def _drop(self, message: dict[str, Any]) -> None:
        if "id" in message:
            self._refuse(message, "No client listens to this server now, and too much waits for one already.")
            return
        tell = self._log.debug if self._dropping else self._log.warning
        tell(
            "no client listens: the notification %.100r is dropped, and so are others until one does", message["method"]
        )
        self._dropping = True

    def _refuse(self, request: dict[str, Any], why: str) -> None:
        self._settle(request["id"])
        self._write_now(error_message(request["id"], INTERNAL_ERROR, why))

    def _settle(self, request_id: Any) -> None:
        """A request of the server is answered or withdrawn: it has to go on by itself now."""
        if self._asked.pop(dumps(request_id), None) is not None:
            self._excused = loop_time()

    def _kept(self) -> list[Said]:
        self._dropping = False
        return self._backlog.take()

    # -- the stream that GET opened -----------------------------------------------------------------------------------

    def _unlisten(self, reader: Reader) -> None:
        reader.end()
        unread = reader.clear()
        if self._listener is reader:
            self._listener = None
            self._used = loop_time()
        for said in unread:
            self._place(said)

    def _lost(self) -> None:
        if self._listener is not None:
            self._listener.end()
        super()._lost()

    # -- time ---------------------------------------------------------------------------------------------------------

    def _is_asking(self, exchange: Exchange) -> bool:
        newest = next(reversed(self._asked.values()), None)
        return newest is not None and not exchange.deaf and newest >= exchange.began

    def _cut(self, reader: Reader) -> None:
        if reader is self._listener:
            self._unlisten(reader)
        super()._cut(reader)

    def _waits_beside(self, reader: Reader) -> bool:
        return super()._waits_beside(reader) or self._listener not in (None, reader)
