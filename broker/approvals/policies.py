"""Putting policies in force: at the start, and when their files change.

What belongs here: the record of it, the swap, and the open approvals that a new policy denies. What does not: noticing
a change (`broker.policy.watch`), and the last look at the policy before a call runs (`Approvals.claim`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

from sqlmodel import Session

from broker.approvals.journal import BROKER
from broker.approvals.service import Approvals
from broker.domain import moves
from broker.domain.approvals import Cause
from broker.domain.audit import Event, Kind
from broker.domain.calls import Action, Verdict
from broker.domain.text import visible
from broker.errors import PolicyError, StoreError, TransitionRefused
from broker.policy.judging.decide import Policy, decide
from broker.policy.watch import LOOK_EVERY, InForce, Watched
from broker.store import approvals as stored
from broker.store.writer import Store, Transaction

log = logging.getLogger(__name__)

MOST_MISTAKES = 20
"""The most mistakes of a refused document that its row repeats, each shortened to `LONGEST` characters."""

LONGEST = 300

RETRY_AFTER = 1.0
"""Seconds until a change that could not be recorded is tried again."""

AT_ONCE = 10
"""Approvals that are withdrawn in one transaction, so that calls do not wait for thousands of them."""


class Policies:
    """Puts policies in force, each in the `InForce` that its upstream's gate and the pages read."""

    def __init__(self, approvals: Approvals, store: Store) -> None:
        self._approvals = approvals
        self._store = store

    async def begin(self, in_force: InForce) -> None:
        """Record what an upstream starts with, and withdraw what that denies.

        Raises:
            StoreError: it could not be written.
        """
        await self._record(_loaded(in_force, in_force.policy, before=None))
        await self._withdraw_denied(in_force)

    async def follow(self, in_force: InForce, file: Watched) -> None:
        """Put in force what the file says, whenever it changes, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            found = await asyncio.to_thread(file.look, time.monotonic())
            try:
                if isinstance(found, PolicyError):
                    await self._refuse(in_force, found)
                elif found is not None:
                    await self.adopt(in_force, found)
            except StoreError as error:
                log.warning("%s: %s The changed policy waits until it can.", in_force.upstream, error)
                file.forget()
                await asyncio.sleep(RETRY_AFTER)
            except Exception:
                log.exception("%s: the changed policy may not be in force: save it again.", in_force.upstream)

    async def adopt(self, in_force: InForce, policy: Policy) -> None:
        """Judge by `policy` from now on, and withdraw what it denies.

        Raises:
            StoreError: it could not be written; what of it was not done is done by the next try.
        """
        if policy.digest != in_force.policy.digest:
            await self._swap(in_force, policy)
            log.info("%s: %s is in force now (%s)", in_force.upstream, visible(policy.source), _summary(policy))
        elif in_force.trouble is not None:
            in_force.trouble = None
            log.info("%s: %s is again what is in force", in_force.upstream, visible(policy.source))
        await self._withdraw_denied(in_force)

    async def _swap(self, in_force: InForce, policy: Policy) -> None:
        """Put `policy` in force within the transaction that records it, as claims are judged within theirs.

        So of a claim and the swap one comes first, and what is claimed after the swap was judged by `policy`.
        """
        before = (in_force.policy, in_force.loaded_at, in_force.trouble)

        def work(tx: Transaction) -> None:
            tx.record(_loaded(in_force, policy, before=before[0].digest))
            in_force.policy, in_force.loaded_at, in_force.trouble = policy, tx.now, None

        try:
            await self._approvals.change(work, durable=True)
        except Exception:  # nothing of it is in the record
            in_force.policy, in_force.loaded_at, in_force.trouble = before
            raise

    async def _refuse(self, in_force: InForce, trouble: PolicyError) -> None:
        """Tell of what is wrong, once; the same mistakes in a file that was saved again are no news."""
        if str(trouble) == str(in_force.trouble):
            return
        await self._record(_refused(replace(in_force, trouble=trouble)))
        in_force.trouble = trouble
        mistakes = in_force.mistakes if len(in_force.mistakes) > 1 else []
        lines = [in_force.error or "", *mistakes]
        log.error("%s: %s", in_force.upstream, "\n  ".join(visible(line) for line in lines))

    async def _record(self, event: Event) -> None:
        await self._approvals.change(lambda tx: tx.record(event), durable=True)

    async def _withdraw_denied(self, in_force: InForce) -> None:
        """End what the policy in force denies. What it allows or holds keeps waiting under what it was held for."""
        denied = await self._store.read(lambda session: self._denied(session, in_force))
        for start in range(0, len(denied), AT_ONCE):
            some = denied[start : start + AT_ONCE]
            await self._approvals.change(lambda tx, some=some: self._withdraw(tx, some, in_force.policy))

    def _denied(self, session: Session, in_force: InForce) -> list[tuple[str, Verdict]]:
        """What waits and is denied now, oldest first."""
        waiting = stored.of_upstream(session, in_force.upstream)
        judged = ((one.id, decide(in_force.policy, self._approvals.as_asked(one))) for one in waiting)
        return [(approval_id, verdict) for approval_id, verdict in judged if verdict.action is Action.DENY]

    def _withdraw(self, tx: Transaction, denied: list[tuple[str, Verdict]], policy: Policy) -> None:
        for approval_id, verdict in denied:
            approval = stored.get(tx.session, approval_id)
            detail = {"rule": verdict.rule, "reason": verdict.reason, "policy": policy.digest}
            if approval is not None:
                with suppress(TransitionRefused):  # since it was looked at it was decided, or it runs
                    withdrawn = moves.withdraw(approval, Cause.POLICY, tx.now)
                    self._approvals.journal.end(tx, withdrawn, Kind.APPROVAL_WITHDRAWN, BROKER, detail)


def _loaded(in_force: InForce, policy: Policy, before: str | None) -> Event:
    detail = {"digest": policy.digest, "source": visible(policy.source), "before": before}
    return _event(Kind.POLICY_LOADED, in_force, detail)


def _refused(in_force: InForce) -> Event:
    told = [visible(mistake)[:LONGEST] for mistake in in_force.mistakes[:MOST_MISTAKES]]
    left_out = len(in_force.mistakes) - len(told)
    detail = {"mistakes": told, "left_out": left_out, "in_force": in_force.policy.digest}
    return _event(Kind.POLICY_REFUSED, in_force, detail)


def _event(kind: Kind, in_force: InForce, detail: dict[str, Any]) -> Event:
    return Event(kind=kind, actor=BROKER, upstream=in_force.upstream, detail=detail)


def _summary(policy: Policy) -> str:
    entries = len(policy.book.entries)
    return f"{entries} {'tool' if entries == 1 else 'tools'}, default {policy.book.unlisted.action}"
