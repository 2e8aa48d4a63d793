"""An upstream that is a command: plays the Streamable HTTP server for its processes.

What belongs here: which process serves whom, and HTTP's side of sessions (2025-11-25, Streamable HTTP). What does not:
the traffic with one process (`connection`).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from broker.domain.canonical import new_id
from broker.errors import SessionUnknown, UpstreamInterrupted, UpstreamUnreachable
from broker.gateway.jsonrpc import INVALID_REQUEST
from broker.gateway.replies import empty_reply, json_reply
from broker.gateway.upstreams import UpstreamReply, UpstreamRequest
from broker.gateway.upstreams.stdio.alarm import Patience, loop_time
from broker.gateway.upstreams.stdio.connection import Connection
from broker.gateway.upstreams.stdio.exchange import CANCELLED
from broker.gateway.upstreams.stdio.process import Command
from broker.gateway.upstreams.stdio.session import Session
from broker.gateway.upstreams.stdio.shared import Shared
from broker.gateway.wire import error_message, http_status, is_response

MOST_SESSIONS = 16
"""Legacy sessions, each with a process, that one grant may have."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
OPENS_WITHIN = 60.0
"""Seconds in which a started server answers `initialize`; the first start of some installs them."""
ANSWER_WITHIN, READ_WITHIN, IDLE = 600.0, 30.0, 1800.0

