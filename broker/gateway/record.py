"""What the gate writes down of calls that are not held: allowed, limited, denied, answered.

What belongs here: the rows, and the limits that are decided in the same commit. What does not: held calls, whose rows
go with their approval (`broker.approvals`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from broker.approvals.journal import agent, call_event, keep_call, limit_kind
from broker.domain import answers
from broker.domain.answers import Answer
from broker.domain.audit import Event, Kind
from broker.domain.calls import Call, Verdict
from broker.domain.canonical import Keyring
from broker.domain.redaction import redacted, without_echoes
from broker.errors import StoreError, UpstreamUnreachable
from broker.gateway.outcome import Outcome
from broker.store import slots
from broker.store.slots import LimitReached, Taken
from broker.store.writer import Store, Transaction

log = logging.getLogger(__name__)

SHARED_WITHIN = 0.01
"""Seconds that the row of an answer, for which nobody waits, may wait for the next call to share its commit."""


class Record:
    """The rows of calls that pass or are refused.

    Args:
        keep_results: whether what an upstream answered is kept beside the row, when it is small.
    """

    def __init__(self, store: Store, keyring: Keyring, *, keep_results: bool) -> None:
        self.keep_results = keep_results
        self.store = store
        self._keyring = keyring
        self._writing: set[asyncio.Future[None]] = set()

    def admission(self, call: Call, verdict: Verdict) -> Admission:
        """The rows of a call that the policy allows."""
        seen = redacted(call, verdict.redact)
        return Admission(self, call, seen, verdict, self._event(Kind.CALL_ALLOWED, seen, verdict))

    async def deny(self, call: Call, verdict: Verdict) -> Answer:
        """Record a refused call and say what the agent is told.

        Raises:
            StoreError: it cannot be recorded.
        """
        seen = redacted(call, verdict.redact)
        denied = self._event(Kind.CALL_DENIED, seen, verdict, {"reason": verdict.reason})

        def work(tx: Transaction) -> Answer:
            keep_call(tx, call, seen, verdict)
            tx.record(denied)
            return answers.denied(verdict)

        return await self.store.submit(work, within=0)

    def follow(self, writing: asyncio.Future[None], call_id: str) -> None:
        """See to it that `drain` waits for a row, and that one which could not be written is in the log."""
        self._writing.add(writing)
        writing.add_done_callback(partial(self._written, call_id))

    async def drain(self) -> None:
        """Return when everything noted so far is written."""
        await asyncio.gather(*self._writing, return_exceptions=True)

    def _written(self, call_id: str, writing: asyncio.Future[None]) -> None:
        self._writing.discard(writing)
        if not writing.cancelled() and (error := writing.exception()) is not None:
            log.error("%s The outcome of call %s is not recorded; its answer was passed on.", error, call_id)

    def _event(self, kind: Kind, seen: Call, verdict: Verdict, detail: Mapping[str, Any] | None = None) -> Event:
        return call_event(self._keyring, kind, seen, verdict.action, verdict.rule, agent(seen.grant), detail or {})


class Admission:
    """One allowed call in the record, from before it runs until it has ended; the permit to send it.

    `seen` is the call as people see it. `told` is what the agent is told instead when a limit is used up.
    """

    def __init__(self, record: Record, call: Call, seen: Call, verdict: Verdict, allowed: Event) -> None:
        self._record = record
        self._call = call
        self._seen = seen
        self._verdict = verdict
        self._allowed = allowed
        self._began = time.monotonic()
        self._taken = Taken(0)
        self.told: Answer | None = None

    def write(self) -> asyncio.Future[Answer | None]:
        """Record the call and take its slots; it must not run before.

        Returns:
            None when it may run, else what the agent is told of the limit that is used up. The future raises
            StoreError when it cannot be recorded.

        Raises:
            StoreError: the store is closed.
        """
        return self._record.store.submit(self._admit, within=0)

    def spend(self) -> bool:
        """Whether the call may be sent now with the slots that it has."""
        return not self._taken.late(self._record.store.now())

    async def renew(self) -> None:
        """Let the call, which could not be sent in time, count from now.

        Raises:
            UpstreamUnreachable: a limit is used up meanwhile (then that is recorded), or it cannot be recorded.
        """
        # Only what is known to be written may be given back later.
        earlier, self._taken = self._taken, Taken(0)
        try:
            taken = await self._record.store.write(lambda tx: self._take_anew(tx, earlier))
        except StoreError as error:
            raise UpstreamUnreachable(f"{error} The call was not sent.") from error
        if isinstance(taken, Answer):
            self.told = taken
            raise UpstreamUnreachable(taken.sentence)
        self._taken = taken

    def ended(self, outcome: Outcome, *, never_ran: bool = False) -> None:
        """Record how it ended, without making its answer wait.

        What it took is given back if it never ran; what is refunded, also if the upstream answered an error.
        """
        ms = round((time.monotonic() - self._began) * 1000, 1)
        why = {} if outcome.why is None else {"why": outcome.why}
        answered = self._allowed.followed_by(Kind.CALL_ANSWERED, {"outcome": outcome.word, **why, "ms": ms})
        taken = self._taken

        def work(tx: Transaction) -> None:
            if back := [one for one in taken.slots if never_ran or (outcome.errored and one.refund)]:
                slots.give_back(tx.connection, back)
            if self._record.keep_results and outcome.result is not None:
                tx.keep(self._call.id, "result", without_echoes(outcome.result, self._call, self._seen))
            tx.record(answered)

        try:
            self._record.follow(self._record.store.submit(work, within=SHARED_WITHIN), self._call.id)
        except StoreError as error:
            log.error("%s The outcome of call %s is not recorded.", error, self._call.id)

    def _admit(self, tx: Transaction) -> Answer | None:
        taken = tx.take(self._verdict.charges)
        keep_call(tx, self._call, self._seen, self._verdict)
        if isinstance(taken, LimitReached):
            self._taken = Taken(0)
            return self._limited(tx, taken)
        self._taken = taken
        tx.record(self._allowed)
        return None

    def _take_anew(self, tx: Transaction, earlier: Taken) -> Taken | Answer:
        taken = slots.take_anew(tx.connection, earlier, self._verdict.charges, tx.now)
        return self._limited(tx, taken) if isinstance(taken, LimitReached) else taken

    def _limited(self, tx: Transaction, reached: LimitReached) -> Answer:
        told = answers.limited(reached.charge, reached.free_at, tx.now)
        tx.record(replace(self._allowed, kind=limit_kind(told), rule=told.rule, detail={"reason": told.reason}))
        return told
