"""Held calls: each has an asker and a task that waits for people, tells of progress, and answers.

What belongs here: waiting. What does not: deciding (`broker.approvals`), running an approved call (`execution`), what
goes to the asker (`asker`).

The task belongs to the call, not to the caller's connection: when the caller hangs up it notes that nobody waits any
more, and an execution that has begun is still seen to its end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from math import inf
from typing import Any

from broker.approvals.feed import Feed
from broker.approvals.service import Approvals
from broker.domain import answers, waiting
from broker.domain.answers import Answer
from broker.domain.approvals import Approval, State
from broker.domain.clock import Clock
from broker.errors import BrokerError, StoreError
from broker.gateway.asker import TELL_EVERY, Asker, call_in_session
from broker.gateway.held import RETRY_EVERY, Hold
from broker.gateway.inbound import Inbound
from broker.gateway.line import LOST
from broker.gateway.patience import Patience
from broker.gateway.refusals import asked_id, refused
from broker.gateway.upstreams import UpstreamReply

log = logging.getLogger(__name__)

FIRST_SIGN = 0.8
"""Seconds in which a call is held or refused; where the upstream takes longer to tell its tools, the stream begins."""

REPLACED_WITHIN = 5.0
"""Seconds that a call which came again waits until it is noted that nobody waits for the first any more."""

LAST_WORDS = 1.0
"""Seconds that a caller gets to read its answer after its upstream was closed."""

_STOPPING = "the broker stopped", "The broker is stopping, and may be back in a few seconds."
_ELSEWHERE = "it was taken for gone", "The broker lost touch with this request."
_IMPATIENT = "it got a ticket", "This answer comes now because your client would soon give up."
_REPLACED = "it made the call again", "The same call came again, and waits in place of this one."
"""Why nobody waits any more: for the record, and for the agent."""


Execute = Callable[[Hold], Awaitable[None]]
"""Runs the approved call of a hold and sends its answer."""

Opening = Coroutine[Any, Any, Approval | Answer]
"""Asks for an approval: gives an open one, or what the agent is told instead."""


class Holds:
    """All calls of one upstream that are held in this process.

    Args:
        review_url: where an approval's card is, given its id.
        patience: how long callers can wait before they have to have an answer.
    """

    def __init__(
        self, approvals: Approvals, feed: Feed, clock: Clock, review_url: Callable[[str], str], patience: Patience
    ) -> None:
        self._approvals = approvals
        self._feed = feed
        self._clock = clock
        self.review_url = review_url
        self._patience = patience
        self._open: dict[asyncio.Task[None], Asker] = {}
        self._same: dict[bytes, dict[asyncio.Task[None], Asker]] = {}  # those of them that are the same call
        self._stopping = asyncio.Event()

    async def hold(
        self, inbound: Inbound, opening: Opening, execute: Execute, still_here: Callable[[], None]
    ) -> UpstreamReply:
        """Hold the call of `inbound`: returns the answer, whose body comes as time goes by.

        Args:
            opening: goes on when the caller leaves, for the identical call may come.
            still_here: see `Asker`.

        Raises:
            Exception: what `opening` raises within `FIRST_SIGN`; later that is told in the stream.
        """
        asker = Asker(inbound.outlined(), still_here, call_in_session(inbound))
        early: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        self._start(asker, self._attend(asker, opening, execute, early))
        try:
            told = await asyncio.shield(early)
        except asyncio.CancelledError:
            await asker.leave()
            raise
        return refused(inbound, told) if told is not None else asker.reply()

    def run(self, inbound: Inbound, approval: Approval, execute: Execute) -> UpstreamReply:
        """The same for a call that nobody has to decide: it is executed at once."""
        asker = Asker(inbound, lambda: None)
        self._start(asker, self._see_through(self._held(asker, approval), execute))
        return asker.reply()

    def run_errand(self, asker: Asker, approval: Approval, execute: Execute) -> asyncio.Task[None]:
        """The same for a task: nobody waits for it on a connection, so nobody goes away."""
        hold = self._held(asker, approval)
        hold.abandoned = True
        return self._start(asker, self._see_through(hold, execute))

    def cancel(self, notice: Inbound) -> bool:
        """A `notifications/cancelled` came; whether it names a call that is held here, or was and runs now."""
        named = notice.message.params.get("requestId") if notice.message is not None else None
        found = {
            asker
            for asker in self._open.values()
            if (asker.inbound.grant.id, asker.inbound.session) == (notice.grant.id, notice.session)
            and asked_id(asker.inbound) == named
        }
        # Clients of a server without sessions all number from 1: which of two is meant cannot be known.
        if len(found) == 1:
            found.pop().cancel(notice)
            return True
        return bool(found)

    def stop(self) -> None:
        """The broker stops: callers are told to come back; calls that run go on."""
        self._stopping.set()
        for asker in self._open.values():
            asker.news.set()

    @property
    def stopping(self) -> bool:
        """Whether nothing new runs any more."""
        return self._stopping.is_set()

    async def finish(self) -> None:
        """Return when no call is held or runs any more."""
        while self._open:
            await asyncio.wait(self._open)

    async def end(self) -> None:
        """The upstream is closed: what still ran is interrupted. Who does not read that is left."""
        if self._open:
            await asyncio.wait(self._open, timeout=LAST_WORDS)
        for asker in [*self._open.values()]:  # each that leaves is noted
            asker.line.hang_up(LOST)
        await asyncio.gather(*self._open, return_exceptions=True)

    def _start(self, asker: Asker, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._open[task] = asker
        if asker.call is not None:
            self._same.setdefault(asker.call, {})[task] = asker
        task.add_done_callback(partial(self._ended, asker.call))
        return task

    def _ended(self, call: bytes | None, task: asyncio.Task[None]) -> None:
        del self._open[task]
        if call is not None:
            del self._same[call][task]
            if not self._same[call]:
                del self._same[call]

    async def _attend(
        self, asker: Asker, opening: Opening, execute: Execute, early: asyncio.Future[Answer | None]
    ) -> None:
        """See a call to its end; `early` is given what refuses it at once, or None when its stream begins."""
        try:
            hold = await self._ask(asker, opening, early)
            if hold is not None:
                await self._see_through(hold, partial(self._decided, execute=execute))
        finally:
            asker.line.end()

    # -- asking for an approval ---------------------------------------------------------------------------------------

    async def _ask(self, asker: Asker, opening: Opening, early: asyncio.Future[Answer | None]) -> Hold | None:
        submitting = asyncio.ensure_future(self._in_place_of_others(asker, opening))
        await asyncio.wait((submitting,), timeout=FIRST_SIGN)
        if submitting.done() and (error := submitting.exception()) is not None:
            early.set_exception(error)
            return None
        if submitting.done() and isinstance(told := submitting.result(), Answer):
            early.set_result(told)
            return None
        early.set_result(None)
        opened = await self._opened(asker, submitting)
        if isinstance(opened, Answer):
            await asker.tell(opened)
            return None
        return self._held(asker, opened)

    async def _in_place_of_others(self, asker: Asker, opening: Opening) -> Approval | Answer:
        """`opening`, when nobody waits any more for the same call that its client has given up without a word."""
        same = self._same.get(asker.call, {}) if asker.call is not None else {}
        left = {task for task, other in same.items() if other.gave_way_to(asker)}
        for task in left:
            self._open[task].replaced = True
            self._open[task].news.set()
        if left:
            await asyncio.wait(left, timeout=REPLACED_WITHIN)
        return await opening

    def _held(self, asker: Asker, approval: Approval) -> Hold:
        until = asker.inbound.came + self._patience.of(asker.inbound)
        return Hold(asker, approval, self._approvals.requests, self.review_url(approval.id), until, self._stopping)

    async def _opened(self, asker: Asker, submitting: asyncio.Future[Approval | Answer]) -> Approval | Answer:
        while not submitting.done():
            asker.say_when_due("Looking up the tool")
            await asyncio.wait((submitting,), timeout=TELL_EVERY)
        try:
            return submitting.result()
        except StoreError as error:
            log.error("%s A call was not held.", error)
            return answers.unavailable("the broker cannot write its record.")
        except BrokerError as error:
            return answers.unavailable(str(error))
        except Exception:
            log.exception("a call could not be held")
            return answers.unavailable("the broker could not hold it.")

    # -- waiting ------------------------------------------------------------------------------------------------------

    async def _see_through(self, hold: Hold, execute: Execute) -> None:
        hold.asker.when_it_leaves(partial(self._note_leaving, hold))
        try:
            await execute(hold)
        except Exception as error:  # whatever it was, the agent is not left without a word
            expected = isinstance(error, BrokerError)
            log.error("%s Held call %s was not run.", error, hold.approval.id, exc_info=None if expected else error)
            told = answers.unavailable("the broker could not go on with it.", hold.approval.id)
            await hold.conclude(partial(hold.abandon, "it could not be run"), told)
        finally:
            hold.line.end()

    async def _decided(self, hold: Hold, execute: Execute) -> None:
        """What becomes of a call that people decide."""
        hold.asker.waits = True
        await self._wait(hold)
        hold.asker.waits = False
        await self._conclude(hold, execute)

    def _note_leaving(self, hold: Hold) -> None:
        """At once, whatever is being done for it: the identical call may come next."""
        self._start(hold.asker, hold.insist(partial(hold.abandon, hold.line.gone or LOST)))

    async def _wait(self, hold: Hold) -> None:
        with self._feed.waiter(hold.approval.id, hold.hear):
            while hold.line.gone is None and hold.patient and self._why_no_longer(hold) is _IMPATIENT:
                if hold.in_doubt:
                    await self._read(hold)
                if hold.approval.state is not State.PENDING:
                    return
                await self._tell_until_news(hold)

    async def _tell_until_news(self, hold: Hold) -> None:
        asker = hold.asker
        while not asker.news.is_set() and hold.patient:
            self._tell(hold)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(min(asker.next_sign, hold.until, self._nears(hold))):
                    await asker.news.wait()
        asker.news.clear()

    def _tell(self, hold: Hold) -> None:
        """How it stands: at once when that has changed, and else from time to time."""
        approval, now = hold.approval, self._clock.now()
        stands = (waiting.situation(approval), now >= waiting.nears(approval))
        say = hold.asker.say_when_due if stands == hold.told else hold.asker.say
        hold.told = stands
        say(waiting.message(approval, now, hold.review_url))

    def _nears(self, hold: Hold) -> float:
        """When the deadline begins to be near, by the loop's clock; infinite when it is."""
        ahead = (waiting.nears(hold.approval) - self._clock.now()).total_seconds()
        return asyncio.get_running_loop().time() + ahead if ahead > 0 else inf

    async def _read(self, hold: Hold) -> None:
        try:
            hold.hear(await self._approvals.get(hold.approval.id))
        except StoreError as error:
            log.warning("%s Held call %s waits on.", error, hold.approval.id)
            # The news of it will not come again.
            asyncio.get_running_loop().call_later(RETRY_EVERY, hold.asker.news.set)

    async def _conclude(self, hold: Hold, execute: Execute) -> None:
        approval = hold.approval
        if hold.line.gone is not None:
            return
        if approval.state is State.APPROVED:
            hold.asker.say("Approved.")
            await execute(hold)
        elif approval.state is State.PENDING:
            why, told = self._why_no_longer(hold)
            ticket = answers.pending(approval, hold.review_url, told, self._clock.now())
            await hold.conclude(partial(hold.abandon, why), ticket)
        else:
            await hold.tell(answers.of(approval, hold.review_url))

    def _why_no_longer(self, hold: Hold) -> tuple[str, str]:
        """Why a caller that is still there waits no longer; if nothing else, because it cannot."""
        if hold.asker.replaced:
            return _REPLACED
        if self._stopping.is_set():
            return _STOPPING
        return _IMPATIENT if self._waits(hold) else _ELSEWHERE

    def _waits(self, hold: Hold) -> bool:
        """Whether its approval still counts on this caller; not when another process took this one for dead."""
        return hold.approval.waits(self._approvals.process.id)
