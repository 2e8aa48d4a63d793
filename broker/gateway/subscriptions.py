"""`subscriptions/listen` of clients that want to hear of tasks of the broker's own: one stream, told by both sides.

What belongs here: taking these tasks out of what the upstream is asked, putting them into what it agreed to, and
telling how they stand. What does not: a task's shape (`task_shapes`), what the upstream tells, which passes.

Source: 2026-07-28, Basic, Patterns, Subscriptions; the extension `io.modelcontextprotocol/tasks`, Task Status
Notifications.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

from broker.approvals.feed import Feed
from broker.approvals.hints import Hint
from broker.approvals.service import Approvals
from broker.domain.approvals import Approval
from broker.domain.tasks import PREFIX, Task, TaskStatus
from broker.errors import BrokerError, NotFound, StoreError, UpstreamInterrupted
from broker.gateway.inbound import Inbound
from broker.gateway.jsonrpc import INVALID_PARAMS
from broker.gateway.line import LOST, Line
from broker.gateway.protocol import SUBSCRIPTION_ID_META_KEY
from broker.gateway.refusals import asked_id
from broker.gateway.replies import is_stream, messages
from broker.gateway.sse import KEEP_ALIVE, SSE_HEADERS, sse_event
from broker.gateway.task_shapes import check_declared, detailed
from broker.gateway.upstreams import UpstreamReply
from broker.gateway.wire import Message, WireError, result_message

log = logging.getLogger(__name__)

LISTEN = "subscriptions/listen"
ACKNOWLEDGED = "notifications/subscriptions/acknowledged"

MOST = 200
"""Tasks that one stream tells of."""

AGREES_WITHIN = 5.0
"""Seconds in which an upstream says what it tells of; then the broker tells of its own alone."""

TELL_EVERY = 10.0
"""Seconds between signs of life."""

_FINAL = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED})

Said = AsyncGenerator[tuple[Any, bytes]]
Forward = Callable[[Inbound], Awaitable[UpstreamReply]]


@dataclass(slots=True, eq=False)
class _Stream:
    """One open stream.

    Args:
        tasks: those of the broker's own that it tells of, with what was told of each last.
        reply: the upstream's part, whose first message is read already; None when it tells of nothing.
    """

    inbound: Inbound
    line: Line
    tasks: dict[str, Any]
    reply: UpstreamReply | None
    news: Hint
    next_sign: float
    changed: set[str] = field(default_factory=set[str])

    @property
    def meta(self) -> dict[str, Any]:
        """What every message on it carries."""
        return {SUBSCRIPTION_ID_META_KEY: asked_id(self.inbound)}

    def hear(self, task_id: str, _: Approval | None) -> None:
        """Something happened to a task."""
        self.changed.add(task_id)
        self.news.give()

    def show_life(self) -> None:
        """A sign of life, if the last is long enough ago."""
        now = asyncio.get_running_loop().time()
        if now >= self.next_sign:
            self.next_sign = now + TELL_EVERY
            self.line.offer(KEEP_ALIVE)

    async def notify(self, method: str, params: Mapping[str, Any]) -> None:
        """Tell something of the broker's own."""
        await self.line.send(sse_event({"jsonrpc": "2.0", "method": method, "params": {**params, "_meta": self.meta}}))


