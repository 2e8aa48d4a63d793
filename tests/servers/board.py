"""A notice board over HTTP, whose failures the test orders, and the channel that posts there.

`POST /places/PLACE` hangs up a message, `PUT /messages/ID` rewrites one, `POST /messages/ID` says something below it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote

import aiohttp

from broker.approvals.notices import Notice, Reference, Remark
from broker.domain.audit import Kind
from broker.errors import ChannelError, MessageGone, PlaceMissing
from tests.servers import raw_http, read_http

Body = dict[str, Any]


@dataclass
class Message:
    """What hangs on the board: its present text and what was said below it. Ids are numbers, and count up."""

    id: str
    place: str
    text: Body
    below: list[Body] = field(default_factory=list[Body])


@dataclass
class Board:
    """The server.

    Args:
        orders: what becomes of the next requests: `done`, an HTTP status such as `500` or `429 30` (seconds to wait),
            `close` (the connection, and nothing is done), `lost` (done, and closed without an answer), `hang` (nothing
            is done, no answer ever), `late` (done, answered when `release` is set). Then all are done.
        asked: the requests that came, oldest first.
        missing: the places that there are not.
    """

    url: str = ""
    orders: deque[str] = field(default_factory=deque[str])
    asked: list[tuple[str, str, Body]] = field(default_factory=list[tuple[str, str, Body]])
    messages: dict[str, Message] = field(default_factory=dict[str, Message])
    deleted: list[Message] = field(default_factory=list[Message])
    missing: set[str] = field(default_factory=set[str])
    release: asyncio.Event = field(default_factory=asyncio.Event)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def at(self, place: str) -> list[Message]:
        """What hangs in a place, oldest first."""
        return [message for message in self.messages.values() if message.place == place]

    @property
    def posted(self) -> list[str]:
        """The approvals whose messages were to be hung up, oldest first."""
        return [body["approval"] for method, path, body in self.asked if method == "POST" and "/places/" in path]

    def clear(self) -> None:
        """Be as new."""
        for each in (self.orders, self.asked, self.messages, self.deleted, self.missing):
            each.clear()

    def delete(self, message: Message) -> None:
        """Take a message down."""
        self.deleted.append(self.messages.pop(message.id))

    async def until(self, what: Any) -> None:
        """Wait until `what`, called without arguments, is true; it is asked after each request."""
        while not what():
            self.news.clear()
            await self.news.wait()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request of one connection."""
        head, body = await read_http(reader)
        method, path, _ = head[0].split()
        self.asked.append((method, unquote(path), json.loads(body)))
        order = self.orders.popleft() if self.orders else "done"
        self.news.set()
        if order == "hang":
            await reader.read()
        elif order[0].isdigit():
            status, _, wait = order.partition(" ")
            _answer(writer, int(status), {}, f"Retry-After: {wait}\r\n" if wait else "")
        elif order != "close":
            status, told = self._do(*self.asked[-1])
            self.news.set()
            if order == "late":
                await self.release.wait()
            if order != "lost":
                _answer(writer, status, told)

    def _do(self, method: str, path: str, body: Body) -> tuple[int, Body]:
        _, kind, name = path.split("/", 2)
        if kind == "places":
            if name in self.missing:
                return 404, {}
            message = Message(str(len(self.asked)), name, body)
            self.messages[message.id] = message
            return 200, {"id": message.id}
        if name not in self.messages:
            return 410, {}
        if method == "PUT":
            self.messages[name].text = body
        else:
            self.messages[name].below.append(body)
        return 200, {"id": name}


def _answer(writer: asyncio.StreamWriter, status: int, body: Body, more: str = "") -> None:
    data = json.dumps(body).encode()
    head = f"HTTP/1.1 {status} X\r\n{more}Content-Length: {len(data)}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode() + data)


def shown(notice: Notice) -> Body:
    """The text of an approval's message."""
    approval = notice.approval
    return {
        "approval": approval.id,
        "state": approval.state.value,
        "caller": approval.caller.value,
        "votes": [f"{given.by} {given.decision}" for given in approval.reviews],
        "escalated": approval.escalated_at is not None,
        "url": notice.url,
        "whole": repr(notice),
    }


def said(remark: Remark) -> Body:
    """The text of a remark."""
    row = remark.row
    return {
        "kind": row.kind.value,
        "seq": row.seq,
        "by": row.actor,
        "reason": row.detail.get("reason"),
        "mentions": list(remark.mentions),
        "answer": remark.answer,
        "whole": repr(remark),
    }


class BoardChannel:
    """The channel `slack`, which is this board: names of policies lead to it."""

    def __init__(self, url: str, http: aiohttp.ClientSession, *, direct: bool = False) -> None:
        self.name = "slack"
        self.default = "slack:#approvals"
        self.direct = direct
        self._url = url
        self.http = http

    async def show(self, place: str, notice: Notice, reference: Reference | None) -> Reference:
        """Hang a message up, or rewrite it."""
        if reference is None:
            return await self._ask("POST", f"places/{quote(place)}", shown(notice))
        return await self._ask("PUT", f"messages/{reference['id']}", shown(notice))

    async def say(self, place: str, remark: Remark, thread: Reference | None) -> None:
        """Say something below a message, or as one of its own; a message says itself that its call is held."""
        if remark.row.kind is Kind.APPROVAL_SUBMITTED:
            return
        path = f"places/{quote(place)}" if thread is None else f"messages/{thread['id']}"
        await self._ask("POST", path, said(remark))

    async def _ask(self, method: str, path: str, body: Body) -> Body:
        try:
            async with self.http.request(method, f"{self._url}/{path}", json=body) as answer:
                match answer.status:
                    case 200:
                        return await answer.json(content_type=None)
                    case 404:
                        raise PlaceMissing("there is no such place")
                    case 410:
                        raise MessageGone
                    case status:
                        wait = answer.headers.get("Retry-After")
                        error = f"the board answered {status}"
                        raise ChannelError(error, retry_after=float(wait) if wait else None)
        except aiohttp.ClientError as error:
            raise ChannelError(f"the board does not answer ({type(error).__name__})") from error


@contextlib.asynccontextmanager
async def running_board() -> AsyncGenerator[Board]:
    """An empty one."""
    board = Board()
    async with raw_http(board.handle) as url:
        board.url = url.removesuffix("/mcp")
        yield board
        board.release.set()
