"""The life of approvals: each change of state is one method here and one transaction.

What belongs here: loading an approval, letting `broker.domain.approvals` move it, saving it with its audit row and its
slots, and telling the feed. What does not: rules about moves, and running calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

from sqlmodel import Session

from broker.approvals.feed import Feed
from broker.approvals.journal import BROKER, REVIEWED, Journal, agent, keep_call, limit_kind
from broker.domain import answers, approvals
from broker.domain.answers import Answer
from broker.domain.approvals import Approval, Caller, Cause, Decision, Review, State
from broker.domain.audit import Kind, Row
from broker.domain.calls import Action, Call, Verdict, fingerprints
from broker.domain.canonical import Keyring, canonical_json, new_id
from broker.domain.clock import Clock
from broker.domain.people import Person
from broker.domain.redaction import redacted
from broker.domain.sealing import sealed, unsealed
from broker.domain.text import whole
from broker.errors import DeadlinePassed, NotFound
from broker.store import approvals as stored
from broker.store import audit, grants, held, people
from broker.store.slots import LimitReached, Taken
from broker.store.writer import Store, Transaction

T = TypeVar("T")

LEASE = timedelta(seconds=30)
"""How long a process that executes a call is believed to be alive after it last said so."""

RESULT_CAP = 256 * 1024
"""The most bytes of an upstream's answer that are kept with its approval."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The configured part of an approval's life."""

    timeout: timedelta = timedelta(minutes=15)
    execute_within: timedelta = timedelta(minutes=15)
    keep_results: bool = True
    max_pending: int = 20
    max_per_hour: int = 60


class Approvals:
    """All that can be done to approvals.

    `holder` names this process as the one that executes what it claims, and `executing` holds what it executes now,
    by the approval's id, with what each call counts for its limits.
    """

    def __init__(self, store: Store, clock: Clock, keyring: Keyring, feed: Feed, rules: Rules) -> None:
        self._store = store
        self.clock = clock
        self._keyring = keyring
        self._feed = feed
        self._rules = rules
        self.holder = new_id("proc")
        self.executing: dict[str, Taken] = {}
        self.journal = Journal(keyring)

    # -- reading ------------------------------------------------------------------------------------------------------

    async def get(self, approval_id: str) -> Approval:
        """One approval.

        Raises:
            NotFound: there is none with this id.
        """
        return await self._store.look_up(lambda session: _get(session, approval_id))

    async def history(self, approval_id: str) -> list[Row]:
        """Its audit rows, oldest first."""
        return await self._store.read(lambda session: audit.history(session, approval_id))

    def as_asked(self, approval: Approval) -> Call:
        """The call for who judges or runs it: nothing is masked, unless what is sealed cannot be opened (`claim` will
        not run it then)."""
        return unsealed(self._keyring, approval) or approval.call

    # -- the agent's side ---------------------------------------------------------------------------------------------

    async def submit(self, call: Call, verdict: Verdict, definition: Mapping[str, Any] | None) -> Approval | Answer:
        """Hold `call`.

        The identical call of a caller that went away picks its open approval up again instead of making a second one.

        Args:
            definition: the tool as its server describes it now.

        Returns:
            The open approval, or what the agent is told when it cannot be held.
        """
        marks = fingerprints(self._keyring, call, definition)

        def work(tx: Transaction) -> Approval | Answer:
            waiting = stored.unattended(tx.session, marks, tx.now)
            if waiting is not None:
                return self._resume(tx, waiting)
            if (full := self._full(tx, call)) is not None:
                return self.journal.refuse(tx, Kind.CALL_LIMITED, call, verdict, answers.capped(full))
            asked = approvals.eligible_people(verdict.requirement, call.grant, people.everyone(tx.session))
            if len(asked) < verdict.requirement.quorum:
                return self.journal.refuse(tx, Kind.CALL_DENIED, call, verdict, answers.nobody_eligible(verdict))
            reached = held.reserve(tx.session.connection(), call.id, verdict.charges, tx.now)
            if reached is not None:
                told = answers.limited(reached.charge, reached.free_at, tx.now)
                return self.journal.refuse(tx, limit_kind(told), call, verdict, told)
            return self._open(tx, call, verdict, definition, marks[0])

        return await self.change(work)

    async def abandon(self, approval_id: str, why: str) -> None:
        """The caller went away: `cancelled`, or its connection is `lost`. Nothing is run for it."""

        def work(tx: Transaction) -> None:
            approval = _get(tx.session, approval_id)
            if approval.state.final or approval.caller is Caller.GONE:
                return
            gone = replace(approval, caller=Caller.GONE)
            self.journal.save(tx, gone, Kind.APPROVAL_ABANDONED, agent(gone.call.grant), {"why": why})

        await self.change(work)

    async def end_session(self, session: str) -> None:
        """A legacy session was ended by its client: what it asked for is withdrawn."""

        def work(tx: Transaction) -> None:
            for approval in stored.of_session(tx.session, session):
                withdrawn = approvals.withdraw(approval, Cause.SESSION, tx.now)
                self.journal.end(tx, withdrawn, Kind.APPROVAL_WITHDRAWN, agent(approval.call.grant))

        await self.change(work)

    async def claim(
        self, approval_id: str, verdict: Verdict, definition: Mapping[str, Any] | None
    ) -> Approval | Answer:
        """Take the sole right to run an approved call, if all that it was approved for still holds.

        Args:
            verdict: what the present policy says of the call (see `as_asked`).
            definition: the tool as its server describes it now.

        Returns:
            The approval: `executing` when it is claimed, with the call as it was asked for; else ended, with the cause.
            Or what the agent is told of a limit of the present policy that is used up: the approval stays usable then.

        Raises:
            TransitionRefused: it is not approved, or somebody else claimed it.
        """

        def work(tx: Transaction) -> tuple[Approval | Answer, Taken]:
            approval = _get(tx.session, approval_id)
            runs = self._what_runs(tx, approval, verdict, definition)
            if isinstance(runs, Cause):
                withdrawn = approvals.withdraw(approval, runs, tx.now)
                return self.journal.end(tx, withdrawn, Kind.APPROVAL_WITHDRAWN, BROKER), nothing
            try:
                claimed = approvals.claim(approval, self.holder, tx.now, LEASE)
            except DeadlinePassed:
                expired = approvals.expire(approval, tx.now)
                return self.journal.end(tx, expired, Kind.APPROVAL_EXPIRED, BROKER), nothing
            taken = held.stamp(tx.session.connection(), approval.call.id, verdict.charges, tx.now)
            if isinstance(taken, LimitReached):
                return answers.limited(taken.charge, taken.free_at, tx.now, approval.id), nothing
            self.journal.save(tx, claimed, Kind.APPROVAL_CLAIMED, agent(approval.call.grant))
            return replace(claimed, call=runs), taken

        nothing = Taken(0)
        claimed, taken = await self.change(work, durable=True)
        if isinstance(claimed, Approval) and claimed.state is State.EXECUTING:
            self.executing[claimed.id] = taken
        return claimed

    async def finish(self, approval_id: str, *, failed: bool, errored: bool = False, result: Any = None) -> Approval:
        """Record the outcome of a claimed call, and keep the upstream's result when it is not too large.

        An outcome that comes after the call was given up as interrupted is recorded, and the state stays.

        Args:
            errored: the upstream answered with a protocol error, so what is refunded is given back.
        """

        def work(tx: Transaction) -> Approval:
            approval = _get(tx.session, approval_id)
            kind = Kind.APPROVAL_FAILED if failed else Kind.APPROVAL_SUCCEEDED
            self._keep_result(tx, approval.call, result)
            if approval.state is State.INTERRUPTED:
                self.journal.note(tx, approval, Kind.APPROVAL_LATE, BROKER, {"outcome": kind.value})
                return approval
            finished = approvals.finish(approval, failed=failed)
            held.settle(tx.session.connection(), approval.call.id, errored=errored)
            return self.journal.save(tx, finished, kind, BROKER)

        return await self._let_go(approval_id, work)

    async def release(self, approval_id: str, why: str) -> Approval:
        """Give a claim back: the call provably never reached the tool, so the approval can still be used."""

        def work(tx: Transaction) -> Approval:
            approval = approvals.release(_get(tx.session, approval_id))
            held.hold_again(tx.session.connection(), approval.call.id)
            return self.journal.save(tx, approval, Kind.APPROVAL_RELEASED, BROKER, {"why": why})

        return await self._let_go(approval_id, work)

    async def interrupt(self, approval_id: str, why: str) -> Approval:
        """The server went away in the middle: nobody knows whether it ran, and it is never run again."""

        def work(tx: Transaction) -> Approval:
            approval = _get(tx.session, approval_id)
            return self.journal.save(tx, approvals.interrupt(approval), Kind.APPROVAL_INTERRUPTED, BROKER, {"why": why})

        return await self._let_go(approval_id, work)

    # -- the people's side --------------------------------------------------------------------------------------------

    async def review(
        self,
        approval_id: str,
        person: Person,
        decision: Decision,
        *,
        channel: str,
        revision: str | None = None,
        reason: str | None = None,
    ) -> Approval:
        """Take one person's word.

        Args:
            revision: what they saw; may be left out only while nothing was edited.

        Raises:
            NotFound: there is no such approval.
            ReviewRefused: why the word was not taken (see its subclasses).
        """

        def work(tx: Transaction) -> Approval:
            approval = _get(tx.session, approval_id)
            word = Review(
                by=person.email,
                decision=decision,
                channel=channel,
                revision=revision or approval.fingerprint,
                at=tx.now,
                reason=whole(reason) if reason else None,
            )
            reviewed = approvals.review(approval, person, word, execute_within=self._rules.execute_within)
            if reviewed is approval:
                return approval
            detail = {"decision": decision.value, "channel": channel, "reason": word.reason, "revision": word.revision}
            kind = REVIEWED[reviewed.state]
            if reviewed.state is State.REJECTED:
                return self.journal.end(tx, reviewed, kind, person.email, detail)
            return self.journal.save(tx, reviewed, kind, person.email, detail)

        return await self.change(work, durable=True)

    # -- parts --------------------------------------------------------------------------------------------------------

    async def change(self, work: Callable[[Transaction], T], *, durable: bool = False) -> T:
        """Run `work` in a transaction, then let the feed look at what it recorded."""
        done = await self._store.write(work, durable=durable)
        self._feed.nudge()
        return done

    async def _let_go(self, approval_id: str, work: Callable[[Transaction], Approval]) -> Approval:
        done = await self.change(work, durable=True)
        self.executing.pop(approval_id, None)
        return done

    def _open(
        self, tx: Transaction, call: Call, verdict: Verdict, definition: Mapping[str, Any] | None, mark: str
    ) -> Approval:
        approval_id, seen = new_id("apr"), redacted(call, verdict.redact)
        approval = Approval(
            id=approval_id,
            state=State.PENDING,
            call=seen,
            fingerprint=mark,
            revision=mark,
            rule=verdict.rule,
            requirement=verdict.requirement,
            created_at=tx.now,
            deadline=tx.now + (verdict.requirement.timeout or self._rules.timeout),
            reason=verdict.reason,
            risk=verdict.risk,
            definition=definition,
            sealed=sealed(self._keyring, approval_id, call.params) if seen is not call else None,
        )
        keep_call(tx, call, seen, verdict)
        return self.journal.save(tx, approval, Kind.APPROVAL_SUBMITTED, agent(call.grant), {"reason": verdict.reason})

    def _full(self, tx: Transaction, call: Call) -> str | None:
        """Why this agent may not ask for more: people's attention is limited too."""
        pending, recent = stored.load_of(tx.session, call.grant.id, tx.now - timedelta(hours=1))
        if pending >= self._rules.max_pending:
            return f"{pending} calls of this agent wait for approval already; wait until they are answered"
        if recent >= self._rules.max_per_hour:
            return f"this agent asked for {recent} approvals within the last hour; ask for less"
        return None

    def _resume(self, tx: Transaction, approval: Approval) -> Approval:
        back = replace(approval, caller=Caller.WAITING)
        return self.journal.save(tx, back, Kind.APPROVAL_RESUMED, agent(approval.call.grant))

    def _what_runs(
        self, tx: Transaction, approval: Approval, verdict: Verdict, definition: Mapping[str, Any] | None
    ) -> Call | Cause:
        """The call as it was asked for, or why it may not run any more; the state is looked at elsewhere."""
        if approval.state is not State.APPROVED:
            return approval.call
        grant = grants.get(tx.session, approval.call.grant.id)
        if grant is None or not grant.live(tx.now):
            return Cause.GRANT
        if (call := unsealed(self._keyring, approval)) is None:
            return Cause.SECRET
        if verdict.action is Action.DENY:
            return Cause.POLICY
        if approval.fingerprint not in fingerprints(self._keyring, call, definition):
            return Cause.TOOL
        return call

    def _keep_result(self, tx: Transaction, call: Call, result: Any) -> None:
        if self._rules.keep_results and result is not None and _small(result):
            tx.keep(call.id, "result", result)


def _small(result: Any) -> bool:
    try:
        return len(canonical_json(result)) <= RESULT_CAP
    except ValueError:  # what a server nests without an end, or half a character; its answer passes, and is not kept
        return False


def _get(session: Session, approval_id: str) -> Approval:
    found = stored.get(session, approval_id)
    if found is None:
        raise NotFound(f"There is no approval {approval_id}.")
    return found
