"""A client that follows a script and keeps everything that it hears, over either transport.

What belongs here: what a script may do, whatever the transport is. What does not: HTTP and pipes (`over_http`,
`over_stdio`), what is compared (`comparison`).
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.servers.every.speech import Message

BOUND = 5.0
"""Seconds within which anything that a script waits for has to happen."""
CAPABILITIES: Message = {
    "experimental": {"example.com/client": {"x": 1.0}},
    "roots": {"listChanged": True},
    "sampling": {"tools": {}, "context": {}},
    "elicitation": {"form": {}, "url": {}},
    "extensions": {"io.modelcontextprotocol/tasks": {}, "example.com/unheard": {"z": [None]}},
}
INFO: Message = {"name": "script", "title": "A script", "version": "1", "websiteUrl": "https://example.com/"}
ENVELOPE: Message = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": INFO,
    "io.modelcontextprotocol/clientCapabilities": CAPABILITIES,
}


@dataclass(eq=False)
class Exchange:
    """One thing that was sent and all that came back for it.

    Args:
        sent: what it was, in words.
        id: the request's, if it was one.
        heard: the bytes of each message in the answer.
        left: whether the client did not wait for its end.
    """

    sent: str
    id: Any = None
    status: int | None = None
    fields: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    body: bytes = b""
    heard: list[bytes] = field(default_factory=list[bytes])
    last_event_id: str = ""
    left: bool = False


class Client(ABC):
    """A client of one era.

    Args:
        exchanges: what it did, oldest first.
        heard: the bytes of each message that it heard, in the order of their arrival.
    """

    def __init__(self, *, modern: bool) -> None:
        self.modern = modern
        self.exchanges: list[Exchange] = []
        self.heard: list[bytes] = []
        self._unheard: list[Message] = []
        self._responses: dict[Any, Message] = {}
        self._news = asyncio.Condition()
        self._last = 0

    # -- what a script does -------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """The handshake, where there is one, and listening to what belongs to no request."""
        if self.modern:
            return
        params = {"protocolVersion": "2025-11-25", "capabilities": CAPABILITIES, "clientInfo": INFO}
        await self.request("initialize", params)
        await self.tell("notifications/initialized")
        await self.listen()

    async def begin(self, method: str, params: Message | None = None, **fields: str) -> Exchange:
        """Send a request, and do not wait for its answer."""
        self._last += 1
        identity = self._last if self._last % 3 else f"ï-{self._last}"  # both kinds of id
        message = {"jsonrpc": "2.0", "id": identity, "method": method}
        return await self._send(self._enveloped(message, params), fields)

    async def request(self, method: str, params: Message | None = None, **fields: str) -> Message:
        """Send a request and wait for its response."""
        return await self.response(await self.begin(method, params, **fields))

    async def call(self, tool: str, arguments: Message | None = None, **params: Any) -> Message:
        """A tool call and its response."""
        return await self.request("tools/call", {"name": tool, "arguments": arguments or {}, **params})

    async def begin_call(self, tool: str, arguments: Message | None = None, **params: Any) -> Exchange:
        """A tool call, without waiting."""
        return await self.begin("tools/call", {"name": tool, "arguments": arguments or {}, **params})

    async def response(self, to: Exchange) -> Message:
        """The response to a request, wherever it comes."""
        await self._until(lambda: to.id in self._responses, f"the answer to {to.sent}")
        return self._responses[to.id]

    async def hear(self, method: str) -> Message:
        """The next request or notification of the server with that method, wherever it comes."""

        def found() -> list[Message]:
            return [message for message in self._unheard if message["method"] == method]

        await self._until(lambda: bool(found()), method)
        self._unheard.remove(first := found()[0])
        return first

    async def tell(self, method: str, params: Message | None = None) -> None:
        """Send a notification."""
        await self._finish(await self._send(self._enveloped({"jsonrpc": "2.0", "method": method}, params), {}))

    async def answer(self, request: Message, **answer: Any) -> None:
        """Answer a request of the server with a `result` or an `error`."""
        await self._finish(await self._send({"jsonrpc": "2.0", "id": request["id"], **answer}, {}))

    def count_again(self) -> None:
        """Begin with the first id again."""
        self._last = 0

    async def record(self) -> list[Message]:
        """What a server over stdio was sent until now; that it was asked is forgotten."""
        asking = await self.begin("test/received")
        told = (await self.response(asking))["result"]["received"]
        self.exchanges.remove(asking)
        self.heard.pop()
        return told

    @abstractmethod
    async def listen(self) -> None:
        """Hear what belongs to no request."""

    @abstractmethod
    async def cancel(self, exchange: Exchange) -> None:
        """Take a request back, as the era and the transport have it."""

    @abstractmethod
    async def close(self) -> None:
        """End the session; what has no end of its own is left."""

    # -- for the transports -------------------------------------------------------------------------------------------

    @abstractmethod
    async def _send(self, message: Message, fields: Mapping[str, str]) -> Exchange: ...

    @abstractmethod
    async def _finish(self, exchange: Exchange) -> None: ...

    async def _take(self, data: bytes, message: Message) -> None:
        self.heard.append(data)
        if "method" in message:
            self._unheard.append(message)
        else:
            self._responses[message.get("id")] = message
        async with self._news:
            self._news.notify_all()

    def _enveloped(self, message: Message, params: Message | None) -> Message:
        if self.modern and "id" in message:
            params = {**(params or {}), "_meta": {**ENVELOPE, **(params or {}).get("_meta", {})}}
        return message if params is None else {**message, "params": params}

    async def _until(self, found: Callable[[], bool], what: str) -> None:
        async with self._news:
            try:
                await asyncio.wait_for(self._news.wait_for(found), BOUND)
            except TimeoutError:
                raise AssertionError(f"{what} did not come; heard: {self.heard}, exchanges: {self.exchanges}") from None
