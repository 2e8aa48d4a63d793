"""Held calls: each has an open line to its caller and a task that waits for people, tells of progress, and answers.

What belongs here: waiting. What does not: deciding (`broker.approvals`), running an approved call (`execution`).

The task belongs to the call, not to the caller's connection: when the caller hangs up it notes that nobody waits any
more, and an execution that has begun is still seen to its end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import ceil

from broker.approvals.feed import Feed
from broker.approvals.service import Approvals
from broker.domain import answers
from broker.domain.approvals import Approval, State
from broker.domain.clock import Clock
from broker.errors import BrokerError, StoreError
from broker.gateway.inbound import Inbound
from broker.gateway.line import Line
from broker.gateway.refusals import asked_id, refusal
from broker.gateway.replies import messages
from broker.gateway.sse import KEEP_ALIVE, SSE_HEADERS, sse_event
from broker.gateway.upstreams import UpstreamReply
from broker.gateway.wire import RequestId

log = logging.getLogger(__name__)

TELL_EVERY = 10.0
"""Seconds between signs of life; the first comes at once."""

RETRY_EVERY = 1.0
"""Seconds between attempts while the store is away."""

LAST_WORDS = 1.0
"""Seconds that a caller gets to read its answer after its upstream was closed."""

LONGEST_MESSAGE = 200
"""Characters of a progress message that clients show."""


@dataclass(slots=True)
class Hold:
    """One held call: who asked, the line to them, and the progress they were told.

    Args:
        still_here: called again and again while the caller waits, so that its session is not taken for unused.
    """

    inbound: Inbound
    approval: Approval
    line: Line
    changed: asyncio.Event
    stopping: asyncio.Event
    review_url: str
    still_here: Callable[[], None]
    progress: float = 0
    next_sign: float = 0

    def say_when_due(self, message: str) -> None:
        """A sign of life, if the last is long enough ago. Progress grows strictly (2025-06-18, Progress)."""
        now = asyncio.get_running_loop().time()
        if now < self.next_sign:
            return
        self.next_sign = now + TELL_EVERY
        self.still_here()
        self.progress += 1
        self.line.offer(_sign(self.inbound, self.progress, message))

    async def tell(self, told: answers.Answer) -> None:
        """The broker's own final answer."""
        await self.line.send(sse_event(refusal(self.inbound, told)))

    async def insist(self, write: Callable[[], Awaitable[object]]) -> None:
        """Have `write` done however long the store is away. At a stop it is given up: the next start mends the record.

        Raises:
            BrokerError: what `write` raises for other reasons.
        """
        while True:
            try:
                await write()
                return
            except StoreError as error:
                log.error("%s What became of approval %s is not noted yet.", error, self.approval.id)
            if self.stopping.is_set():
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(RETRY_EVERY):
                    await self.stopping.wait()


def opened_later(
    inbound: Inbound, opening: asyncio.Future[UpstreamReply], hang_up: Callable[[asyncio.Future[UpstreamReply]], None]
) -> UpstreamReply:
    """A stream with signs of life until the call is held or refused, and then what that answers.

    Args:
        hang_up: called with the finished `opening` when the caller left before.
    """

    async def chunks() -> AsyncGenerator[bytes]:
        yield _sign(inbound, 0, "Looking up the tool")
        while not opening.done():
            await asyncio.wait((opening,), timeout=TELL_EVERY)
            yield KEEP_ALIVE
        try:
            reply = opening.result()
        except StoreError as error:
            log.error("%s A call was not held.", error)
            yield sse_event(refusal(inbound, answers.unavailable("the broker cannot write its record.")))
            return
        except BrokerError as error:
            yield sse_event(refusal(inbound, answers.unavailable(str(error))))
            return
        except Exception:
            log.exception("a call could not be held")
            yield sse_event(refusal(inbound, answers.unavailable("the broker could not hold it.")))
            return
        async for _, raw in messages(reply):
            yield raw

    async def close() -> None:
        opening.add_done_callback(hang_up)

    return UpstreamReply(200, list(SSE_HEADERS), chunks(), close=close)


def _sign(inbound: Inbound, progress: float, message: str) -> bytes:
    """A sign of life: progress if the caller asked for it, else a comment that keeps alive."""
    token = inbound.message.progress_token if inbound.message is not None else None
    if token is None:
        return KEEP_ALIVE
    params = {"progressToken": token, "progress": progress, "message": message}
    return sse_event({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})


Execute = Callable[[Hold], Awaitable[None]]
"""Runs the approved call of a hold and sends its answer."""


