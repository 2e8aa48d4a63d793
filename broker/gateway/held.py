"""One held call: who asks and what for, and how its end is both recorded and said.

What belongs here: that the record and the agent hear the same, also while the store is away. What does not: waiting
(`holds`), running (`execution`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from broker import stop_points
from broker.approvals.requests import Requests
from broker.domain.answers import Answer
from broker.domain.approvals import Approval, State
from broker.errors import StoreError
from broker.gateway.asker import Asker
from broker.gateway.inbound import Inbound
from broker.gateway.line import Line
from broker.gateway.refusals import refusal
from broker.gateway.sse import sse_event
from broker.stop_points import Point

log = logging.getLogger(__name__)

RETRY_EVERY = 1.0
"""Seconds between attempts while the store is away."""


@dataclass(slots=True, eq=False)
class Hold:
    """One held call: who asks, and the approval that it waits for.

    Args:
        until: when its asker has to have an answer, whatever that is, by the loop's clock.
        stopping: set when the broker stops.
        in_doubt: whether something may have happened to the approval that has to be read.
        told: how it stood when its asker last heard of that, and whether its deadline was near.
    """

    asker: Asker
    approval: Approval
    requests: Requests
    review_url: str
    until: float
    stopping: asyncio.Event
    abandoned: bool = False
    in_doubt: bool = False
    told: tuple[str, bool] | None = None

    @property
    def inbound(self) -> Inbound:
        """The request."""
        return self.asker.inbound

    @property
    def line(self) -> Line:
        """The line to who asks."""
        return self.asker.line

    @property
    def patient(self) -> bool:
        """Whether its caller can wait on."""
        return asyncio.get_running_loop().time() < self.until

    def hear(self, approval: Approval | None) -> None:
        """How its approval stands now; None when that has to be read. To wait, an outline is enough."""
        self.in_doubt = approval is None
        if approval is not None:
            self.approval = approval.outlined() if approval.state is State.PENDING else approval
        self.asker.news.set()

    async def tell(self, told: Answer) -> None:
        """The broker's own final answer."""
        await self.asker.tell(told)

    async def abandon(self, why: str) -> None:
        """Note that its caller waits no more, so that the identical call can pick the approval up.

        Once only: from then on somebody else may be waiting for it.

        Raises:
            StoreError: it could not be noted.
        """
        if self.abandoned:
            return
        self.abandoned = True
        try:
            await self.requests.abandon(self.approval.id, why)
        except StoreError:
            self.abandoned = False
            raise

    async def conclude(self, write: Callable[[], Awaitable[object]], last_word: Answer | Mapping[str, Any]) -> None:
        """Record how it ended, and then say so. While the store is away the word goes first: it is as true then.

        Args:
            last_word: the broker's own answer, or the upstream's response.

        Raises:
            BrokerError: what `write` raises for other reasons.
        """
        last = refusal(self.inbound, last_word) if isinstance(last_word, Answer) else last_word
        answer = sse_event(last)
        try:
            await write()
        except StoreError:
            await self.line.send(answer)
            self.line.end()
            await self.insist(write)
        else:
            stop_points.reached(Point.BEFORE_RESULT_IS_SENT)
            await self.line.send(answer)

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