class Subscriptions:
    """The streams of one upstream that tell of tasks.

    Args:
        review_url: where an approval's card is, given its id.
    """

    def __init__(self, upstream: str, approvals: Approvals, feed: Feed, review_url: Callable[[str], str]) -> None:
        self._upstream = upstream
        self._approvals = approvals
        self._feed = feed
        self._review_url = review_url
        self._open: dict[asyncio.Task[None], _Stream] = {}
        self._stopping = False

    async def listen(self, inbound: Inbound, message: Message, forward: Forward) -> UpstreamReply | None:
        """The stream for a client that wants to hear of tasks of the broker's own; None for any other request.

        Args:
            forward: asks the upstream.

        Raises:
            WireError: see `check_declared`; -32602, it names too many tasks.
            StoreError: they cannot be looked up.
        """
        wanted = _object(message.params.get("notifications"))
        ids = _ids(wanted)
        own = [task_id for task_id in dict.fromkeys(ids) if task_id.startswith(PREFIX)]
        if message.method != LISTEN or not own:
            return None
        check_declared(message)
        if len(own) > MOST:
            raise WireError(INVALID_PARAMS, f"Name at most {MOST} tasks of the broker's own.", message.id)
        tasks = {task_id: None for task_id in own if await self._knows(inbound, task_id)}
        rest = {**wanted, "taskIds": [task_id for task_id in ids if not task_id.startswith(PREFIX)]}
        reply, said, agreed = await self._agreed(_asking(inbound, message, rest), rest, forward)
        news = Hint()
        loop = asyncio.get_running_loop()
        stream = _Stream(inbound, Line(news.give), tasks, reply, news, next_sign=loop.time() + TELL_EVERY)
        serving = loop.create_task(self._serve(stream, said, agreed))
        self._open[serving] = stream
        serving.add_done_callback(lambda ended: self._open.pop(ended, None))
        return UpstreamReply(200, list(SSE_HEADERS), stream.line.chunks(), close=partial(_leave, stream))

    def stop(self) -> None:
        """The broker stops: each stream is told that it ends."""
        self._stopping = True
        for stream in self._open.values():
            stream.news.give()

    async def finish(self) -> None:
        """Return when no stream is served any more."""
        while self._open:
            await asyncio.wait(self._open)

    # -- what the upstream agrees to ----------------------------------------------------------------------------------

    async def _agreed(
        self, asking: Inbound, rest: Mapping[str, Any], forward: Forward
    ) -> tuple[UpstreamReply | None, Said | None, dict[str, Any]]:
        """The upstream's part of the stream, and the filter that it acknowledged; nothing when it takes no part."""
        if not any(rest.values()):
            return None, None, {}
        reply, agreed = None, False
        try:
            async with asyncio.timeout(AGREES_WITHIN):
                reply = await forward(asking)
                said = messages(reply)
                first, _ = await anext(said) if is_stream(reply) else (None, b"")
            if agreed := _is(first, ACKNOWLEDGED):
                return reply, said, _object(_object(_object(first).get("params")).get("notifications"))
        except (TimeoutError, StopAsyncIteration, UpstreamInterrupted) as error:
            log.info("%s: tells of nothing on a stream of its own: %s", self._upstream, error)
        finally:
            if reply is not None and not agreed:
                await reply.close()
        return None, None, {}

    # -- serving ------------------------------------------------------------------------------------------------------

    async def _serve(self, stream: _Stream, said: Said | None, agreed: dict[str, Any]) -> None:
        ids = [*_ids(agreed), *stream.tasks]
        told = {**agreed, "taskIds": ids} if ids else agreed
        passing: asyncio.Future[None] | None = None
        try:
            await stream.notify(ACKNOWLEDGED, {"notifications": told})
            if said is not None:
                passing = asyncio.ensure_future(_pass_on(stream, said))
                passing.add_done_callback(lambda _: stream.news.give())
            await self._tell(stream, passing)
        except BrokerError as error:  # its grant is over, say
            log.info("%s: a stream of tasks ends: %s", self._upstream, error)
        finally:
            if passing is not None:
                passing.cancel()
            if stream.reply is not None:
                await stream.reply.close()
            stream.line.end()

    async def _tell(self, stream: _Stream, passing: asyncio.Future[None] | None) -> None:
        with ExitStack() as waiting:
            for task_id in stream.tasks:
                waiting.enter_context(self._feed.waiter(task_id, partial(stream.hear, task_id)))
            while stream.line.gone is None and not (passing is not None and passing.done()):
                if self._stopping:
                    end = {"resultType": "complete", "_meta": stream.meta}
                    await stream.line.send(sse_event(result_message(asked_id(stream.inbound), end)))
                    return
                await self._tell_news(stream)

    async def _tell_news(self, stream: _Stream) -> None:
        try:
            await stream.inbound.check_grant()
            while stream.changed:
                await self._tell_of(stream, next(iter(stream.changed)))
        except StoreError as error:
            log.warning("%s A change of a task is told later.", error)
        stream.show_life()
        await stream.news.wait()

    async def _tell_of(self, stream: _Stream, task_id: str) -> None:
        """Tell how a task stands, if that is another than what was told last."""
        stream.changed.discard(task_id)
        try:
            task = await self._task(stream.inbound, task_id)
        except NotFound:
            return
        except StoreError:
            stream.changed.add(task_id)
            raise
        mark = (task.status, task.updated_at)
        if stream.tasks[task_id] != mark:
            stream.tasks[task_id] = mark
            now = self._approvals.clock.now()
            await stream.notify("notifications/tasks", detailed(task, now, self._review_url(task_id)))

    async def _knows(self, inbound: Inbound, task_id: str) -> bool:
        try:
            await self._task(inbound, task_id)
        except NotFound:
            return False
        return True

    async def _task(self, inbound: Inbound, task_id: str) -> Task:
        return await self._approvals.tasks.get(task_id, inbound.grant.id, self._upstream)


async def _pass_on(stream: _Stream, said: Said) -> None:
    """What the upstream tells, as it is."""
    with suppress(UpstreamInterrupted):  # it went away: the client opens another stream
        async for _, raw in said:
            await stream.line.send(raw)


async def _leave(stream: _Stream) -> None:
    stream.line.hang_up(LOST)


def _asking(inbound: Inbound, message: Message, rest: Mapping[str, Any]) -> Inbound:
    """The same request without the broker's own tasks."""
    wanted = {name: value for name, value in rest.items() if value or name != "taskIds"}
    params = {**message.params, "notifications": wanted}
    return replace(inbound, message=replace(message, params=params, body={**message.body, "params": params}))


def _ids(wanted: Mapping[str, Any]) -> list[str]:
    ids: Any = wanted.get("taskIds")
    return [each for each in cast("list[Any]", ids) if isinstance(each, str)] if isinstance(ids, list) else []


def _is(message: Any, method: str) -> bool:
    return isinstance(message, dict) and cast("dict[str, Any]", message).get("method") == method


def _object(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
