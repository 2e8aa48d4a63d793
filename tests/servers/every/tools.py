"""What each tool does; a script says by its arguments what a tool asks and tells.

What belongs here: `tools/call` in either era. What does not: tasks and rounds, which are of one era only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tests.servers.every.content import CONTENT, LARGE, META, STRANGE, STRUCTURED
from tests.servers.every.session import VERSION, Refused, Turn
from tests.servers.every.speech import Message

LOG_LEVEL = "io.modelcontextprotocol/logLevel"
LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")


def said(text: str, **more: Any) -> Message:
    """A result in words."""
    return {"content": [{"type": "text", "text": text}], "isError": False, **more}


async def content(turn: Turn) -> Message:
    """Content of every kind, and `_meta`."""
    return {"content": CONTENT, "structuredContent": STRUCTURED, "isError": False, "_meta": META}


async def strange(turn: Turn) -> Message:
    """Content, fields and numbers that nobody knows."""
    return STRANGE


async def fails(turn: Turn) -> Message:
    """An error of the tool."""
    return {"content": [{"type": "text", "text": "no"}], "isError": True, "_meta": META}


async def breaks(turn: Turn) -> Message:
    """An error of the protocol, of the code that is asked for."""
    raise Refused(turn.params["arguments"].get("code", -32000), "It broke.", why=["because", None], number=1.0)


async def steps(turn: Turn) -> Message:
    """Progress, when it is wanted."""
    token = turn.meta.get("progressToken")
    count: int = turn.params["arguments"].get("count", 3)
    for step in range(1, count + 1):
        if token is not None:
            told: Message = {
                "progressToken": token,
                "progress": step / 2,
                "total": count,
                "message": f"step {step}",
                "x": {},
            }
            turn.say("notifications/progress", told)
    return said(f"{count} steps")


async def talks(turn: Turn) -> Message:
    """A log message of each level that is wanted."""
    least = turn.meta.get(LOG_LEVEL) if VERSION in turn.meta else turn.session.level
    for level in LEVELS[LEVELS.index(least) :] if least else ():
        turn.say("notifications/message", {"level": level, "logger": "every", "data": {"b": level, "a": 1.0}})
    return said("talked")


async def asks(turn: Turn) -> Message:
    """Ask the client before the answer; its response is the result's."""
    asked = turn.params["arguments"]
    return said("asked", structuredContent=await turn.ask(asked["method"], asked.get("params")))


async def asks_aside(turn: Turn) -> Message:
    """The same, where what belongs to no request is said."""
    asked = turn.params["arguments"]
    _, answer = turn.session.ask(turn.session.aside, asked["method"], asked.get("params"))
    return said("asked", structuredContent=await answer)


async def withdraws(turn: Turn) -> Message:
    """Ask the client, and take it back."""
    number, _ = turn.session.ask(turn.sink, "sampling/createMessage", {"messages": [], "maxTokens": 1})
    turn.say("notifications/cancelled", {"requestId": number, "reason": "no more wanted", "_meta": META})
    return said("withdrawn")


async def announces(turn: Turn) -> Message:
    """Tell what belongs to no request; in the modern era, to whoever listens."""
    for told in turn.params["arguments"]["said"]:
        if VERSION not in turn.meta:
            turn.session.aside({"jsonrpc": "2.0", **told})
        for listener in turn.session.listening:
            params: Message = told.get("params") or {}
            meta: Message = {
                **params.get("_meta", {}),
                "io.modelcontextprotocol/subscriptionId": listener.message["id"],
            }
            listener.say(told["method"], {**params, "_meta": meta})
    return said("announced")


async def waits(turn: Turn) -> Message:
    """Say so, and wait until somebody releases it by name."""
    name: str = turn.params["arguments"]["name"]
    turn.say("notifications/message", {"level": "emergency", "data": f"{name} waits"})
    try:
        await turn.session.released[name].wait()
    except asyncio.CancelledError:
        turn.session.gone[name].set()
        raise
    return said(f"{name} released")


async def drops(turn: Turn) -> Message:
    """Close the stream, then wait like `waits`; the answer is for whoever resumes the stream."""
    turn.say("notifications/message", {"level": "emergency", "data": "before"})
    turn.cut()
    await turn.session.released[turn.params["arguments"]["name"]].wait()
    turn.say("notifications/message", {"level": "emergency", "data": "after"})
    return said("resumed")


async def release(turn: Turn) -> Message:
    """Let one that waits go on."""
    turn.session.released[turn.params["arguments"]["name"]].set()
    return said("released")


async def gone(turn: Turn) -> Message:
    """Wait until one that waited was cancelled."""
    await turn.session.gone[turn.params["arguments"]["name"]].wait()
    return said("gone")


async def label(turn: Turn) -> Message:
    """Give the argument back that a header mirrors."""
    return said(turn.params["arguments"]["region"])


async def hidden(turn: Turn) -> Message:
    """What a policy may hide."""
    return said("hidden")


async def large(turn: Turn) -> Message:
    """A result that takes many packets."""
    return said(LARGE)


TOOLS: dict[str, Callable[[Turn], Awaitable[Message]]] = {
    does.__name__: does
    for does in (
        content, strange, fails, breaks, steps, talks, asks, asks_aside, withdraws,
        announces, waits, drops, release, gone, label, hidden, large,
    )
}  # fmt: skip


async def call(turn: Turn) -> Message:
    """`tools/call`."""
    name = turn.params.get("name")
    if name not in TOOLS:
        raise Refused(-32602, f"Unknown tool: {name}", name=name)
    return await TOOLS[name](turn)