AnyConnection = TypeVar("AnyConnection", bound=Connection)


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
    started when it is first needed. Two grants never share a process. One that nobody uses is ended.

    Args:
        env: what the process gets beside the few variables that every child needs.
        opens_within: seconds in which a started process has to answer `initialize`.
        answer_within: seconds in which a process has to give a sign of life (progress is one) to a request under way.
        read_within: seconds in which a client has to read something, while others wait for it.
        idle: seconds without use after which a process is ended; a legacy session is over then.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        *,
        opens_within: float = OPENS_WITHIN,
        answer_within: float = ANSWER_WITHIN,
        read_within: float = READ_WITHIN,
        idle: float = IDLE,
    ) -> None:
        self._opens_within = opens_within
        self._patience = Patience(answer_within, read_within, idle)
        self._command = Command(name, tuple(command), dict(env or {}), cwd)
        self._alive: set[Connection] = set()
        self._opening: set[asyncio.Task[Any]] = set()
        self._reaping: set[asyncio.Task[None]] = set()
        self._sessions: dict[str, Session] = {}
        self._shared: dict[str, asyncio.Task[Shared]] = {}
        self._pauses: dict[tuple[str, bool], _Pause] = {}
        self._closed = False

    @property
    def name(self) -> str:
        """Its name in the configuration and in `/mcp/{name}`."""
        return self._command.name

    @property
    def tenants(self) -> frozenset[str]:
        """The grants that have a process here."""
        return frozenset(connection.grant_id for connection in self._alive if not connection.over)

    async def send(self, request: UpstreamRequest) -> UpstreamReply:
        """Send one request to the process that serves it; return when its answer begins.

        Raises:
            SessionUnknown: the session is over, or never was this grant's.
            UpstreamUnreachable: no process can be started, or the request was not written.
            UpstreamInterrupted: the process ended before it answered, or gave no sign of life for too long.
        """
        message = request.message
        if message is None:
            return await self._without_message(request)
        if request.modern:
            return await self._modern(request, message)
        if request.session is not None:
            return await self._pass_on(self._session(request), request, message)
        if message.get("method") == "initialize" and "id" in message:
            return await self._initialize(request, message)
        return _bad_request(message.get("id"))

    def touch(self, session: str) -> None:
        """Somebody waits in a legacy session: its process is in use."""
        if (connection := self._sessions.get(session)) is not None:
            connection.touch()

    async def release(self, grant_id: str) -> None:
        """End every process of a grant that ended; what is under way is interrupted at once."""
        why = f"The grant ended, and its process of the MCP server {self.name!r} with it"
        for modern in (False, True):
            self._pauses.pop((grant_id, modern), None)
        await asyncio.gather(*self._opening, return_exceptions=True)
        await asyncio.gather(*(one.close(why, at_once=True) for one in self._alive if one.grant_id == grant_id))

    async def close(self) -> None:
        """End every process, all at once; what is under way is interrupted."""
        self._closed = True
        await asyncio.gather(*self._opening, return_exceptions=True)
        why = f"The broker stopped, and its MCP server {self.name!r} with it"
        await asyncio.gather(*(connection.close(why) for connection in self._alive))
        await asyncio.gather(*self._reaping)

    def kill(self) -> None:
        """Kill every process right now, without waiting; for when there is no time for `close`."""
        self._closed = True
        for connection in self._alive:
            connection.kill()

    async def _without_message(self, request: UpstreamRequest) -> UpstreamReply:
        if request.modern:
            return empty_reply(405, (b"allow", b"POST"))
        if request.session is None:
            return _bad_request(None)
        if request.method == "GET":
            return self._session(request).listen()
        return await self._delete(request)

    async def _pass_on(
        self, connection: Connection, request: UpstreamRequest, message: Mapping[str, Any]
    ) -> UpstreamReply:
        if "id" in message and not is_response(message):
            streams = any(name == b"accept" and b"text/event-stream" in value for name, value in request.headers)
            return await connection.request(message, request.permit, streams=streams and not request.own)
        if not request.modern or not is_response(message):  # a modern server asks nothing
            await connection.notify(message, own=request.own)
        return empty_reply(202)

    # -- processes ----------------------------------------------------------------------------------------------------

    def _open(self, connection: AnyConnection) -> asyncio.Task[AnyConnection]:
        """Start a process; the task goes on when the one who asked for it leaves."""
        self._alive.add(connection)
        task = asyncio.create_task(self._started(connection))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        return task

    async def _started(self, connection: AnyConnection) -> AnyConnection:
        try:
            self._check_start(connection)
            await connection.open()
        except BaseException:
            self._alive.discard(connection)
            raise
        return connection

    def _check_start(self, connection: Connection) -> None:
        if self._closed:
            raise UpstreamUnreachable(f"The broker has ended its MCP server {self.name!r}.")
        pause = self._pauses.get(_whose(connection))
        left = pause.until - loop_time() if pause else 0.0
        if left > 0:
            raise UpstreamUnreachable(
                f"The MCP server {self.name!r} ended without answering anything; its last words are in the broker's "
                f"log. It is started again in {math.ceil(left)} s at the earliest."
            )

    def _ended(self, connection: Connection) -> None:
        for session in [key for key, value in self._sessions.items() if value is connection]:
            del self._sessions[session]
        shared = self._shared.get(connection.grant_id)
        if shared is not None and shared.done() and not shared.exception() and shared.result() is connection:
            del self._shared[connection.grant_id]
        if connection.answered:
            self._pauses.pop(_whose(connection), None)
        elif connection.wanted:  # it died
            self._pauses.setdefault(_whose(connection), _Pause()).lengthen(loop_time())
        self._in_background(self._reap(connection))

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._reaping.add(task)
        task.add_done_callback(self._reaping.discard)

    async def _reap(self, connection: Connection) -> None:
        await connection.close(f"The MCP server {self.name!r} ended")
        self._alive.discard(connection)

    # -- legacy: a process for each session ---------------------------------------------------------------------------

    async def _initialize(self, request: UpstreamRequest, message: Mapping[str, Any]) -> UpstreamReply:
        self._make_room(request.grant_id)
        opening = self._open(Session(self._command, request.grant_id, self._patience, self._ended))
        session = None
        try:
            connection = await asyncio.shield(opening)
            # Never a stream: whether there is a session is said in the header, so the answer has to be known by then.
            answer = await self._answer_soon(connection, message)
            if "result" in answer and not connection.over:
                session = new_id("mcp")
                self._sessions[session] = connection
        finally:
            if session is None:
                opening.add_done_callback(self._close_opened)
        reply = json_reply(answer)
        reply.session = session
        return reply

    async def _answer_soon(self, connection: Connection, message: Mapping[str, Any]) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self._opens_within):
                return await connection.answer(message)
        except TimeoutError:
            raise UpstreamInterrupted(
                f"The MCP server {self.name!r} was started and said nothing within {self._opens_within:g} s. "
                "Does its command speak MCP on standard output?"
            ) from None

    def _make_room(self, grant_id: str) -> None:
        """Clients often leave without a DELETE, so the session of a grant that was unused longest makes room."""
        mine = [one for one in self._alive if one.grant_id == grant_id and not one.modern and not one.over]
        if len(mine) < MOST_SESSIONS:
            return
        idle = [key for key, session in self._sessions.items() if session.grant_id == grant_id and not session.busy]
        if not idle:
            raise UpstreamUnreachable(
                f"This grant has {MOST_SESSIONS} sessions with the MCP server {self.name!r}, all at work: "
                "no other was opened. End one, or wait."
            )
        why = f"Another session with the MCP server {self.name!r} took its place"
        self._in_background(self._sessions.pop(idle[0]).close(why))

    def _close_opened(self, opening: asyncio.Task[Session]) -> None:
        if not opening.cancelled() and opening.exception() is None:
            self._in_background(opening.result().close(f"No session was opened with the MCP server {self.name!r}"))

    def _session(self, request: UpstreamRequest) -> Session:
        session = self._sessions.get(request.session or "")
        if session is None or session.over or session.grant_id != request.grant_id:
            raise SessionUnknown
        self._sessions[request.session or ""] = self._sessions.pop(request.session or "")  # the last used comes last
        return session

    async def _delete(self, request: UpstreamRequest) -> UpstreamReply:
        session = self._session(request)
        del self._sessions[request.session or ""]
        await session.close(f"The session with the MCP server {self.name!r} was ended")
        return empty_reply(200)

    # -- modern: a process for each grant -----------------------------------------------------------------------------

    async def _modern(self, request: UpstreamRequest, message: Mapping[str, Any]) -> UpstreamReply:
        if message.get("method") == CANCELLED:
            return empty_reply(202)  # it would name some client's id; modern HTTP cancels by closing the answer
        connection = await self._shared_by(request.grant_id)
        if message.get("method") != "server/discover" or "id" not in message:
            return await self._pass_on(connection, request, message)
        answer = await self._answer_soon(connection, message)
        if "error" in answer and not connection.busy:  # it serves no modern client
            self._in_background(connection.close(f"The MCP server {self.name!r} speaks the handshake only"))
        return json_reply(answer, http_status(answer))

    async def _shared_by(self, grant_id: str) -> Shared:
        """The grant's process; requests that come while it starts wait for the same one."""
        task = self._shared.get(grant_id)
        if task is None or _useless(task):
            task = self._shared[grant_id] = self._open(Shared(self._command, grant_id, self._patience, self._ended))
        return await asyncio.shield(task)


def _useless(task: asyncio.Task[Shared]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None or task.result().over)


def _whose(connection: Connection) -> tuple[str, bool]:
    """Grant and era: a server that dies of `server/discover` may serve a handshake right after."""
    return connection.grant_id, connection.modern


def _bad_request(request_id: Any) -> UpstreamReply:
    told = "Bad Request: there is no Mcp-Session-Id; send initialize first."
    return json_reply(error_message(request_id, INVALID_REQUEST, told), 400)
