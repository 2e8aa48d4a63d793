"""An upstream that is a command: plays the Streamable HTTP server for its processes.

What belongs here: which process serves whom, and HTTP's side of sessions (2025-11-25, Streamable HTTP). What does not:
the traffic with one process (`broker.gateway.upstreams.connection`).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mcp_types.jsonrpc import INVALID_REQUEST

from broker.domain.canonical import new_id
from broker.errors import SessionUnknown, UpstreamInterrupted, UpstreamUnreachable
from broker.gateway.replies import empty_reply, json_reply
from broker.gateway.upstreams import UpstreamReply, UpstreamRequest
from broker.gateway.upstreams.connection import CANCELLED, Connection
from broker.gateway.upstreams.process import Command
from broker.gateway.wire import error_message, is_response

MOST_SESSIONS = 16
"""Legacy sessions, each with a process, that one grant may have."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
OPENS_WITHIN = 60.0
"""Seconds in which a started server answers `initialize`; the first start of some installs them."""


@dataclass(slots=True)
class _Pause:
    """How long a server that died without ever answering is not started again; doubles with each time."""

    length: float = 0.0
    until: float = 0.0

    def lengthen(self, now: float) -> None:
        self.length = min(self.length * 2 or FIRST_PAUSE, LONGEST_PAUSE)
        self.until = now + self.length


