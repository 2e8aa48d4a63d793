"""This server process among those that serve from the same store, and what becomes of what a dead one left.

What belongs here: living and dying. What does not: how a process is known to be dead (`broker.store.processes`,
`broker.store.presence`).

Each process that serves says again and again that it lives. It is dead when it has not said so for `LEASE`, and on
PostgreSQL at once when the connection is gone on which it holds a lock: that of a killed process is closed by its
machine, while the lease is for one that hangs, and for machines that vanish. Whoever finds one dead ends what it left,
in the same transaction: nobody waits at it any more, and what it ran is interrupted.

One that was wrongly taken for dead, since it was cut off from the database for a while, says again that it lives. What
ran there is told to its caller and recorded as late; who waited there is told to repeat the call, and picks it up.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from broker.approvals.journal import BROKER, Journal
from broker.domain import moves
from broker.domain.approvals import Caller, State
from broker.domain.audit import Kind
from broker.domain.canonical import Keyring, new_id
from broker.errors import SettingsError
from broker.store import approvals as stored
from broker.store import notices, processes
from broker.store.writer import Transaction

if TYPE_CHECKING:
    from broker.store.presence import Presence

LEASE = timedelta(seconds=30)
"""How long a process is believed to be alive after it last said so."""


class Process:
    """This process, whose `id` names it for the others.

    Args:
        presence: its connection to PostgreSQL, whose lock tells others that it lives; None on SQLite.
    """

    def __init__(self, keyring: Keyring, presence: Presence | None = None) -> None:
        self.id = new_id("proc")
        self._secrets = keyring.signatures("store", b"")
        self._presence = presence

    def begin(self, tx: Transaction, journal: Journal, *, alone: bool) -> None:
        """Begin to serve, and end what those left that are dead.

        Args:
            alone: whether nobody else can be serving from this store.

        Raises:
            SettingsError: another process has secrets that do not go together with these.
        """
        if alone:
            processes.forget_others(tx.session, self.id)
        else:
            processes.forget_dead(tx.session, self.id, tx.now)
        self._check_secrets(tx)
        self._beat(tx)
        _end_what_is_left(tx, journal)

    def look_around(self, tx: Transaction, journal: Journal) -> None:
        """Say that this process lives, and end what those left that are dead now.

        One whose own connection broke a moment ago judges nobody: when the database was away, all of them were cut off.
        """
        self._beat(tx)
        sure = self._presence is None or self._presence.settled
        if sure and processes.forget_dead(tx.session, self.id, tx.now):
            _end_what_is_left(tx, journal)

    def end(self, tx: Transaction, journal: Journal) -> None:
        """Serve no more. What was not finished is as after a crash."""
        processes.forget(tx.session, self.id)
        _end_what_is_left(tx, journal)

    def _beat(self, tx: Transaction) -> None:
        lock = self._presence.lock if self._presence is not None else None
        processes.beat(tx.session, self.id, tx.now + LEASE, lock, self._secrets)

    def _check_secrets(self, tx: Transaction) -> None:
        for others in processes.secrets_of_others(tx.session, self.id):
            # What either makes with its newest secret, the other has to recognise.
            if self._secrets[0] not in others or others[0] not in self._secrets:
                raise SettingsError(
                    "server.secret: another server that uses this store now has another secret, so that neither would "
                    "know the other's sessions and held calls. Nothing was started: give all servers of a store the "
                    "same secret. One that ended without a word counts as running for "
                    f"{LEASE.total_seconds():g} s at most."
                )


def _end_what_is_left(tx: Transaction, journal: Journal) -> None:
    """Of processes that are not there any more."""
    for left in stored.left_behind(tx.session):
        if left.state is State.EXECUTING:
            caller = Caller.TASK if left.caller is Caller.TASK else Caller.GONE  # its connection went, if it had one
            gone = replace(moves.interrupt(left), caller=caller, waits_at=None)
            why = {"why": "the broker stopped in the middle: it may or may not have run"}
            journal.save(tx, gone, Kind.APPROVAL_INTERRUPTED, BROKER, why)
        else:
            gone = moves.leave(left, withdraw_at=None)
            journal.save(tx, gone, Kind.APPROVAL_ABANDONED, BROKER, {"why": "the broker that it waited at ended"})
    notices.let_go(tx.session)
