"""A broker's world for the state machine: two processes, people, an agent; and all that can happen in it.

What belongs here: doing one thing, and holding what came of it against the oracle. What does not: choosing what happens
(`test_life`), what must come of it (`oracle`).

After each thing that happens the record has exactly the rows that it must have, and what they are about is stored as
it must be.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session

from broker.approvals.feed import Feed
from broker.approvals.ledger import Rules
from broker.approvals.policies import Policies
from broker.approvals.service import Approvals
from broker.approvals.sweeps import recover, sweep
from broker.domain import schedule
from broker.domain.answers import Answer
from broker.domain.approvals import Approval, Cause, Decision, State
from broker.domain.audit import Head, Kind, Row, row_digest
from broker.domain.calls import UNIT, Action, Call, Requirement, Verdict
from broker.domain.people import GrantRef, Person, Role
from broker.domain.rounds import continuations
from broker.errors import BrokerError, Forbidden, NotEligible, ReviewRefused, SelfApproval, TransitionRefused
from broker.policy.judging.decide import decide
from broker.policy.watch import InForce
from broker.store import approvals as stored
from broker.store import audit, grants, people, processes, slots
from broker.store.columns import EPOCH
from broker.store.writer import Store
from tests.approvals.desk import again, new_grant
from tests.approvals.oracle import (
    GRACE,
    LEASE,
    MOST_IN_AN_HOUR,
    MOST_PENDING,
    MOST_ROUNDS,
    OPEN,
    PEOPLE,
    QUARTER,
    ROOT,
    Known,
    Oracle,
)
from tests.clock import NOON, MovableClock
from tests.domain.values import DEFINITION, KEYRING, call
from tests.policy.calls import policy

EVEN: dict[str, Any] = {"deny_if": [{"path": "args.key", "op": "in", "value": list(range(0, 100, 2))}]}
LIMITS = {"ordinary": 4, "strict": 1, "denies": 4}
"""How many calls in a minute each policy lets a grant make; `denies` denies those with an even key too."""


def _holding(most: int, **terms: Any) -> Any:
    limit = {"counter": "presses", "window": "minute", "max": most, "scope": "grant"}
    return policy(redact=["args.password"], tools={"press": {"action": "hold", "limits": [limit], **terms}})


POLICIES = {name: _holding(most, **(EVEN if name == "denies" else {})) for name, most in LIMITS.items()}
DEFINITIONS = (DEFINITION, {"name": "press", "description": "another"})

_DUE = sa.text("SELECT id, due FROM approvals WHERE id IN :ids").bindparams(sa.bindparam("ids", expanding=True))
_SLOTS = sa.text("""
    SELECT call_id, until IS NULL, 0 FROM held_slots WHERE counter IN :counters
    UNION ALL SELECT '', NULL, amount FROM counts WHERE counter IN :counters
