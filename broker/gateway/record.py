"""What the gate writes down of calls that are not held: allowed, limited, denied, answered.

What belongs here: the rows, and the limits that are decided in the same commit. What does not: held calls, whose rows
go with their approval (`broker.approvals`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from broker.approvals.journal import agent, call_event
from broker.domain import answers
from broker.domain.answers import Answer
from broker.domain.audit import Event, Kind
from broker.domain.calls import Call, Verdict
from broker.domain.canonical import Keyring
from broker.errors import StoreError
from broker.store import slots
from broker.store.writer import Store, Transaction

log = logging.getLogger(__name__)


class Record:
    """The rows of calls that pass or are refused.

    Args:
        keep_results: whether what an upstream answered is kept beside the row, when it is small.
    """

    def __init__(self, store: Store, keyring: Keyring, *, keep_results: bool) -> None:
        self._keep_results = keep_results
        self._store = store
        self._keyring = keyring
        self._writing: set[asyncio.Task[None]] = set()

    async def admit(self, call: Call, verdict: Verdict) -> Answer | None:
        """Record an allowed call and take its slots, before it runs.

        Returns:
            None when it may run, else what the agent is told of the limit that is used up.

        Raises:
            StoreError: it cannot be recorded, so it must not run.
        """
        allowed = self._event(Kind.CALL_ALLOWED, call, verdict, verdict.rule)

        def work(tx: Transaction) -> Answer | None:
            reached = slots.take(tx.connection, call.id, verdict.charges, tx.now)
            tx.keep(call.id, "arguments", dict(call.params))
            if reached is None:
                tx.record(allowed)
                return None
            told = answers.limited(reached.charge, reached.free_at, tx.now)
            tx.record(self._event(Kind.CALL_LIMITED, call, verdict, told.rule, {"reason": told.reason}))
            return told

        return await self._store.write(work)

    async def deny(self, call: Call, verdict: Verdict) -> Answer:
        """Record a refused call and say what the agent is told.

        Raises:
            StoreError: it cannot be recorded.
        """
        denied = self._event(Kind.CALL_DENIED, call, verdict, verdict.rule, {"reason": verdict.reason})

        def work(tx: Transaction) -> Answer:
            tx.keep(call.id, "arguments", dict(call.params))
            tx.record(denied)
            return answers.denied(verdict)

        return await self._store.write(work)

    def answered(
        self, call: Call, verdict: Verdict, detail: Mapping[str, Any], result: Any = None, *, never_ran: bool = False
    ) -> None:
        """Record how an allowed call ended, without making its answer wait; give its slots back if it never ran."""
        event = self._event(Kind.CALL_ANSWERED, call, verdict, verdict.rule, detail)

        def work(tx: Transaction) -> None:
            if never_ran:
                slots.give_back(tx.connection, call.id)
            if self._keep_results and result is not None:
                tx.keep(call.id, "result", result)
            tx.record(event)

        task = asyncio.get_running_loop().create_task(self._write_later(work, call.id))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def drain(self) -> None:
        """Return when everything noted so far is written."""
        await asyncio.gather(*self._writing)

    async def _write_later(self, work: Any, call_id: str) -> None:
        try:
            await self._store.write(work)
        except StoreError as error:
            log.error("%s The outcome of call %s is not recorded; its answer was passed on.", error, call_id)

    def _event(
        self, kind: Kind, call: Call, verdict: Verdict, rule: str | None, detail: Mapping[str, Any] | None = None
    ) -> Event:
        return call_event(self._keyring, kind, call, verdict.action, rule, agent(call.grant), detail or {})
