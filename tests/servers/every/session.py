"""One client as the server knows it: its requests under way, and what it is asked and told.

What belongs here: which message belongs to which request. What does not: bytes (`speech`), streams and pipes
(the transports), what a method does (`legacy`, `modern`, `tools`).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.servers.every.speech import Message

Sink = Callable[[Message], None]
"""Where a message goes: the stream of one request, or where what belongs to none of them is said."""

VERSION = "io.modelcontextprotocol/protocolVersion"


class Refused(Exception):
    """The answer is an error."""

    def __init__(self, code: int, message: str, **data: Any) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message, **({"data": data} if data else {})}


@dataclass
class Session:
    """What is between the server and one client; the modern era has one for all of them.

    Args:
        aside: where what belongs to no request is said.
    """

    aside: Sink
    level: str = "info"
    subscribed: set[str] = field(default_factory=set[str])
    tasks: dict[str, Message] = field(default_factory=dict[str, Message])
    listening: list[Turn] = field(default_factory=list["Turn"])
    released: defaultdict[str, asyncio.Event] = field(default_factory=lambda: defaultdict(asyncio.Event))
    gone: defaultdict[str, asyncio.Event] = field(default_factory=lambda: defaultdict(asyncio.Event))
    _asked: dict[int, asyncio.Future[Message]] = field(default_factory=dict[int, "asyncio.Future[Message]"])
    _running: dict[asyncio.Task[None], Any] = field(default_factory=dict["asyncio.Task[None]", Any])

    def ask(self, sink: Sink, method: str, params: Any) -> tuple[int, asyncio.Future[Message]]:
        """Send the client a request; its ids are numbers that the client uses for its own requests too."""
        number = len(self._asked) + 1
        self._asked[number] = asyncio.get_running_loop().create_future()
        sink({"jsonrpc": "2.0", "id": number, "method": method, **({} if params is None else {"params": params})})
        return number, self._asked[number]

    def take(
        self, message: Message, methods: Methods, sink: Sink, cut: Callable[[], None]
    ) -> asyncio.Task[None] | None:
        """Take one message of the client; returns what works on it when it is a request."""
        if "method" not in message:
            self._asked[message["id"]].set_result(message)
        elif "id" in message:
            task = asyncio.create_task(_serve(Turn(self, message, sink, cut), methods))
            self._running[task] = message["id"]
            task.add_done_callback(self._running.pop)
            return task
        elif message["method"] == "notifications/cancelled":
            self._cancel(message["params"]["requestId"])
        return None

    def _cancel(self, request_id: Any) -> None:
        for task, identity in self._running.items():
            if identity == request_id and type(identity) is type(request_id):
                task.cancel()


@dataclass(eq=False)
class Turn:
    """One request that is being answered.

    Args:
        cut: ends the stream that carries the answer, but not the work on it.
    """

    session: Session
    message: Message
    sink: Sink
    cut: Callable[[], None]

    @property
    def params(self) -> Mapping[str, Any]:
        """The request's."""
        return self.message.get("params") or {}

    @property
    def meta(self) -> Mapping[str, Any]:
        """Its `_meta`."""
        return self.params.get("_meta") or {}

    def say(self, method: str, params: Any = None) -> None:
        """Send a notification beside the answer."""
        self.sink({"jsonrpc": "2.0", "method": method, **({} if params is None else {"params": params})})

    async def ask(self, method: str, params: Any = None) -> Message:
        """Send the client a request before the answer; returns its response."""
        return await self.session.ask(self.sink, method, params)[1]


Methods = Mapping[str, Callable[[Turn], Awaitable[Message]]]
"""What answers a request, by its method: returns the result."""


async def _unheard(turn: Turn) -> Message:
    raise Refused(-32601, "Method not found", method=turn.message["method"], known=False)


async def _serve(turn: Turn, methods: Methods) -> None:
    try:
        answer = {"result": await methods.get(turn.message["method"], _unheard)(turn)}
    except Refused as refused:
        answer = {"error": refused.error}
    turn.sink({"jsonrpc": "2.0", "id": turn.message["id"], **answer})


def meta_of(message: Message) -> Message:
    """The `_meta` of its params; empty when there is none."""
    params: Message = message.get("params") or {}
    return params.get("_meta") or {}


def is_modern(message: Message) -> bool:
    """Whether a message is of the stateless era."""
    return VERSION in meta_of(message)
