"""A past: calls as the gate and the approvals record them."""

from __future__ import annotations

from typing import Any

from broker.approvals.feed import Feed
from broker.approvals.ledger import Rules
from broker.approvals.service import Approvals
from broker.domain.calls import Action, Call, Verdict
from broker.domain.clock import Clock
from broker.domain.people import GrantRef, Role
from broker.gateway.record import Record
from broker.store import grants, people
from broker.store.writer import Store, Transaction
from tests.domain.values import KEYRING

ALLOW = Verdict(Action.ALLOW, "tools.look")
DENY = Verdict(Action.DENY, "tools.wipe.action", "never")
HOLD = Verdict(Action.HOLD, "tools.press.action", "moves a desk")


class Past:
    """What happened: calls of one grant, as they are judged and recorded."""

    def __init__(self, store: Store, clock: Clock, grant: GrantRef) -> None:
        self._store = store
        self._record = Record(store, KEYRING, keep_results=True)
        self._approvals = Approvals(store, clock, KEYRING, Feed(store), Rules(max_pending=1))
        self._grant = grant
        self._count = 0

    @classmethod
    async def begin(cls, store: Store, clock: Clock) -> Past:
        """A past in which nothing has happened, with an approver and a grant."""

        def work(tx: Transaction) -> GrantRef:
            people.save(tx, "cli:root", "alice@example.com", frozenset({Role.APPROVER}), frozenset())
            made = grants.create(
                tx, "cli:root", label="ci", owner="olga@example.com", upstreams=frozenset({"desk"}), expires_at=None
            )
            return made.grant.ref

        return cls(store, clock, await store.write(work))

    def call(self, tool: str, *, upstream: str = "desk", session: str | None = None, **arguments: Any) -> Call:
        """The next call: `call_1`, `call_2` and so on."""
        self._count += 1
        params = {"name": tool, "arguments": arguments}
        return Call(f"call_{self._count}", upstream, tool, params, self._grant, session)

    async def allowed(self, call: Call, verdict: Verdict = ALLOW) -> None:
        """It passed, or a limit of the verdict refused it."""
        await self._record.admission(call, verdict).write()

    async def denied(self, call: Call, verdict: Verdict = DENY) -> None:
        """It was refused."""
        await self._record.deny(call, verdict)

    async def held(self, call: Call, verdict: Verdict = HOLD) -> None:
        """It was held, or could not be."""
        await self._approvals.requests.submit(call, verdict, None)