""").bindparams(sa.bindparam("counters", expanding=True))


FOR_EVER = datetime.max.replace(tzinfo=UTC)


class World:
    """As if new, on a clock that may have gone back; what else the store holds is over.

    Args:
        allow_self: whether the grant's owner may decide when the policy does not say.
    """

    def __init__(self, runner: asyncio.Runner, store: Store, clock: MovableClock, *, allow_self: bool) -> None:
        self._runner, self._store, self.clock = runner, store, clock
        clock.advance(NOON - clock.now())
        self.rules = Rules(allow_self=allow_self, max_pending=MOST_PENDING, max_per_hour=MOST_IN_AN_HOUR)
        self.known = Oracle()
        self._dead: set[str] = set()
        self.processes = [self.process(), self.process()]
        self._live()
        self._in_force, self._policy = InForce("desk", POLICIES["ordinary"], clock.now()), "ordinary"
        self._revoked: set[str] = set()
        self._at_hand: dict[str, Approval] = {}
        self._states: dict[str, str] = {}
        self._do(store.write(_let_in))
        self._grant: GrantRef = self._do(store.write(new_grant))
        self._head = store.read_now(audit.head)
        self.steps = 0
        self.sound = True

    def process(self) -> Approvals:
        """The service as in a process of its own."""
        return Approvals(self._store, self.clock, KEYRING, Feed(self._store), self.rules)

    def at(self, one: Known) -> int:
        """Which process its caller waits at."""
        return int(one.at == self.processes[1].process.id)

    def call(self, key: int, *, session: bool) -> Call:
        """A call of the agent."""
        asked = call(grant=self._grant, key=key, password="s3cret")
        return replace(asked, session=f"of {self._grant.id}" if session else None)

    # -- the agent ----------------------------------------------------------------------------------------------------

    def hold(self, asked: Call, wanted: Requirement, by: int, definition: int = 0) -> Known | None:
        """What the gate does with a call that the policy holds: the approval that it waits for, if it is to wait."""
        asked = replace(asked, grant=self._grant)
        verdict = decide(self._in_force.policy, asked)
        assert (verdict.action is Action.DENY) is self._denied(asked)
        if verdict.action is Action.DENY:
            return None
        timeout = wanted.timeout or QUARTER
        allow_self = self.rules.allow_self if wanted.allow_self is None else wanted.allow_self
        settled = replace(wanted, timeout=timeout, allow_self=allow_self)
        identity, now = (self._grant.id, asked.arguments["key"], definition), self.clock.now()
        verdict = replace(verdict, requirement=wanted)
        with self._step() as beside:
            self._bury()
            remembered, picked_up = self.known.remembered(identity, now), self.known.picked_up(identity, now)
            may, must = self.known.refusals(self._grant.id, settled, LIMITS[self._policy], now)
            told = self._do(self.processes[by].requests.submit(asked, verdict, DEFINITIONS[definition]))
            self._live()
            if isinstance(told, Answer):
                beside.append(Kind.CALL_LIMITED if told.status == "limited" else Kind.CALL_DENIED)
                if remembered:
                    assert (told.status, told.approval_id in remembered) == ("rejected", True)
                else:
                    assert not picked_up
                    assert told.status in may
                return None
            assert not remembered
            if picked_up:
                assert told.id in picked_up
                self.known[told.id].come_back(asked.session, self.processes[by].process.id)
            else:
                assert not must
                at = self.processes[by].process.id
                self.known[told.id] = Known(told.id, asked, identity, settled, now, now + timeout, at)
                self._at_hand[told.id] = told
        return self.known[told.id]

    def leave(self, one: Known, by: int, why: str) -> None:
        """The caller goes away; a process where it does not wait any more changes nothing."""
        with self._step():
            self._do(self.processes[by].requests.abandon(one.id, why))
            if one.at == self.processes[by].process.id:
                one.leave(self.clock.now() + GRACE if why == "cancelled" else None)

    def end_session(self, by: int) -> None:
        session = f"of {self._grant.id}"
        with self._step():
            self._do(self.processes[by].requests.end_session(session))
            for each in self.known.of(*OPEN):
                if each.call.session == session:
                    each.end(Kind.APPROVAL_WITHDRAWN, self.clock.now(), Cause.SESSION)

    # -- people -------------------------------------------------------------------------------------------------------

    def review(self, one: Known, who: Person, decision: Decision, channel: str, *, seen: bool) -> None:
        """One person's word; `seen`: for what is there."""
        now, reviews = self.clock.now(), self.processes[0].reviews
        objections, too_late = one.objections(who, channel, now), one.too_late(who, now, seen=seen)
        if who.email in self.known.dismissed:
            objections.add(NotEligible)
        revision = None if seen else "0" * 64
        with self._step():
            refusal = self._refused(
                reviews.review(one.id, who, decision, channel=channel, revision=revision), ReviewRefused
            )
            if refusal is None and one.escalates(now):
                one.escalate()  # for a word that is only repeated, too
            if objections:
                assert type(refusal) in objections
            elif one.votes.get(who.email) is decision:
                assert refusal is None
            elif too_late:
                assert type(refusal) in too_late
            else:
                assert refusal is None
                one.vote(who, decision, now)

    def settle(self, one: Known, decision: Decision) -> None:
        """Whoever still may says the same, until it is decided."""
        now = self.clock.now()
        for who in (PEOPLE[email] for email in sorted(one.asked(now) - self.known.dismissed)):
            if not one.objections(who, "web", now) and not one.too_late(who, now, seen=True):
                self.review(one, who, decision, "web", seen=True)

    def withdraw(self, one: Known, who: Person) -> None:
        """Only an administrator may, and what is over or runs stays as it is."""
        with self._step():
            refusal = self._refused(self.processes[1].reviews.withdraw(one.id, who), TransitionRefused, Forbidden)
            assert isinstance(refusal, Forbidden) is (who != ROOT)
            assert (refusal is None) is (who == ROOT and one.state in OPEN)
            if refusal is None:
                one.end(Kind.APPROVAL_WITHDRAWN, self.clock.now(), Cause.ADMINISTRATOR)

    def forget(self, one: Known, who: Person) -> None:
        """Who may decide it may, and an administrator."""
        now = self.clock.now()
        objections = one.objections(who, one.wanted.channels[0] if one.wanted.channels else "web", now)
        may = who == ROOT or (who.email not in self.known.dismissed and not objections)
        with self._step():
            refusal = self._refused(
                self.processes[0].reviews.forget(one.id, who), TransitionRefused, NotEligible, SelfApproval
            )
            assert isinstance(refusal, NotEligible | SelfApproval) is not may
            assert (refusal is None) is (may and one.remembered(now))
            if refusal is None:
                one.forget()

    def dismiss(self, who: Person) -> None:
        """They lose the role; next time they get it back. What they said before counts."""
        known = self.known
        role = Role.APPROVER if who.email in known.dismissed else Role.AUDITOR
        with self._step() as beside:
            self._do(
                self._store.write(lambda tx: people.save(tx, "cli:root", who.email, frozenset({role}), who.groups))
            )
            beside.append(Kind.PERSON_SAVED)
            known.dismissed ^= {who.email}

    # -- the run ------------------------------------------------------------------------------------------------------

    def claim(self, one: Known, by: int, definition: int = 0) -> None:
        """The waiting call uses its approval."""
        now, claims, limit = self.clock.now(), self.processes[by].claims, LIMITS[self._policy]
        with self._step():
            told, refusal = self._outcome(claims.claim(one.id, self._judge, DEFINITIONS[definition]), TransitionRefused)
            assert (refusal is not None) is (one.state is not State.APPROVED or one.at != claims.holder)
            if refusal is not None:
                return
            causes, taken = self._hindrances(one, definition), self.known.taken(one.call.grant.id, now, one)
            if one.execute_by is None or now >= one.execute_by:
                one.end(Kind.APPROVAL_EXPIRED, now, Cause.UNUSED)
            elif causes:
                assert told.resolution.cause in causes
                one.end(Kind.APPROVAL_WITHDRAWN, now, told.resolution.cause)
            elif isinstance(told, Answer):
                assert (told.status, told.approval_id, taken.stop > limit) == ("limited", one.id, True)
            else:
                assert taken.start < limit
                assert told.call == one.call, "what is sent is what was asked for, and nothing of it is masked"
                self._at_hand[one.id] = told
                one.run(claims.holder, now)

    def carry_out(self, one: Known, by: int, word: str) -> None:
        """What a process does with a call that was claimed, which need not have been by itself."""
        holder = self.processes[by].claims.holder
        if one.state is State.EXECUTING and one.holder == holder:
            if word == "release" and one.sent and not one.rounds:
                word = "interrupt"  # of a call that was sent nobody says that it never was
            elif word != "release":
                one.send()
        if word == "ask often":  # as often as a tool may, and once more
            while one.state is State.EXECUTING and one.holder == holder and one.rounds < MOST_ROUNDS:
                self._say(one, by, "ask")
                self.bring_input(one, by, one.marks[-1])
        if word == "ask again" and not one.rounds:
            word = "ask"
        if word != "nothing yet":
            self._say(one, by, word.removesuffix(" often"))

    def bring_input(self, one: Known, by: int, mark: str, definition: int = 0) -> None:
        """The same call, with what its tool asked for; `mark` is as it stands for the `requestState` in the store."""
        claims, now = self.processes[by].claims, self.clock.now()
        bringing = claims.continue_with_input(
            again(one.call), self._states.get(mark), self._judge, DEFINITIONS[definition]
        )
        in_time = one.lease_ends is not None and now < one.lease_ends
        with self._step() as beside:
            told = self._do(bringing)
            if one.state is not State.EXECUTING or one.mark != mark or not in_time:
                assert told.status == "expired"
                beside.append(Kind.CALL_DENIED)
            elif self._hindrances(one, definition):
                assert told.status == "interrupted"
                one.end(Kind.APPROVAL_INTERRUPTED, now)
            else:
                assert told.call == one.call
                self._at_hand[one.id] = told
                one.go_on(claims.holder, now)

    def _say(self, one: Known, by: int, word: str) -> None:
        claims, now, at_hand = self.processes[by].claims, self.clock.now(), self._at_hand[one.id]
        state = f"{one.rounds - 1 if word == 'ask again' else one.rounds} of {one.id}"
        mark = continuations(KEYRING, at_hand.call, state)[0]
        self._states[mark] = state
        saying: dict[str, Callable[[], Awaitable[Any]]] = {
            "finish": lambda: claims.finish(one.id, failed=False, result={"ok": True}),
            "fail": lambda: claims.finish(one.id, failed=True, errored=True, result={"ok": False}),
            "interrupt": lambda: claims.interrupt(one.id, "it went away"),
            "release": lambda: claims.release(one.id, "connection refused"),
            "ask": lambda: claims.await_input(at_hand, state),
            "ask again": lambda: claims.await_again(at_hand, state, "connection refused"),
        }
        with self._step():
            refusal = self._refused(saying[word](), TransitionRefused)
            assert (refusal is None) is (one.holder == claims.holder and one.may_hear(word))
            if refusal is None:
                one.hear(word, mark, now)
            elif one.holder == claims.holder:
                one.renewed = False

    # -- time, crashes, administrators --------------------------------------------------------------------------------

    def sweep(self, process: Approvals) -> None:
        now = self.clock.now()
        with self._step(*self.known.of(State.EXECUTING)):
            self._do(sweep(process))
            self._bury()
            self._live()
            for each in self.known.values():
                if each.state is State.EXECUTING and each.renewed and each.holder == process.claims.holder:
                    each.lease_ends = now + LEASE
                each.pass_time(now)
                if each.state in OPEN and each.call.grant.id in self._revoked:
                    each.end(Kind.APPROVAL_WITHDRAWN, now, Cause.GRANT)

    def restart(self) -> None:
        """Both processes are gone, and with them every connection; new ones begin."""
        with self._step():
            self._dead.update(each.process.id for each in self.processes)
            self.processes = [self.process(), self.process()]
            self._do(recover(self.processes[0], alone=True))
            self._bury()
            self._live()

    def crash(self, by: int) -> None:
        """One of the processes dies, which the other finds out when it looks around, and another begins."""
        self._dead.add(self.processes[by].process.id)
        self._beat(self.processes[by], EPOCH)
        self.processes[by] = self.process()
        self._live()

    def _live(self) -> None:
        """However far the clock is moved, processes live until they die."""
        for each in self.processes:
            self._beat(each, FOR_EVER)

    def _beat(self, process: Approvals, until: datetime) -> None:
        self._do(self._store.write(lambda tx: processes.beat(tx.session, process.process.id, until, None, [])))

    def _bury(self) -> None:
        """Somebody looks around, and finds the dead."""
        for each in self.known.values():
            each.lose(self._dead, self.clock.now())
        self._dead.clear()

    def revoke(self) -> None:
        """The agent goes on with a new grant; what the old one asked for is open until somebody looks at it."""
        with self._step() as beside:
            self._do(self._store.write(lambda tx: grants.revoke(tx, "cli:root", self._grant.id)))
            self._revoked.add(self._grant.id)
            self._grant = self._do(self._store.write(new_grant))
            beside.extend((Kind.GRANT_REVOKED, Kind.GRANT_CREATED))

    def edit_the_policy(self, name: str, by: int) -> None:
        with self._step() as beside:
            self._do(Policies(self.processes[by], self._store).adopt(self._in_force, POLICIES[name]))
            beside.extend([Kind.POLICY_LOADED] if name != self._policy else [])
            self._policy = name
            for each in self.known.of(*OPEN):
                if self._denied(each.call):
                    each.end(Kind.APPROVAL_WITHDRAWN, self.clock.now(), Cause.POLICY)

    # -- parts --------------------------------------------------------------------------------------------------------

    def _judge(self, asked: Call) -> Verdict:
        return decide(self._in_force.policy, asked)

    def _denied(self, asked: Call) -> bool:
        return self._policy == "denies" and asked.arguments["key"] % 2 == 0

    def _hindrances(self, one: Known, definition: int) -> set[Cause]:
        """Why an approved call may not run any more."""
        applies = {
            Cause.GRANT: one.call.grant.id in self._revoked,
            Cause.POLICY: self._denied(one.call),
            Cause.TOOL: one.identity[-1] != definition,
        }
        return {cause for cause, hinders in applies.items() if hinders}

    def _do(self, work: Awaitable[Any]) -> Any:
        async def doing() -> Any:
            return await work

        return self._runner.run(doing())

    def _outcome(self, work: Awaitable[Any], *expected: type[BrokerError]) -> tuple[Any, BrokerError | None]:
        try:
            return self._do(work), None
        except expected as refusal:
            return None, refusal

    def _refused(self, work: Awaitable[Any], *expected: type[BrokerError]) -> BrokerError | None:
        return self._outcome(work, *expected)[1]

    # -- looking at what came of it -----------------------------------------------------------------------------------

    @contextmanager
    def _step(self, *others: Known) -> Generator[list[Kind]]:
        """Something happens; whatever it changed is looked at then, and these others.

        Takes the kinds of the rows that are of no approval.
        """
        self.sound = False
        before, beside = {each.id: len(each.kinds) for each in self.known.values()}, list[Kind]()
        yield beside
        self._store.read_now(lambda session: self._look(session, before, beside, others))
        self.sound = True
        self.steps += 1

    def _look(self, session: Session, before: dict[str, int], beside: list[Kind], others: tuple[Known, ...]) -> None:
        rows = audit.after(session, self._head.seq)
        self._check_chain(rows)
        assert [row.kind for row in rows if row.approval_id is None] == beside
        for one in self.known.values():
            new = [row for row in rows if row.approval_id == one.id]
            assert [row.kind for row in new] == one.kinds[before.get(one.id, 0) :]
            assert {row.detail["state"] for row in new[-1:]} <= {one.state.value}
        changed = {row.approval_id or "" for row in rows} & self.known.keys() | {one.id for one in others}
        due = dict(session.connection().execute(_DUE, {"ids": sorted(changed)}).all()) if changed else {}
        for approval in stored.by_ids(session, changed):
            self.known[approval.id].check(approval)
            instant = schedule.due(approval)
            assert due.pop(approval.id) == (slots.micros(instant) if instant is not None else None)
        assert not due
        if rows:
            self._check_slots(session)

    def _check_chain(self, rows: list[Row]) -> None:
        for row in rows:
            assert (row.seq, row.prev) == (self._head.seq + 1, self._head.digest)
            assert row.digest == row_digest(row)
            self._head = Head(row.seq, row.digest)

    def _check_slots(self, session: Session) -> None:
        counters = [json.dumps(["desk", "presses", grant]) for grant in (self._grant.id, *self._revoked)]
        found = session.connection().execute(_SLOTS, {"counters": counters}).all()
        assert {call_id: bool(reserved) for call_id, reserved, _ in found if call_id} == self.known.slots()
        assert sum(amount for call_id, _, amount in found if not call_id) == self.known.dispatched() * UNIT


def _let_in(tx: Any) -> None:
    for person in PEOPLE.values():
        people.save(tx, "cli:root", person.email, person.roles, person.groups)