class Holds:
    """All calls of one upstream that are held in this process.

    Args:
        review_url: where an approval's card is, given its id.
    """

    def __init__(self, approvals: Approvals, feed: Feed, clock: Clock, review_url: Callable[[str], str]) -> None:
        self._approvals = approvals
        self._feed = feed
        self._clock = clock
        self._review_url = review_url
        self._open: dict[asyncio.Task[None], Hold] = {}
        self._stopping = asyncio.Event()

    def open(
        self, inbound: Inbound, approval: Approval, execute: Execute, still_here: Callable[[], None]
    ) -> UpstreamReply:
        """Hold the call of `inbound`: returns the answer, whose body comes as time goes by."""

        async def wait(hold: Hold) -> None:
            await self._wait(hold)
            await self._conclude(hold, execute)

        return self.run(inbound, approval, wait, still_here)

    def run(
        self, inbound: Inbound, approval: Approval, execute: Execute, still_here: Callable[[], None]
    ) -> UpstreamReply:
        """The same for a call that nobody has to decide: it is executed at once."""
        changed = asyncio.Event()
        line, review_url = Line(changed.set), self._review_url(approval.id)
        hold = Hold(inbound, approval, line, changed, self._stopping, review_url, still_here)
        task = asyncio.get_running_loop().create_task(self._attend(hold, execute))
        self._open[task] = hold
        task.add_done_callback(lambda ended: self._open.pop(ended, None))

        async def close() -> None:
            hold.line.hang_up("lost")

        return UpstreamReply(200, list(SSE_HEADERS), hold.line.chunks(), close=close)

    def cancel(self, inbound: Inbound, request_id: RequestId | None) -> bool:
        """The caller cancels a request of its session (`notifications/cancelled`); whether it was a held one."""
        asker = (inbound.grant.id, inbound.session, request_id)
        named = [
            hold
            for hold in self._open.values()
            if (hold.inbound.grant.id, hold.inbound.session, asked_id(hold.inbound)) == asker
        ]
        # Clients of a server without sessions all number from 1: which of two is meant cannot be known.
        if len(named) == 1:
            named[0].line.hang_up("cancelled")
        return bool(named)

    def stop(self) -> None:
        """The broker stops: callers are told to come back; calls that run go on."""
        self._stopping.set()
        for hold in self._open.values():
            hold.changed.set()

    async def finish(self) -> None:
        """Return when no call is held or runs any more."""
        while self._open:
            await asyncio.wait(self._open)

    async def end(self) -> None:
        """The upstream is closed: what still ran is interrupted. Who does not read that is left."""
        if self._open:
            await asyncio.wait(self._open, timeout=LAST_WORDS)
        for hold in self._open.values():
            hold.line.hang_up("lost")
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _attend(self, hold: Hold, execute: Execute) -> None:
        try:
            await execute(hold)
        except Exception as error:  # whatever it was, the agent is not left without a word
            expected = isinstance(error, BrokerError)
            log.error("%s Held call %s was not run.", error, hold.approval.id, exc_info=None if expected else error)
            await hold.tell(answers.unavailable("the broker could not go on with it.", hold.approval.id))
            hold.line.end()
            await self._abandon(hold, "it could not be run")
        finally:
            hold.line.end()

    async def _abandon(self, hold: Hold, why: str) -> None:
        """Note that nobody waits any more: else the identical call could not pick the approval up."""
        await hold.insist(partial(self._approvals.requests.abandon, hold.approval.id, why))

    async def _wait(self, hold: Hold) -> None:
        with self._feed.waiter(hold.approval.id, hold.changed):
            while hold.line.gone is None and not self._stopping.is_set():
                await self._read(hold)
                if hold.approval.state is not State.PENDING:
                    return
                await self._tell_until_changed(hold)

    async def _tell_until_changed(self, hold: Hold) -> None:
        while not hold.changed.is_set():
            hold.say_when_due(self._waiting_message(hold))
            with suppress(TimeoutError):
                async with asyncio.timeout_at(hold.next_sign):
                    await hold.changed.wait()
        hold.changed.clear()

    async def _read(self, hold: Hold) -> None:
        try:
            hold.approval = await self._approvals.get(hold.approval.id)
        except StoreError as error:
            log.warning("%s Held call %s waits on.", error, hold.approval.id)
            asyncio.get_running_loop().call_later(RETRY_EVERY, hold.changed.set)  # the news of it will not come again

    async def _conclude(self, hold: Hold, execute: Execute) -> None:
        approval = hold.approval
        if hold.line.gone is not None:
            await self._abandon(hold, hold.line.gone)
        elif approval.state is State.APPROVED:
            await execute(hold)
        elif approval.state is State.PENDING:
            await self._approvals.requests.abandon(approval.id, "the broker stopped")
            await hold.tell(answers.pending(approval, hold.review_url, "and the broker is stopping"))
        else:
            await hold.tell(answers.of(approval, hold.review_url))

    def _waiting_message(self, hold: Hold) -> str:
        approval = hold.approval
        left = max(0, ceil((approval.deadline - self._clock.now()).total_seconds()))
        time_left = f"{ceil(left / 60)} min" if left > 60 else f"{left} s"
        words = f"Waiting for approval by {answers.who_is_asked(approval)}"
        tail = f", {time_left} left: {hold.review_url}"
        room = LONGEST_MESSAGE - len(tail)
        return (words if len(words) <= room else words[: max(0, room - 1)] + "…") + tail
