"""One request of the client: sent, sent again where that is safe, and followed until its answer is written.

What belongs here: what an answer is and what its absence proves. What does not: what the eras ask for beside that
(`legacy`, `modern`), and the words for an answer that never came (`refusals`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing, closing
from typing import Any, Protocol, cast

import aiohttp

from broker.bridge.http import BrokerHttp, Refused, ShutOut, is_stream, whole
from broker.bridge.refusals import method_is_unknown, refused
from broker.bridge.streams import Stream, one_line
from broker.errors import SessionUnknown, UpstreamInterrupted, UpstreamUnreachable
from broker.gateway.jsonrpc import Message, dumps, is_response, loads

REPEATABLE = frozenset(
    {
        *("initialize", "ping", "server/discover", "completion/complete", "logging/setLevel"),
        *("tools/list", "prompts/list", "prompts/get"),
        *("resources/list", "resources/templates/list", "resources/read"),
        *("resources/subscribe", "resources/unsubscribe", "subscriptions/listen"),
        *("tasks/get", "tasks/list", "tasks/result"),
    }
)
"""Methods that may be done twice. A tool call is never one, and neither is a method that nobody knows."""

Write = Callable[[bytes], Awaitable[None]]
Fields = dict[str, str]

JSON_FIELDS: Fields = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
"""What goes with every message, in either era."""


class Era(Protocol):
    """What the two eras do each in their own way."""

    resumes: bool
    """Whether a stream that ended early can be taken up again by `GET`."""

    async def standing(self, message: Message) -> object | None:
        """The session that a message belongs to, once it can be used; None where there is none."""
        ...

    def fields(self, message: Message) -> Fields:
        """The fields of HTTP that go with a message."""
        ...

    def heard(self, exchange: Exchange, answer: Mapping[str, Any], session: str | None) -> None:
        """Take note of an answer before the client has it; `session` is what the `Mcp-Session-Id` said."""
        ...

    async def reopen(self, lost: object) -> None:
        """Make another session in place of the `lost` one; raises the broker's errors."""
        ...


class Exchange:
    """A request under way.

    Args:
        line: the request as the client wrote it.
        write: passes a message on to the client.
    """

    def __init__(self, line: bytes, message: Message, era: Era, http: BrokerHttp, write: Write) -> None:
        self.line = line
        self.message = message
        self.era = era
        self.sent_at: float | None = None
        """When the broker may have heard of it, by the loop's clock; None while it certainly has not."""
        self.begun = asyncio.Event()
        """Set when the broker certainly does: its answer has begun."""
        self.given_up = False
        """Whether the client has cancelled it, and an answer need not come."""
        self._http = http
        self._write = write

    @property
    def waits_for_a_tool(self) -> bool:
        """Whether it is a tool call that the client has not given up."""
        return self.message.method == "tools/call" and not self.given_up

    async def run(self) -> None:
        """Send it and pass on what comes, until the answer.

        Raises:
            Refused, UpstreamUnreachable: nothing ran, or only what may be done twice.
            UpstreamInterrupted: it may or may not have run.
        """
        repeats = 1 if self.message.method in REPEATABLE else 0
        reopened = False
        while True:
            standing = await self.era.standing(self.message)
            try:
                return await self.attempt(standing)
            except SessionUnknown:  # which proves that it did not run
                self.sent_at = None
                if reopened or standing is None:
                    raise
                await self.era.reopen(standing)
                reopened = True
            except UpstreamInterrupted:
                if not repeats or self.given_up:
                    raise
                repeats -= 1

    async def attempt(self, standing: object | None) -> None:
        """The same, sent once.

        Raises:
            SessionUnknown: nothing ran, for the session that is `standing` is over.
        """
        fields = self.era.fields(self.message)
        response = await self._http.send("POST", fields, self.line, sending=self._sending)
        with closing(response):
            self.begun.set()
            if is_stream(response):
                await self._follow(response, fields)
            else:
                await self._take(response, await whole(response), standing)

    def _sending(self) -> None:
        self.sent_at = asyncio.get_running_loop().time()

    # -- one message --------------------------------------------------------------------------------------------------

    async def _take(self, response: aiohttp.ClientResponse, body: bytes, standing: object | None) -> None:
        value = _parsed(body)
        if self._answer_in(value) is not None:
            await self._pass_on(one_line(body), value, response)
        elif response.status == 404 and standing is not None and not method_is_unknown(value):
            raise SessionUnknown
        elif sentence := refused(response.status, value, self._http.url):
            raise Refused(sentence)
        elif isinstance(value, dict) and is_response(answer := cast("dict[str, Any]", value)):
            mine = {**answer, "id": self.message.id}  # who could not read a request does not know its id
            await self._pass_on(dumps(mine), mine, response)
        else:
            raise UpstreamInterrupted(f"{self._http.url} does not answer like a broker (HTTP {response.status}).")

    def _answer_in(self, value: Any) -> dict[str, Any] | None:
        said = cast("list[Any]", value) if isinstance(value, list) else [value]  # 2025-03-26 lets a server batch
        for message in said:
            if isinstance(message, dict) and is_response(answer := cast("dict[str, Any]", message)):
                identity = answer.get("id")
                if identity == self.message.id and type(identity) is type(self.message.id):
                    return answer
        return None

    async def _pass_on(self, line: bytes, value: Any, response: aiohttp.ClientResponse) -> bool:
        """Give a message to the client; tells whether it was the answer."""
        answer = self._answer_in(value)
        if answer is not None:
            self.era.heard(self, answer, response.headers.get("mcp-session-id"))
        await self._write(line)
        return answer is not None

    # -- a stream of them ---------------------------------------------------------------------------------------------

    async def _follow(self, response: aiohttp.ClientResponse, fields: Fields) -> None:
        """Pass a stream on until the answer. Where it ends before, go on with it if that can be done.

        Args:
            fields: those of the request: the stream belongs to its session, though another one may be open by now.

        Raises:
            UpstreamInterrupted: and nothing else, since the request was sent.
        """
        stream = Stream()
        while not await self._heard(stream, response):
            if not stream.resumable or not self.era.resumes or self.given_up:
                raise UpstreamInterrupted("The connection to the broker ended before the answer.")
            await asyncio.sleep(stream.pause)
            response = await self._resumed(stream, {**fields})

    async def _resumed(self, stream: Stream, fields: Fields) -> aiohttp.ClientResponse:
        fields.pop("content-type", None)
        try:
            response = await self._http.send("GET", stream.fields(fields))
        except UpstreamUnreachable as error:
            raise UpstreamInterrupted(f"The connection to the broker ended before the answer. {error}") from error
        if is_stream(response):
            return response
        response.close()
        if response.status in (401, 403):
            raise ShutOut(
                f"The grant ended while the request was under way (HTTP {response.status}): "
                "ask your administrator for a new one (broker grant create)."
            )
        raise UpstreamInterrupted(f"The broker does not resume the answer (HTTP {response.status}).")

    async def _heard(self, stream: Stream, response: aiohttp.ClientResponse) -> bool:
        """Pass one connection of it on; tells whether the answer came."""
        with closing(response):
            async with aclosing(stream.messages(response)) as messages:
                async for line in messages:
                    if await self._pass_on(line, _message(line), response):
                        return True
        return False


def _message(data: bytes) -> Any:
    try:
        return loads(data)
    except ValueError:
        raise UpstreamInterrupted("The broker answered with something that is not JSON.") from None


def _parsed(body: bytes) -> Any:
    try:
        return loads(body)
    except ValueError:
        return None
