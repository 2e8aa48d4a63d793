"""JSON-RPC with one server process: many requests under way at once, each with an answer of its own.

What belongs here: which line of the process belongs to which request. Ids and progress tokens are the broker's own on
this side, so that requests of several clients never meet. What does not: which process a request goes to
(`broker.gateway.upstreams.stdio`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from mcp_types.jsonrpc import METHOD_NOT_FOUND

from broker.errors import UpstreamError, UpstreamInterrupted
from broker.gateway.replies import json_reply
from broker.gateway.sse import SSE_HEADERS, sse_event
from broker.gateway.upstreams import UpstreamReply
from broker.gateway.upstreams.process import Command, ServerProcess
from broker.gateway.wire import RequestId, dumps, error_message, http_status, is_response, loads

PROGRESS = "notifications/progress"
CANCELLED = "notifications/cancelled"


@dataclass(slots=True)
class _Exchange:
    """One request under way. `number` is its id and its progress token at the process."""

    number: int
    id: RequestId
    token: Any
    streams: bool
    modern: bool
    deaf: bool = False
    arrived: asyncio.Queue[dict[str, Any] | UpstreamError] = field(
        default_factory=asyncio.Queue[dict[str, Any] | UpstreamError]
    )


class Connection:
    """One process and the requests under way there.

    Args:
        grant_id: the only grant that it serves.
        on_end: called once, when nothing more will come.
    """

    def __init__(self, command: Command, grant_id: str, on_end: Callable[[Connection], None]) -> None:
        self.grant_id = grant_id
        self.answered = False
        """Whether the process ever answered anything."""
        self._name = command.name
        self._log = logging.getLogger(f"broker.upstream.{command.name}")
        self._on_end = on_end
        self._exchanges: dict[int, _Exchange] = {}
        self._last = 0
        self._process = ServerProcess(command, self._take, self._lost)

    async def open(self) -> None:
        """Start the process.

        Raises:
            UpstreamUnreachable: it cannot be started.
        """
        await self._process.start()

    @property
    def over(self) -> bool:
        """Whether it takes no more requests."""
        return self._process.over

    @property
    def busy(self) -> bool:
        """Whether requests are under way."""
        return bool(self._exchanges)

    async def close(self) -> None:
        """End the process; what is under way is interrupted."""
        await self._process.end()

    # -- towards the process ------------------------------------------------------------------------------------------

    async def request(self, message: Mapping[str, Any], *, streams: bool, modern: bool) -> UpstreamReply:
        """Send a request; return when its answer begins.

        The answer is JSON, or a stream of events when progress comes first and the client takes streams.

        Raises:
            UpstreamUnreachable: it was not sent.
            UpstreamInterrupted: it was, and the process ended without an answer.
        """
        exchange, renumbered = self._begin(message, streams=streams, modern=modern)
        return self._reply(exchange, await self._first(exchange, renumbered))

    async def answer(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Send a legacy request and return its response, without the progress that comes before; raises the same."""
        exchange, renumbered = self._begin(message, streams=False, modern=False)
        return await self._first(exchange, renumbered)

    async def notify(self, message: Mapping[str, Any]) -> None:
        """Send a notification; a cancellation only if it names a request that is under way."""
        if message.get("method") == CANCELLED:
            translated = self._translated(message)
            if translated is None:
                return
            message = translated
        await self._process.write(dumps(message))

    async def _first(self, exchange: _Exchange, renumbered: Mapping[str, Any]) -> dict[str, Any]:
        try:
            await self._process.write(dumps(renumbered))
            return _unless_lost(await exchange.arrived.get())
        except BaseException:
            self._leave(exchange)
            raise

    def _begin(self, message: Mapping[str, Any], *, streams: bool, modern: bool) -> tuple[_Exchange, dict[str, Any]]:
        self._last += 1
        number, params = self._last, _object(message.get("params"))
        meta = _object(params.get("_meta"))
        exchange = _Exchange(number, message["id"], meta.get("progressToken"), streams, modern)
        self._exchanges[number] = exchange
        renumbered = {**message, "id": number}
        if exchange.token is not None:
            renumbered["params"] = {**params, "_meta": {**meta, "progressToken": number}}
        return exchange, renumbered

    def _translated(self, cancelled: Mapping[str, Any]) -> dict[str, Any] | None:
        params = _object(cancelled.get("params"))
        wanted = params.get("requestId")
        for exchange in reversed(self._exchanges.values()):
            if exchange.id == wanted and type(exchange.id) is type(wanted):
                return {**cancelled, "params": {**params, "requestId": exchange.number}}
        return None

    def _leave(self, exchange: _Exchange) -> None:
        """Nobody waits for the answer any more.

        In the modern era that is a cancel. In legacy it is not, and a cancel may still come for it, so it is kept.
        """
        exchange.deaf = True
        if exchange.modern and self._exchanges.pop(exchange.number, None) and not self.over:
            note = {"jsonrpc": "2.0", "method": CANCELLED, "params": {"requestId": exchange.number}}
            try:
                self._process.write_now(dumps(note))
            except UpstreamError as error:
                self._log.debug("not cancelled: %s", error)

    # -- towards the client -------------------------------------------------------------------------------------------

    def _reply(self, exchange: _Exchange, first: dict[str, Any]) -> UpstreamReply:
        if is_response(first):
            return json_reply(first, http_status(first) if exchange.modern else 200)

        async def close() -> None:
            if exchange.number in self._exchanges:
                self._leave(exchange)
                exchange.arrived.put_nowait(UpstreamInterrupted("The answer was closed before its end."))

        return UpstreamReply(200, list(SSE_HEADERS), self._stream(exchange, first), close=close)

    async def _stream(self, exchange: _Exchange, first: dict[str, Any]) -> AsyncGenerator[bytes]:
        yield sse_event(message := first)
        while not is_response(message):
            message = _unless_lost(await exchange.arrived.get())
            yield sse_event(message)

    # -- from the process ---------------------------------------------------------------------------------------------

    def _take(self, line: bytes) -> None:
        if not line.strip():
            return
        try:
            value: Any = loads(line)
        except ValueError:
            value = None
        messages = cast("list[Any]", value) if isinstance(value, list) else [value]  # 2025-03-26 lets a server batch
        for message in messages:
            if isinstance(message, dict):
                self._sort(cast("dict[str, Any]", message))
            else:
                self._log.warning("wrote a line that is not JSON-RPC (%d bytes): it is ignored", len(line))

    def _sort(self, message: dict[str, Any]) -> None:
        if is_response(message):
            self._answer(message)
        elif message.get("method") == PROGRESS:
            self._progress(message)
        else:
            self._from_server(message)

    def _answer(self, message: dict[str, Any]) -> None:
        exchange = self._exchanges.pop(_number(message.get("id")), None)
        if exchange is None:
            self._log.debug("answered a request that is not under way: the answer is dropped")
            return
        self.answered = True
        if not exchange.deaf:
            exchange.arrived.put_nowait({**message, "id": exchange.id})

    def _progress(self, message: dict[str, Any]) -> None:
        params = _object(message.get("params"))
        exchange = self._exchanges.get(_number(params.get("progressToken")))
        if exchange is not None and exchange.token is not None and exchange.streams and not exchange.deaf:
            restored = {**params, "progressToken": exchange.token}
            exchange.arrived.put_nowait({**message, "params": restored})

    def _from_server(self, message: dict[str, Any]) -> None:
        """The one place for what a server says of its own accord: nothing of it is passed on yet."""
        if "id" not in message:
            self._log.debug("sent %r, which is not passed on", message.get("method"))
            return
        refusal = "The broker does not pass requests of a stdio server on to its client yet."
        try:
            self._process.write_now(dumps(error_message(message["id"], METHOD_NOT_FOUND, refusal)))
        except UpstreamError as error:
            self._log.debug("not refused: %s", error)

    def _lost(self) -> None:
        self._on_end(self)
        told = f"The MCP server {self._name!r} went away before it answered: the call may or may not have run."
        for exchange in self._exchanges.values():
            exchange.arrived.put_nowait(UpstreamInterrupted(told))
        self._exchanges.clear()


def _unless_lost(arrived: dict[str, Any] | UpstreamError) -> dict[str, Any]:
    if isinstance(arrived, UpstreamError):
        raise arrived
    return arrived


def _object(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _number(value: Any) -> int:
    """A number of ours that came back; 0 names nothing."""
    return value if type(value) is int else 0
