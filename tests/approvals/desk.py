"""A desk: the service on a real store, as tests use it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from broker.approvals.feed import Feed
from broker.approvals.ledger import Rules
from broker.approvals.notices import Channel
from broker.approvals.processes import Process
from broker.approvals.service import Approvals
from broker.domain.answers import Answer
from broker.domain.approvals import Approval, Decision, State
from broker.domain.audit import Kind, Row, verify
from broker.domain.calls import UNIT, Action, Call, Charge, Requirement, Verdict
from broker.domain.canonical import Keyring, new_id
from broker.domain.people import GrantRef, Person, Role
from broker.domain.searching import AuditFilter
from broker.store import audit, grants, people, searching
from broker.store.writer import Store, Transaction
from tests.clock import MovableClock
from tests.domain.values import ALICE, BOB, CAROL, DEFINITION, KEYRING, OLGA, call

OUTSIDER = Person("oscar@example.com", frozenset({Role.AUDITOR}))

STATES = {
    Kind.APPROVAL_SUBMITTED: State.PENDING,
    Kind.APPROVAL_REVIEWED: State.PENDING,
    Kind.APPROVAL_APPROVED: State.APPROVED,
    Kind.APPROVAL_REJECTED: State.REJECTED,
    Kind.APPROVAL_EXPIRED: State.EXPIRED,
    Kind.APPROVAL_WITHDRAWN: State.WITHDRAWN,
    Kind.APPROVAL_CLAIMED: State.EXECUTING,
    Kind.APPROVAL_RELEASED: State.APPROVED,
    Kind.APPROVAL_SUCCEEDED: State.SUCCEEDED,
    Kind.APPROVAL_FAILED: State.FAILED,
    Kind.APPROVAL_INTERRUPTED: State.INTERRUPTED,
}
"""The state after each kind of row; the other kinds change none."""


def hold(*charges: Charge, **requirement: Any) -> Verdict:
    """The verdict of a policy that holds the call."""
    return Verdict(Action.HOLD, "tools.press.action", "moves a desk", None, Requirement(**requirement), charges)


def new_grant(tx: Transaction) -> GrantRef:
    """A grant of Olga's."""
    granted: dict[str, Any] = {"label": "ci", "owner": OLGA.email, "upstreams": frozenset({"desk"})}
    return grants.create(tx, "cli:root", **granted, expires_at=None).grant.ref


def saying(verdict: Verdict) -> Callable[[Call], Verdict]:
    """A policy that says the same of every call."""
    return lambda _call: verdict


def replayed(rows: list[Row]) -> State | None:
    """The state to which the record of one approval leads."""
    state = None
    for row in rows:
        state = STATES.get(row.kind, state)
    return state


@dataclass(slots=True)
class Desk:
    """The service with everything around it."""

    store: Store
    clock: MovableClock
    feed: Feed
    approvals: Approvals
    grant: GrantRef

    @classmethod
    async def open(cls, store: Store, clock: MovableClock) -> Desk:
        """A new desk with its people and a grant of Olga's."""

        def work(tx: Transaction) -> GrantRef:
            for person in (ALICE, BOB, CAROL, OLGA, OUTSIDER):
                people.save(tx, "cli:root", person.email, person.roles, person.groups)
            return new_grant(tx)

        feed = Feed(store)
        return cls(store, clock, feed, Approvals(store, clock, KEYRING, feed, Rules()), await store.write(work))

    def service(
        self,
        store: Store | None = None,
        *,
        keyring: Keyring = KEYRING,
        rules: Rules | None = None,
        channels: Sequence[Channel] = (),
        process: Process | None = None,
    ) -> Approvals:
        """Another service of this process, or of another one."""
        store, process = store or self.store, process or self.approvals.process
        return Approvals(store, self.clock, keyring, Feed(store), rules or Rules(), channels, process)

    def elsewhere(self, store: Store | None = None) -> Approvals:
        """The service in another process, which may have a store of its own."""
        return self.service(store, process=Process(KEYRING))

    def call(self, tool: str = "press", **arguments: Any) -> Call:
        """A call of the grant."""
        return call(tool, grant=self.grant, **arguments)

    async def told(self, verdict: Verdict | None = None, asked: Call | None = None) -> Approval | Answer:
        """What comes of holding a call."""
        return await self.approvals.requests.submit(asked or self.call(), verdict or hold(), DEFINITION)

    async def held(self, verdict: Verdict | None = None, asked: Call | None = None) -> Approval:
        """A pending approval."""
        approval = await self.told(verdict, asked)
        assert isinstance(approval, Approval)
        return approval

    async def review(self, approval: Approval, by: Person, decision: Decision = Decision.APPROVE) -> Approval:
        """A person's word, from the browser."""
        return await self.approvals.reviews.review(approval.id, by, decision, channel="web", revision=approval.revision)

    async def approved(self, verdict: Verdict | None = None, asked: Call | None = None) -> Approval:
        """An approval that Alice agreed to."""
        return await self.review(await self.held(verdict, asked), ALICE)

    async def claimed(self, verdict: Verdict | None = None) -> Approval:
        """An approval that is executed."""
        return await self.claim(await self.approved(verdict), verdict=verdict)

    async def claim(
        self, approval: Approval, service: Approvals | None = None, *, verdict: Verdict | None = None
    ) -> Approval:
        """A claim, under a policy without limits unless it is given."""
        claims = (service or self.approvals).claims
        claimed = await claims.claim(approval.id, saying(verdict or hold()), DEFINITION)
        assert isinstance(claimed, Approval)
        return claimed

    async def kinds(self, approval: Approval) -> list[Kind]:
        """The kinds of its rows, oldest first."""
        return [row.kind for row in await self.approvals.history(approval.id)]

    async def last_kinds(self, number: int) -> list[Kind]:
        """The kinds of the last rows of all, oldest first."""
        found = await self.store.read(lambda session: searching.page(session, AuditFilter(), limit=number))
        return [row.kind for row in found.rows[::-1]]

    async def slots(self) -> list[tuple[str, bool]]:
        """Which held calls have slots, and whether each is reserved."""
        query = sa.text("SELECT call_id, until IS NULL FROM held_slots ORDER BY call_id")
        rows = await self.store.read(lambda session: session.connection().execute(query).all())
        return [(row[0], bool(row[1])) for row in rows]

    async def counted(self) -> int:
        """How many calls count as dispatched."""
        query = sa.text("SELECT coalesce(sum(amount), 0) FROM counts")
        return int(await self.store.read(lambda session: session.connection().execute(query).scalar_one())) // UNIT

    async def check_record(self) -> None:
        """The chain verifies, and the record of every approval leads to the state that it has."""
        await self.store.read(lambda session: verify(audit.stream(session), audit.head(session)))
        rows = await self.store.read(lambda session: list(audit.stream(session)))
        for approval_id in {row.approval_id for row in rows if row.approval_id}:
            mine = [row for row in rows if row.approval_id == approval_id]
            now = await self.approvals.get(approval_id)
            assert replayed(mine) is now.state
            assert mine[-1].detail["state"] == now.state.value


def again(asked: Call) -> Call:
    """The identical call, made once more."""
    return replace(asked, id=new_id("call"))
