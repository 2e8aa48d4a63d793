"""An HTTP MCP server in the test's own loop, whose tools and answers the test writes, and which keeps what it was sent.

It speaks both eras as far as a gateway can tell: `initialize`, `server/discover`, `tools/list`, `tools/call`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Message = dict[str, Any]
Handler = Callable[[Message], Awaitable[Response]]

IMPLEMENTATION = {"name": "scripted", "version": "1"}
CAPABILITIES: dict[str, Any] = {"tools": {}}


def tool(name: str, description: str = "A tool.", **more: Any) -> dict[str, Any]:
    """A tool as `tools/list` describes it."""
    return {"name": name, "description": description, "inputSchema": {"type": "object"}, **more}


def result(message: Message, value: dict[str, Any], **more: Any) -> Response:
    """A response as JSON; its result is whole in either era."""
    body = {"jsonrpc": "2.0", "id": message["id"], "result": {"resultType": "complete", **value}, **more}
    return Response(json.dumps(body), media_type="application/json")


def said(message: Message, text: str = "done", **more: Any) -> Response:
    """A tool's result."""
    return result(message, {"content": [{"type": "text", "text": text}], "isError": False, **more})


async def say_done(message: Message) -> Response:
    """Answer every call."""
    return said(message)


@dataclass
class Scripted:
    """The server.

    Args:
        on: what answers a method, `GET` and `DELETE` too (given the fields); everything else is answered as a server
            does.
        seen: the messages that came, oldest first.
    """

    url: str = ""
    tools: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    on: dict[str, Handler] = field(default_factory=dict[str, Handler])
    seen: list[Message] = field(default_factory=list[Message])
    sent: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    stream: bytes = b""
    sessions: set[str] = field(default_factory=set[str])

    def reset(self) -> None:
        """Be as new: `act` and `look` are its tools, and it answers as servers do."""
        self.tools = [tool("act"), tool("look")]
        self.on, self.seen, self.sent, self.sessions = {}, [], [], set()
        self.stream = b""

    def list_tools_when_told(self) -> tuple[asyncio.Event, asyncio.Event]:
        """Hold every `tools/list` back; returns what is set when one came, and what lets them be answered."""
        asked, answer = asyncio.Event(), asyncio.Event()

        async def hold_back(message: Message) -> Response:
            asked.set()
            await answer.wait()
            return result(message, {"tools": self.tools, "ttlMs": 0, "cacheScope": "private"})

        self.on["tools/list"] = hold_back
        return asked, answer

    @property
    def calls(self) -> list[Message]:
        """The tool calls that came."""
        return [message for message in self.seen if message.get("method") == "tools/call"]

    async def answer(self, request: Request) -> Response:
        """Answer one HTTP request."""
        if handler := self.on.get(request.method):
            return await handler(dict(request.headers))
        if request.method == "GET":
            return Response(self.stream, media_type="text/event-stream")
        if request.method == "DELETE":
            self.sessions.discard(request.headers.get("mcp-session-id", ""))
            return Response()
        message: Message = json.loads(await request.body())
        self.seen.append(message)
        self.sent.append(dict(request.headers))
        session = request.headers.get("mcp-session-id")
        if session is not None and session not in self.sessions:
            error = {"code": -32001, "message": "Session not found"}
            return JSONResponse({"jsonrpc": "2.0", "id": "server-error", "error": error}, 404)
        if handler := self.on.get(message.get("method", "")):
            return await handler(message)
        return await self._usual(message)

    async def _usual(self, message: Message) -> Response:
        match message.get("method"):
            case _ if "id" not in message or "method" not in message:
                return Response(status_code=202)
            case "initialize":
                return self._opened(message)
            case "server/discover":
                versions = ["2026-07-28"]
                info = {"serverInfo": IMPLEMENTATION, "capabilities": CAPABILITIES}
                return result(message, {"supportedVersions": versions, **info, "ttlMs": 0, "cacheScope": "private"})
            case "tools/list":
                return result(message, {"tools": self.tools, "ttlMs": 0, "cacheScope": "private"})
            case "tools/call":
                return said(message)
            case _:
                error = {"code": -32601, "message": "Method not found", "data": {"kept": True}}
                return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "error": error})

    def _opened(self, message: Message) -> Response:
        session = f"s{len(self.sessions) + 1}"
        self.sessions.add(session)
        info = {"serverInfo": IMPLEMENTATION, "capabilities": CAPABILITIES}
        response = result(message, {"protocolVersion": message["params"]["protocolVersion"], **info})
        response.headers["mcp-session-id"] = session
        return response


class Slow:
    """The server's tool calls from now on: each ends when the test says so."""

    def __init__(self, server: Scripted) -> None:
        self.began, self.end = asyncio.Event(), asyncio.Event()
        server.on["tools/call"] = self.answer

    async def answer(self, message: Message) -> Response:
        """Answer when told."""
        self.began.set()
        await self.end.wait()
        return said(message)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


@contextlib.asynccontextmanager
async def scripted(port: int = 0) -> AsyncGenerator[Scripted]:
    """A running one; port 0 takes a free one."""
    server = Scripted()
    server.reset()
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # so that answers do not wait
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    server.url = f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
    app = Starlette(routes=[Route("/mcp", server.answer, methods=["GET", "POST", "DELETE"])])
    config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=0)
    running = _Server(config)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(running.serve, [listening])
        try:
            yield server
        finally:
            running.should_exit = running.force_exit = True
