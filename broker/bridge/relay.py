"""What becomes of each line of the client, in an order that means the same to the server.

Requests run beside each other. A notification is sent before the next line is looked at, and `initialize` is answered
before; a cancellation waits until the broker knows what it cancels. What belongs here: that, and the end. What does
not: one request (`exchange`), what an era asks for (`legacy`, `modern`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from broker.bridge.exchange import Era, Exchange
from broker.bridge.http import BrokerHttp, Refused, Say, ShutOut
from broker.bridge.legacy import Legacy
from broker.bridge.modern import Modern
from broker.bridge.refusals import answer_to, refused
from broker.bridge.stdio import StdioClient
from broker.errors import BrokerError, UpstreamError
from broker.gateway.jsonrpc import INTERNAL_ERROR, Message, RequestId, WireError, dumps, error_message, parse_message

NOTED_WITHIN = 5.0
"""Seconds that the next line waits for a notification to be taken."""

KNOWN_WITHIN = 0.5
"""Seconds after which the broker is taken to know a request that was sent, though its answer has not begun."""

LAST_LINES_WITHIN = 0.7
"""Seconds for what the client wrote before it closed its side. Clients terminate who is not gone after 2 s in all."""

log = logging.getLogger(__name__)


class Relay:
    """Between one client and one upstream of the broker.

    Args:
        say: tells a person what is wrong.
    """

    def __init__(self, client: StdioClient, http: BrokerHttp, say: Say) -> None:
        self._client = client
        self._http = http
        self._say = say
        self._said = ""
        self._legacy = Legacy(http, client.write)
        self._modern: Modern | None = None
        self._exchanges: dict[RequestId, tuple[Exchange, asyncio.Task[None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Relay until the client leaves or `stopping` is set; then what is under way is left.

        The session is ended, unless a tool call is under way: its end would withdraw what people are asked for it, and
        a client that was killed may come back for that.
        """
        reading = self._start(self._read())
        left, deaf, stopped = (
            self._start(_once_set(event)) for event in (self._client.ended, self._client.deaf, stopping)
        )
        try:
            await asyncio.wait((reading, left, deaf, stopped), return_when=asyncio.FIRST_COMPLETED)
            ends = (reading, deaf, stopped)
            await asyncio.wait(ends, timeout=LAST_LINES_WITHIN, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
        finally:
            calling = any(exchange.waits_for_a_tool for exchange, _ in self._exchanges.values())
            under_way = list(self._tasks)
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
            await self._legacy.close(ending=not calling)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _read(self) -> None:
        while (line := await self._client.line()) is not None:
            if not line.strip():
                continue
            try:
                await self._take(line, parse_message(line))
            except WireError as error:
                self._tell(f"A line of the client was not passed on. {error}")
                await self._client.write(dumps(error.body))

    async def _take(self, line: bytes, message: Message) -> None:
        if message.kind == "request":
            await self._request(line, message)
        elif message.kind == "response":
            self._start(self._post(line, message, self._legacy))
        elif message.method == "notifications/cancelled":
            self._cancel(line, message)
        elif message.method == "notifications/initialized" and not self._is_modern(message):
            await self._start(self._confirm(line))
        else:
            noted = self._start(self._post(line, message, self._era_of(message)))
            await asyncio.wait((noted,), timeout=NOTED_WITHIN)

    # -- requests -----------------------------------------------------------------------------------------------------

    async def _request(self, line: bytes, message: Message) -> None:
        exchange = Exchange(line, message, self._era_of(message), self._http, self._client.write)
        task = self._start(self._answer(exchange))
        if message.id is not None:
            self._exchanges[message.id] = (exchange, task)
        if message.method == "initialize":
            await asyncio.wait((task,))

    async def _answer(self, exchange: Exchange) -> None:
        try:
            await exchange.run()
        except BrokerError as error:
            if isinstance(error, Refused | ShutOut):
                self._tell(str(error))
            if not exchange.given_up:
                answer = answer_to(exchange.message, error, refusal=isinstance(error, Refused))
                await self._client.write(dumps(answer))
        except Exception:
            log.exception("a request failed in an unforeseen way")
            told = "The bridge failed on this request: it may or may not have run."
            await self._client.write(dumps(error_message(exchange.message.id, INTERNAL_ERROR, told)))
        finally:
            self._forget(exchange)

    def _forget(self, exchange: Exchange) -> None:
        """Unless another request has its id by now."""
        request_id = exchange.message.id
        if request_id is not None and self._exchanges.get(request_id, (None,))[0] is exchange:
            del self._exchanges[request_id]

    def _is_modern(self, message: Message) -> bool:
        """Requests say so themselves; what else a client sends is of the era of its session, if it has one."""
        return message.enveloped or (self._modern is not None and not self._legacy.is_open)

    def _era_of(self, message: Message) -> Era:
        if not (message.enveloped if message.kind == "request" else self._is_modern(message)):
            return self._legacy
        if self._modern is None:
            self._modern = Modern()
        return self._modern

    # -- everything else ----------------------------------------------------------------------------------------------

    async def _confirm(self, line: bytes) -> None:
        try:
            await self._legacy.confirm(line)
        except UpstreamError as error:
            self._tell(str(error))

    async def _post(self, line: bytes, message: Message, era: Era) -> None:
        """Send what has no answer. In a session that is over it means nothing any more."""
        await era.standing(message)
        try:
            response = await self._http.send("POST", era.fields(message), line)
        except UpstreamError as error:
            self._tell(str(error))
        else:
            response.release()
            if response.status in (401, 403):
                self._tell(refused(response.status, None, self._http.url) or "")

    def _cancel(self, line: bytes, message: Message) -> None:
        """Cancel a request: in the modern era by closing its stream, in legacy by passing the notification on."""
        wanted: Any = message.params.get("requestId")
        exchange, task = self._exchanges.get(wanted, (None, None)) if isinstance(wanted, str | int) else (None, None)
        if exchange is None or task is None:
            if not self._is_modern(message):
                self._start(self._post(line, message, self._legacy))
        elif exchange.sent_at is None or exchange.era is not self._legacy:
            task.cancel()
        else:
            exchange.given_up = True
            known_at = exchange.sent_at + KNOWN_WITHIN
            self._start(self._cancel_later(line, message, exchange, known_at))

    async def _cancel_later(self, line: bytes, message: Message, exchange: Exchange, known_at: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout_at(known_at):
                await exchange.begun.wait()
        await self._post(line, message, self._legacy)

    def _tell(self, sentence: str) -> None:
        if sentence != self._said:
            self._said = sentence
            self._say(sentence)


async def _once_set(event: asyncio.Event) -> None:
    await event.wait()