class StdioUpstream:
    """An MCP server that is started as a command.

    A legacy session has a process of its own, from `initialize` to DELETE. The modern requests of one grant share one,
    started when it is first needed. Two grants never share a process.

    Args:
        env: what the process gets beside the few variables that every child needs.
        opens_within: seconds in which a started process has to answer `initialize`.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        opens_within: float = OPENS_WITHIN,
    ) -> None:
        self._opens_within = opens_within
        self._command = Command(name, tuple(command), dict(env or {}), cwd)
        self._alive: set[Connection] = set()
        self._opening: set[asyncio.Task[Connection]] = set()
        self._reaping: set[asyncio.Task[None]] = set()
        self._sessions: dict[str, Connection] = {}
        self._shared: dict[str, asyncio.Task[Connection]] = {}
        self._pauses: dict[str, _Pause] = {}
        self._closed = False

    @property
    def name(self) -> str:
        """Its name in the configuration and in `/mcp/{name}`."""
        return self._command.name

    async def send(self, request: UpstreamRequest) -> UpstreamReply:
        """Send one request to the process that serves it; return when its answer begins.

        Raises:
            SessionUnknown: the session is over, or never was this grant's.
            UpstreamUnreachable: no process can be started, or the request was not written.
            UpstreamInterrupted: the process ended before it answered.
        """
        message = request.message
        if request.method == "GET" or (request.modern and message is None):
            return empty_reply(405, (b"allow", b"POST" if request.modern else b"POST, DELETE"))
        if message is None:
            return await self._delete(request)
        if request.modern:
            return await self._modern(request, message)
        if request.session is None and message.get("method") == "initialize" and "id" in message:
            return await self._initialize(request, message)
        if request.session is None:
            told = "Bad Request: there is no Mcp-Session-Id; send initialize first."
            return json_reply(error_message(message.get("id"), INVALID_REQUEST, told), 400)
        return await self._pass_on(self._session(request), request, message)

    async def close(self) -> None:
        """End every process, all at once; what is under way is interrupted."""
        self._closed = True
        await asyncio.gather(*self._opening, return_exceptions=True)
        await asyncio.gather(*(connection.close() for connection in self._alive))
        await asyncio.gather(*self._reaping)

    async def _pass_on(
        self, connection: Connection, request: UpstreamRequest, message: Mapping[str, Any]
    ) -> UpstreamReply:
        if is_response(message):
            return empty_reply(202)  # to a request of the server, and none of these are passed on yet
        if "id" not in message:
            await connection.notify(message)
            return empty_reply(202)
        streams = any(name == b"accept" and b"text/event-stream" in value for name, value in request.headers)
        return await connection.request(message, streams=streams, modern=request.modern)

    # -- processes ----------------------------------------------------------------------------------------------------

    def _open(self, grant_id: str, *, shared: bool) -> asyncio.Task[Connection]:
        if self._closed:
            raise UpstreamUnreachable(f"The broker has ended its MCP server {self.name!r}.")
        task = asyncio.create_task(self._started(grant_id, shared=shared))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        return task

    async def _started(self, grant_id: str, *, shared: bool) -> Connection:
        connection = Connection(self._command, grant_id, partial(self._ended, shared=shared))
        self._alive.add(connection)
        try:
            await connection.open()
        except BaseException:
            self._alive.discard(connection)
            raise
        return connection

    def _ended(self, connection: Connection, *, shared: bool) -> None:
        for session in [key for key, value in self._sessions.items() if value is connection]:
            del self._sessions[session]
        if connection.answered:
            self._pauses.pop(connection.grant_id, None)
        elif shared:
            pause = self._pauses.setdefault(connection.grant_id, _Pause())
            pause.lengthen(asyncio.get_running_loop().time())
        self._in_background(self._reap(connection))

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._reaping.add(task)
        task.add_done_callback(self._reaping.discard)

    async def _reap(self, connection: Connection) -> None:
        await connection.close()
        self._alive.discard(connection)

    # -- legacy: a process for each session ---------------------------------------------------------------------------

    async def _initialize(self, request: UpstreamRequest, message: Mapping[str, Any]) -> UpstreamReply:
        await self._make_room(request.grant_id)
        opening = self._open(request.grant_id, shared=False)
        session = None
        try:
            connection = await asyncio.shield(opening)
            # Never a stream: whether there is a session is said in the header, so the answer has to be known by then.
            async with asyncio.timeout(self._opens_within):
                answer = await connection.answer(message)
            if "result" in answer:
                session = new_id("mcp")
                self._sessions[session] = connection
        except TimeoutError:
            raise self._silent() from None
        finally:
            if session is None:
                opening.add_done_callback(self._close_opened)
        reply = json_reply(answer)
        reply.session = session
        return reply

    def _silent(self) -> UpstreamInterrupted:
        return UpstreamInterrupted(
            f"The MCP server {self.name!r} was started and said nothing within {self._opens_within:g} s. "
            "Does its command speak MCP on standard output?"
        )

    async def _make_room(self, grant_id: str) -> None:
        """Clients often leave without a DELETE, so the session of a grant that was unused longest makes room."""
        mine = [key for key, connection in self._sessions.items() if connection.grant_id == grant_id]
        idle = [key for key in mine if not self._sessions[key].busy]
        if len(mine) < MOST_SESSIONS:
            return
        if not idle:
            raise UpstreamUnreachable(
                f"This grant has {MOST_SESSIONS} sessions with the MCP server {self.name!r}, all at work: "
                "no other was opened. End one, or wait."
            )
        await self._sessions.pop(idle[0]).close()

    def _close_opened(self, opening: asyncio.Task[Connection]) -> None:
        if not opening.cancelled() and opening.exception() is None:
            self._in_background(opening.result().close())

    def _session(self, request: UpstreamRequest) -> Connection:
        connection = self._sessions.get(request.session or "")
        if connection is None or connection.over or connection.grant_id != request.grant_id:
            raise SessionUnknown
        self._sessions[request.session or ""] = self._sessions.pop(request.session or "")  # the last used comes last
        return connection

    async def _delete(self, request: UpstreamRequest) -> UpstreamReply:
        connection = self._session(request)
        del self._sessions[request.session or ""]
        await connection.close()
        return empty_reply(200)

    # -- modern: a process for each grant -----------------------------------------------------------------------------

    async def _modern(self, request: UpstreamRequest, message: Mapping[str, Any]) -> UpstreamReply:
        if message.get("method") == CANCELLED:
            return empty_reply(202)  # it would name some client's id; modern HTTP cancels by closing the answer
        connection = await self._shared_by(request.grant_id)
        if message.get("method") != "server/discover":
            return await self._pass_on(connection, request, message)
        try:
            async with asyncio.timeout(self._opens_within):
                return await self._pass_on(connection, request, message)
        except TimeoutError:
            raise self._silent() from None

    async def _shared_by(self, grant_id: str) -> Connection:
        """The grant's process; requests that come while it starts wait for the same one."""
        task = self._shared.get(grant_id)
        if task is None or _useless(task):
            self._refuse_if_pausing(grant_id)
            task = self._shared[grant_id] = self._open(grant_id, shared=True)
        return await asyncio.shield(task)

    def _refuse_if_pausing(self, grant_id: str) -> None:
        pause = self._pauses.get(grant_id)
        left = pause.until - asyncio.get_running_loop().time() if pause else 0.0
        if left > 0:
            raise UpstreamUnreachable(
                f"The MCP server {self.name!r} ended without answering anything. "
                f"It is started again in {math.ceil(left)} s at the earliest."
            )


def _useless(task: asyncio.Task[Connection]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None or task.result().over)
