"""The ledger: approvals as they are stored, and the one way in which they change.

What belongs here: reading, and running a change with the feed told of it. What does not: which changes there are
(`requests`, `claims`, `reviews`, `sweeps`), and what is written with each (`journal`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from sqlmodel import Session

from broker.approvals.feed import Feed
from broker.approvals.journal import Journal
from broker.approvals.notices import Channel
from broker.approvals.processes import Process
from broker.domain.approvals import Approval
from broker.domain.audit import Row
from broker.domain.calls import Call
from broker.domain.canonical import Keyring
from broker.domain.clock import Clock
from broker.domain.sealing import unsealed
from broker.errors import NotFound
from broker.store import approvals as stored
from broker.store import audit
from broker.store.writer import Store, Transaction

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Rules:
    """The configured part of an approval's life.

    Args:
        timeout: how long a call is held when its policy does not say.
        execute_within: how long an approval waits for the agent to use it.
        retry_grace: how long the approval of a caller that cancelled stays open for the identical call.
        reject_memory: how long a rejection answers the identical call.
        allow_self: whether the grant's owner may decide when the policy does not say.
        channels: where decisions can be made in this broker, such as `web` and `slack`.
    """

    timeout: timedelta = timedelta(minutes=15)
    execute_within: timedelta = timedelta(minutes=15)
    retry_grace: timedelta = timedelta(minutes=2)
    reject_memory: timedelta = timedelta(minutes=10)
    allow_self: bool = False
    keep_results: bool = True
    max_pending: int = 20
    max_per_hour: int = 60
    channels: frozenset[str] = frozenset({"web", "api"})


class Ledger:
    """The approvals of one store, which are told in `channels`, as one `process` of several has them."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        keyring: Keyring,
        feed: Feed,
        rules: Rules,
        channels: Sequence[Channel] = (),
        process: Process | None = None,
    ) -> None:
        self.store = store
        self.clock = clock
        self.keyring = keyring
        self.rules = rules
        self.process = process or Process(keyring)
        self.journal = Journal(keyring, channels)
        self._feed = feed

    async def get(self, approval_id: str) -> Approval:
        """One approval.

        Raises:
            NotFound: there is none with this id.
        """
        return await self.store.look_up(lambda session: held_call(session, approval_id))

    async def history(self, approval_id: str) -> list[Row]:
        """What happened to it and its call, oldest first (see `audit.history`).

        Raises:
            NotFound: there is none with this id.
        """
        return await self.store.read(
            lambda session: audit.history(session, held_call(session, approval_id).call.id, approval_id)
        )

    def as_asked(self, approval: Approval) -> Call:
        """The call for who judges or runs it: nothing is masked, unless what is sealed cannot be opened (a claim will
        not run it then)."""
        return unsealed(self.keyring, approval) or approval.call

    async def change(self, work: Callable[[Transaction], T], *, durable: bool = False) -> T:
        """Run `work` in a transaction, then tell who waits for the approval that it returns, and let the feed look at
        what it recorded."""
        done = await self.store.write(work, durable=durable)
        if isinstance(done, Approval):
            self._feed.tell(done)
        self._feed.nudge()
        return done


def held_call(session: Session, approval_id: str) -> Approval:
    """The approval of this id.

    Raises:
        NotFound: there is none.
    """
    possible = approval_id.isascii() and approval_id.isprintable()  # else a database may not even take it
    found = stored.get(session, approval_id) if possible else None
    if found is None:
        raise NotFound(f"There is no approval {approval_id}.")
    return found
