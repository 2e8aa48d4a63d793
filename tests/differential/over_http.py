"""The scripted client of a server at a URL, which may be the broker's."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping

import aiohttp
from mcp.shared.inbound import encode_header_value

from broker.gateway.sse import SseParser
from tests.differential.client import BOUND, Client, Exchange
from tests.servers.every.speech import Message

_NAMED = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    "tasks/get": "taskId",
    "tasks/update": "taskId",
    "tasks/cancel": "taskId",
}


class HttpClient(Client):
    """A client of a Streamable HTTP endpoint.

    Args:
        token: its grant at the broker.
    """

    def __init__(self, http: aiohttp.ClientSession, url: str, token: str | None = None, *, modern: bool) -> None:
        super().__init__(modern=modern)
        self.session: str | None = None
        self._http = http
        self._url = url
        self._own = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._reading: dict[Exchange, asyncio.Task[None]] = {}

    async def __aenter__(self) -> HttpClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        for exchange in self._reading:
            await self.leave(exchange)

    async def listen(self) -> None:
        """Open the stream of what belongs to no request, where the server has one."""
        await self.get()

    async def cancel(self, exchange: Exchange) -> None:
        """Modern: leave. Legacy: say so, and expect no answer."""
        if not self.modern:
            await self.tell("notifications/cancelled", {"requestId": exchange.id, "reason": "no more wanted"})
        await self.leave(exchange)

    async def leave(self, exchange: Exchange) -> None:
        """Close an answer before its end."""
        exchange.left = True
        self._reading[exchange].cancel()
        await asyncio.wait([self._reading[exchange]])

    async def ended(self, exchange: Exchange) -> None:
        """Wait until an answer has ended."""
        await self._finish(exchange)

    async def close(self) -> None:
        """Wait for the answers that end, close the streams that do not, end the session."""
        answers = [task for exchange, task in self._reading.items() if exchange.sent.startswith("POST")]
        if answers:
            _, unfinished = await asyncio.wait(answers, timeout=BOUND)
            assert not unfinished, [exchange for exchange, task in self._reading.items() if task in unfinished]
        for exchange in self._reading:
            await self.leave(exchange)
        if self.session is not None:
            await self.delete()

    async def get(self, last_event_id: str | None = None, **fields: str) -> Exchange:
        """GET: listen, or resume a stream; returns when its status is there."""
        more = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
        exchange = await self._request("GET", None, {"Accept": "text/event-stream", **more, **fields})
        await self._until(lambda: exchange.status is not None, "an answer to GET")
        return exchange

    async def delete(self) -> Exchange:
        """DELETE, which ends the session."""
        exchange = await self._request("DELETE", None, {})
        await self._finish(exchange)
        return exchange

    async def post(self, body: bytes, **fields: str) -> Exchange:
        """POST these very bytes, and wait for the end of the answer."""
        usual = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json", **fields}
        exchange = await self._request("POST", json.loads(body), usual, body)
        await self._finish(exchange)
        return exchange

    # -- HTTP ---------------------------------------------------------------------------------------------------------

    async def _send(self, message: Message, fields: Mapping[str, str]) -> Exchange:
        mirrored = self._mirrored(message) if self.modern else {}
        usual = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json", **mirrored}
        sent = {**usual, **{name.replace("_", "-"): value for name, value in fields.items()}}
        exchange = await self._request("POST", message, sent)
        if message.get("method") == "initialize":
            await self._finish(exchange)
        return exchange

    def _mirrored(self, message: Message) -> dict[str, str]:
        fields = {"MCP-Protocol-Version": "2026-07-28"}
        method: str = message.get("method", "")
        if method:
            fields["Mcp-Method"] = method
        if method in _NAMED:
            fields["Mcp-Name"] = encode_header_value(message["params"][_NAMED[method]])
        return fields

    async def _request(
        self, method: str, message: Message | None, fields: Mapping[str, str], body: bytes | None = None
    ) -> Exchange:
        exchange = Exchange(f"{method} {(message or {}).get('method', '')}", (message or {}).get("id"))
        self.exchanges.append(exchange)
        sent = {"User-Agent": "script/1.0 (test)", "Accept-Language": "de", "X-Own": "kept, too", **self._own, **fields}
        if self.session is not None:
            sent = {"Mcp-Session-Id": self.session, "MCP-Protocol-Version": "2025-11-25", **sent}
        data = json.dumps(message).encode() if body is None and message is not None else body
        self._reading[exchange] = asyncio.create_task(self._read(exchange, method, sent, data))
        return exchange

    async def _finish(self, exchange: Exchange) -> None:
        await asyncio.wait_for(asyncio.shield(self._reading[exchange]), BOUND)

    async def _read(self, exchange: Exchange, method: str, fields: Mapping[str, str], data: bytes | None) -> None:
        async with self._http.request(method, self._url, headers=fields, data=data) as response:
            exchange.status = response.status
            exchange.fields = [(name.decode().lower(), value.decode()) for name, value in response.raw_headers]
            self.session = response.headers.get("mcp-session-id", self.session)
            async with self._news:
                self._news.notify_all()
            if response.content_type == "text/event-stream":
                await self._read_events(exchange, response)
            else:
                exchange.body = await response.read()
                with contextlib.suppress(ValueError):
                    await self._heard(exchange, exchange.body)

    async def _read_events(self, exchange: Exchange, response: aiohttp.ClientResponse) -> None:
        parser = SseParser()
        async for chunk in response.content.iter_any():
            exchange.body += chunk
            for event in parser.feed(chunk):
                exchange.last_event_id = (event.id or b"").decode() or exchange.last_event_id
                if event.data:
                    with contextlib.suppress(ValueError):
                        await self._heard(exchange, event.data)

    async def _heard(self, exchange: Exchange, data: bytes) -> None:
        message = json.loads(data.decode("utf-8-sig"))
        exchange.heard.append(data)
        await self._take(data, message)
