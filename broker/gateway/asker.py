"""The agent's side of a held call: its request, the line to it, and what it was told on the way.

What belongs here: signs of life, progress that grows, the last word, what it means that the agent left. What does not:
why it waits (`holds`), bytes (`line`).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, TypeGuard, cast

from broker.approvals.requests import CANCELLED
from broker.domain.answers import Answer
from broker.domain.calls import lasting_params
from broker.domain.canonical import canonical_json
from broker.gateway.flag import Flag
from broker.gateway.inbound import Inbound
from broker.gateway.line import LOST, Line
from broker.gateway.refusals import refusal
from broker.gateway.sse import KEEP_ALIVE, SSE_HEADERS, sse_event
from broker.gateway.upstreams import UpstreamReply

TELL_EVERY = 10.0
"""Seconds between signs of life; the first comes at once."""

GIVEN_UP_AFTER = 1.0
"""Seconds after which the same call in the same session is a client that gave up, and not two calls at once."""

LARGEST_PROGRESS = 1 << 40
"""Beyond this what is added to an upstream's progress would be rounded away."""


def call_in_session(inbound: Inbound) -> bytes | None:
    """What is equal for the same call in the same legacy session. Since there are none, who gives up always says so."""
    if inbound.session is None or inbound.message is None:
        return None
    return hashlib.sha256(canonical_json([inbound.session_key, lasting_params(inbound.message.params)])).digest()


class Asker:
    """Who waits for the answer to one call.

    `news` is set when it leaves, and by whoever else knows of something that it waits for. `notice` is the
    `notifications/cancelled` that it sent, if it did. `waits` is whether it waits for people, `replaced` whether the
    same call came again: some clients never say that they gave one up. `call` is what `call_in_session` says of it.

    Args:
        still_here: called again and again while it waits, so that its session is not taken for unused.
    """

    __slots__ = (
        "_above",
        "_on_leaving",
        "_progress",
        "_still_here",
        "call",
        "inbound",
        "line",
        "news",
        "next_sign",
        "notice",
        "replaced",
        "waits",
    )

    def __init__(self, inbound: Inbound, still_here: Callable[[], None], call: bytes | None = None) -> None:
        self.call = call
        self.inbound = inbound
        self.waits = self.replaced = False
        self.line = Line(self._hung_up)
        self.news = Flag()
        self.next_sign = 0.0
        self.notice: Inbound | None = None
        self._still_here = still_here
        self._on_leaving: Callable[[], None] | None = None
        self._progress: float = 0
        self._above: float = 0  # what is added to the upstream's own progress

    def reply(self) -> UpstreamReply:
        """The answer, whose body comes as time goes by."""
        return UpstreamReply(200, list(SSE_HEADERS), self.line.chunks(), close=self.leave)

    # -- leaving ------------------------------------------------------------------------------------------------------

    async def leave(self) -> None:
        """The connection closed: a cancel since 2026-07-28, and none before that (Transports)."""
        self.line.hang_up(CANCELLED if self.inbound.modern else LOST)

    def cancel(self, notice: Inbound) -> None:
        """It sent `notifications/cancelled`, perhaps after its connection was lost."""
        self.notice = notice
        self.line.hang_up(CANCELLED)
        self.news.set()

    def gave_way_to(self, later: Asker) -> bool:
        """Whether it waits for the call that `later` makes again in its session, having given this one up."""
        again = self.call is not None and self.call == later.call
        return again and self.waits and later.inbound.came - self.inbound.came >= GIVEN_UP_AFTER

    @property
    def cancelled(self) -> bool:
        """Whether it said that it wants no answer any more."""
        return self.line.gone == CANCELLED or self.notice is not None

    def when_it_leaves(self, callback: Callable[[], None]) -> None:
        """Call back once it leaves, now if it has left."""
        self._on_leaving = callback
        if self.line.gone is not None:
            callback()

    def _hung_up(self) -> None:
        if self._on_leaving is not None:
            self._on_leaving()
        self.news.set()

    # -- what it is told ----------------------------------------------------------------------------------------------

    def say_when_due(self, message: str) -> None:
        """A sign of life, if the last is long enough ago."""
        if asyncio.get_running_loop().time() >= self.next_sign:
            self.say(message)

    def say(self, message: str) -> None:
        """A sign of life now: progress if it asked for it, else a comment."""
        self.next_sign = asyncio.get_running_loop().time() + TELL_EVERY
        self._still_here()
        self._progress += 1
        self._above = self._progress
        token = self.inbound.progress_token
        params = {"progressToken": token, "progress": self._progress, "message": message}
        progress = {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}
        self.line.offer(sse_event(progress) if token is not None else KEEP_ALIVE)

    async def pass_on(self, message: Any, raw: bytes) -> None:
        """What the upstream says before its answer, as `raw`; its progress continues above what was told before."""
        if self._is_progress(message):
            self.line.offer(sse_event({**message, "params": self._raised(message["params"])}))
        else:  # the server may wait for an answer to it
            await self.line.send(raw)

    async def tell(self, told: Answer) -> None:
        """The broker's own final answer."""
        await self.line.send(sse_event(refusal(self.inbound, told)))

    def _is_progress(self, message: Any) -> bool:
        token = self.inbound.progress_token
        if token is None or not isinstance(message, dict):
            return False
        notification = cast("dict[str, Any]", message)
        params: Any = notification.get("params")
        return (
            notification.get("method") == "notifications/progress"
            and isinstance(params, dict)
            and cast("dict[str, Any]", params).get("progressToken") == token
        )

    def _raised(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """`params` with progress above all that was told, as it has to be (2025-06-18, Progress)."""
        value, total = params.get("progress"), params.get("total")
        if not _is_usual(value):
            return params
        raised = value + self._above
        if raised <= self._progress:
            raised = self._progress + 1
            self._above = raised - value
        self._progress = raised
        return {**params, "progress": raised} | ({"total": total + self._above} if _is_usual(total) else {})


def _is_usual(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and abs(value) < LARGEST_PROGRESS
