"""JSON-RPC with one server process: many requests under way at once, each with an answer of its own.

What belongs here: requests and their answers, and how long each is waited for. What does not: what a server says of its
own accord, which differs by era (`session`, `shared`), and which process a request goes to (`upstream`).
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, cast

from broker.errors import UpstreamError, UpstreamInterrupted
from broker.gateway.jsonrpc import INVALID_REQUEST
from broker.gateway.replies import json_reply
from broker.gateway.sse import SSE_HEADERS
from broker.gateway.upstreams import ALWAYS, Permit, UpstreamReply
from broker.gateway.upstreams.stdio.alarm import Alarm, Patience, loop_time
from broker.gateway.upstreams.stdio.exchange import (
    CANCELLED,
    LARGEST_ID,
    MOST_TOGETHER,
    Exchange,
    is_short_id,
    meta_of,
    number_at_the_edge,
    number_of,
    params_of,
)
from broker.gateway.upstreams.stdio.lines import printable
from broker.gateway.upstreams.stdio.process import Command, ServerProcess
from broker.gateway.upstreams.stdio.readers import Reader, Readers, Said
from broker.gateway.weight import MOST_OF_A_SERVER, outweighs
from broker.gateway.wire import dumps, error_message, is_response, loads

LAST_WORDS = "its last words are in the broker's log"

LOGGED = 200  # bytes of a line that is no message


class Connection(ABC):
    """One process and the requests under way there.

    Args:
        grant_id: the only grant that it serves.
        on_end: called once, when nothing more will come.
    """

    modern: ClassVar[bool]

    def __init__(
        self, command: Command, grant_id: str, patience: Patience, on_end: Callable[[Connection], None]
    ) -> None:
        self.grant_id = grant_id
        self.answered = False
        """Whether the process ever answered anything."""
        self.wanted = True
        """Whether nobody asked it to end."""
        self._name = command.name
        self._log = logging.getLogger(f"broker.upstream.{command.name}")
        self._patience = patience
        self._on_end = on_end
        self._exchanges: dict[int, Exchange] = {}
        self._last = 0
        self._babbled = self._misnamed = False
        self._why: str | None = None
        self._used = self._excused = loop_time()
        self._alarm = Alarm(self._look)
        self._process = ServerProcess(command, self._take, self._lost, patience.answer)
        self._readers = Readers(self._hold)

    async def open(self) -> None:
        """Start the process.

        Raises:
            UpstreamUnreachable: it cannot be started.
        """
        await self._process.start()
        self._alarm.by(loop_time() + self._patience.idle)

    @property
    def over(self) -> bool:
        """Whether it takes no more requests."""
        return self._process.over

    @property
    def busy(self) -> bool:
        """Whether requests are under way."""
        return bool(self._exchanges)

    def touch(self) -> None:
        """It is in use."""
        self._used = loop_time()

    async def close(self, why: str, *, at_once: bool = False) -> None:
        """End the process, because of `why`. What is under way is interrupted: at once, or when the process is gone."""
        if self.wanted:
            self.wanted, self._why = False, why
        if at_once:
            self._interrupt(why)
        await self._process.end()

    def kill(self) -> None:
        """End the process and its children right now, without waiting."""
        self.wanted = False
        self._process.kill()

    # -- towards the process ------------------------------------------------------------------------------------------

    async def request(self, message: Mapping[str, Any], permit: Permit, *, streams: bool) -> UpstreamReply:
        """Send a request; return when its answer begins.

        The answer is JSON, or a stream of events when something comes before it and the client takes streams.

        Raises:
            UpstreamUnreachable: it was not sent.
            UpstreamInterrupted: it was, and the process ended without an answer, or was silent for too long.
        """
        exchange = self._begin(message, streams=streams)
        return self._reply(exchange, await self._first(exchange, message, permit))

    async def answer(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request and return its response, without what comes before; raises the same."""
        return await self._first(self._begin(message, streams=False), message)

    async def notify(self, message: Mapping[str, Any], *, own: bool = False) -> None:
        """Send a notification or a response as it is; raises as `request` does.

        Args:
            own: whether it is the broker's own, which still wants the answer to what it cancels.
        """
        self.touch()
        await self._process.write(dumps(message))

    def _begin(self, message: Mapping[str, Any], *, streams: bool) -> Exchange:
        self._last += 1
        self._used = now = loop_time()
        number, meta = self._last, meta_of(params_of(message))
        reader = Reader(self._readers)
        exchange = Exchange(number, message["id"], str(message.get("method")), meta, streams, reader, now, now)
        self._exchanges[number] = exchange
        self._alarm.by(now + (self._patience.read if self._readers.full else self._patience.answer))
        return exchange

    async def _first(self, exchange: Exchange, message: Mapping[str, Any], permit: Permit = ALWAYS) -> dict[str, Any]:
        try:
            await self._process.write(dumps(self._renumbered(message, exchange)), permit)
            exchange.sent, exchange.heard = True, loop_time()
            first = await exchange.reader.get()
        except BaseException:
            self._leave(exchange)
            raise
        if first is None:
            raise UpstreamInterrupted(f"The MCP server {self._name!r} ended the request without an answer.")
        return first

    def _renumbered(self, message: Mapping[str, Any], exchange: Exchange) -> dict[str, Any]:
        return {**message, "id": exchange.number}

    def _cancel(self, exchange: Exchange) -> None:
        if exchange.sent:
            self._write_now({"jsonrpc": "2.0", "method": CANCELLED, "params": {"requestId": exchange.number}})

    def _write_now(self, message: Mapping[str, Any]) -> None:
        if self.over:
            return
        try:
            self._process.write_now(dumps(message))
        except UpstreamError as error:
            self._log.debug("a message of the broker was not sent: %s", error)

    # -- towards the client -------------------------------------------------------------------------------------------

    def _reply(self, exchange: Exchange, first: dict[str, Any]) -> UpstreamReply:
        if is_response(first):
            return json_reply(first, self._status(first))

        async def close() -> None:
            self._leave(exchange)

        return UpstreamReply(200, list(SSE_HEADERS), exchange.reader.events(first), close=close)

    def _status(self, response: Mapping[str, Any]) -> int:
        return 200

    def _leave(self, exchange: Exchange) -> None:
        """Nobody waits for the answer any more."""
        if exchange.deaf:
            return
        exchange.deaf = True
        exchange.reader.end(UpstreamInterrupted("The answer was closed before its end."))
        unread = exchange.reader.clear()
        if not exchange.sent:
            self._exchanges.pop(exchange.number, None)
        self._left(exchange, unread)

    @abstractmethod
    def _left(self, exchange: Exchange, unread: list[Said]) -> None:
        """Do what its era does when a client leaves; `unread` is what it did not read any more."""

    # -- from the process ---------------------------------------------------------------------------------------------

    def _take(self, line: bytes) -> None:
        if not line.strip():
            return
        if outweighs(line, MOST_OF_A_SERVER):
            self._skip(line)
            return
        try:
            value: Any = loads(line)
        except ValueError:
            value = None
        messages = cast("list[Any]", value) if isinstance(value, list) else [value]  # 2025-03-26 lets a server batch
        if len(messages) > MOST_TOGETHER:
            self._ignore(line, f"sent a batch of more than {MOST_TOGETHER} messages")
            return
        for message in messages:
            if not isinstance(message, dict) or not self._sort(
                Said(cast("dict[str, Any]", message), len(line) // len(messages) + 1)
            ):
                self._ignore(line)

    def _skip(self, line: bytes) -> None:
        """Not parse a line; the request that it answers ends with that if it says which, else when its time is over."""
        exchange = self._exchanges.pop(number_at_the_edge(line), None)
        why = f"sent a message of more than {MOST_OF_A_SERVER} values"
        self._ignore(line, why)
        if exchange is not None:
            told = f"The MCP server {self._name!r} {why}: it was not read. The request may or may not have run."
            exchange.reader.end(UpstreamInterrupted(told))

    def _ignore(self, line: bytes, why: str = "wrote to its output what is no JSON-RPC") -> None:
        """The first such line tells people what is wrong; a program that is no server has thousands."""
        level = logging.DEBUG if self._babbled else logging.WARNING
        self._babbled = True
        if self._log.isEnabledFor(level):  # to make it printable takes longer than all the rest
            self._log.log(level, "%s, which is ignored: %s", why, printable(line[:LOGGED]))

    def _sort(self, said: Said) -> bool:
        """False when it is no message."""
        if is_response(said.message):
            self._answer(said)
        elif isinstance(said.message.get("method"), str):
            if "id" not in said.message or is_short_id(said.message["id"]):
                self._hear(said)
            else:
                self._refuse_unnamed()
        else:
            return False
        return True

    def _refuse_unnamed(self) -> None:
        told = f"the id of a request has to be an integer or a string of at most {LARGEST_ID} bytes"
        self._log.log(logging.DEBUG if self._misnamed else logging.WARNING, "one was refused: %s", told)
        self._misnamed = True
        self._write_now(error_message(None, INVALID_REQUEST, f"Invalid Request: {told}."))

    def _answer(self, said: Said) -> None:
        exchange = self._exchanges.pop(number_of(said.message.get("id")), None)
        if exchange is None:
            self._log.debug("answered a request that is not under way: the answer is dropped")
            return
        self.answered = True
        self._used = loop_time()
        exchange.reader.put(Said(self._restored(said.message, exchange), said.size))
        exchange.reader.end()

    def _restored(self, response: dict[str, Any], exchange: Exchange) -> dict[str, Any]:
        return {**response, "id": exchange.id}

    @abstractmethod
    def _hear(self, said: Said) -> None:
        """Pass on what the server says of its own accord, a request or a notification."""

    def _hold(self, held: bool) -> None:
        self._process.hold(held)
        self._excused = now = loop_time()
        if held:
            self._alarm.by(now + self._patience.read)

    def _lost(self) -> None:
        self._alarm.stop()
        self._interrupt(self._why or f"The MCP server {self._name!r} ended before it answered ({LAST_WORDS})")
        self._on_end(self)

    def _interrupt(self, why: str) -> None:
        for exchange in self._exchanges.values():
            exchange.reader.end(UpstreamInterrupted(f"{why}: the request may or may not have run."))
        self._exchanges.clear()

    # -- time ---------------------------------------------------------------------------------------------------------

    def _look(self, now: float) -> float | None:
        """Do what time asks for; returns when to look again."""
        self._cut_slow(now)
        for exchange in [waited for waited in self._exchanges.values() if self._deadline(waited, now) <= now]:
            self._give_up(exchange)
        if not self.busy and self._used + self._patience.idle <= now:
            self._log.info("was not used for %g s: it is ended", self._patience.idle)
            self.wanted = False
            self._process.end_soon()
            return None
        following = [(now if self.busy else self._used) + self._patience.idle]
        following += [self._deadline(exchange, now) for exchange in self._exchanges.values()]
        if self._readers.full:
            following.append(now + self._patience.read)
        return min(following)

    def _deadline(self, exchange: Exchange, now: float) -> float:
        """When the process has been silent for too long; put off while it can say nothing to this request."""
        if not exchange.owes:
            return float("inf")
        if not exchange.sent or self._readers.full or self._is_asking(exchange):
            return now + self._patience.answer
        return max(exchange.heard, self._excused) + self._patience.answer

    def _is_asking(self, exchange: Exchange) -> bool:
        """Whether the process waits for an answer of the client itself."""
        return False

    def _give_up(self, exchange: Exchange) -> None:
        del self._exchanges[exchange.number]
        told = (
            f"The MCP server {self._name!r} said nothing about this request for {self._patience.answer:g} s: "
            "it was cancelled there, and may or may not have run."
        )
        exchange.reader.end(UpstreamInterrupted(told))
        self._cancel(exchange)

    def _cut_slow(self, now: float) -> None:
        while (reader := self._readers.slowest(now - self._patience.read)) is not None and self._waits_beside(reader):
            self._cut(reader)

    def _cut(self, reader: Reader) -> None:
        self._log.warning("a client has read nothing for %g s while others wait: it is cut", self._patience.read)
        told = f"The answer was not read for {self._patience.read:g} s while others waited: the rest of it is lost."
        reader.end(UpstreamInterrupted(told))
        for exchange in [one for one in self._exchanges.values() if one.reader is reader]:
            self._leave(exchange)
        reader.clear()  # of one that was answered

    def _waits_beside(self, reader: Reader) -> bool:
        """Whether anybody else waits for the process."""
        return any(exchange.reader is not reader for exchange in self._exchanges.values())
