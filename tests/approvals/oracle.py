"""What must become of approvals, said a second time and more plainly than the broker does: the state machine's oracle.

What belongs here: what the design says of each thing that can happen, as far as it can be seen from outside. What does
not: making it happen (`world`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from broker.domain.approvals import Approval, Caller, Cause, Decision, State
from broker.domain.audit import Kind
from broker.domain.calls import Call, Requirement
from broker.domain.people import Person, Role
from broker.domain.redaction import MASK
from broker.errors import (
    AlreadyResolved,
    AlreadyVoted,
    Changed,
    DeadlinePassed,
    NotEligible,
    SelfApproval,
    WrongChannel,
)
from tests.domain.values import person

ANN, BEN, CLEO, DORA = person("ann", "desk"), person("ben", "desk"), person("cleo", "desk"), person("dora", "oncall")
OLGA, ROOT, OSCAR = person("olga"), person("root", role=Role.ADMIN), person("oscar", "desk", role=Role.AUDITOR)
PEOPLE = {each.email: each for each in (ANN, BEN, CLEO, DORA, OLGA, ROOT, OSCAR)}

EVERYBODY = {ANN.email, BEN.email, CLEO.email, DORA.email, OLGA.email, ROOT.email}
"""Who may decide at all; Oscar may not. Olga owns the grants."""

STANDS_FOR = {"desk": {ANN.email, BEN.email, CLEO.email}, "oncall": {DORA.email}, OLGA.email: {OLGA.email}}

OPEN = (State.PENDING, State.APPROVED)
WORDS = {
    "finish": Kind.APPROVAL_SUCCEEDED,
    "fail": Kind.APPROVAL_FAILED,
    "interrupt": Kind.APPROVAL_INTERRUPTED,
}
ENDS = {
    Kind.APPROVAL_REJECTED: State.REJECTED,
    Kind.APPROVAL_EXPIRED: State.EXPIRED,
    Kind.APPROVAL_WITHDRAWN: State.WITHDRAWN,
    Kind.APPROVAL_SUCCEEDED: State.SUCCEEDED,
    Kind.APPROVAL_FAILED: State.FAILED,
    Kind.APPROVAL_INTERRUPTED: State.INTERRUPTED,
}

QUARTER, MEMORY = timedelta(minutes=15), timedelta(minutes=10)
GRACE, LEASE = timedelta(minutes=2), timedelta(seconds=30)
MOST_PENDING, MOST_IN_AN_HOUR, MOST_ROUNDS = 5, 14, 10


@dataclass
class Known:
    """One approval as it has to be.

    Args:
        identity: what makes a later call the identical one.
        kinds: of the rows that its record has to have.
        at: the process that its caller waits at, if any does.
        counts_from: when it was dispatched, if it was.
        renewed: whether its holder says in each sweep that it is still at it.
        sent: whether who claimed it last sent it; `reached` how often that was done.
        marks: of all the input that its tool asked for.
    """

    id: str
    call: Call
    identity: Any
    wanted: Requirement
    made: datetime
    deadline: datetime
    at: str | None
    state: State = State.PENDING
    kinds: list[Kind] = field(default_factory=lambda: [Kind.APPROVAL_SUBMITTED])
    gone: bool = False
    grace_ends: datetime | None = None
    votes: dict[str, Decision] = field(default_factory=dict[str, Decision])
    reminders: int = 0
    escalated: bool = False
    execute_by: datetime | None = None
    ended_at: datetime | None = None
    cause: Cause | None = None
    forgotten: bool = False
    holder: str | None = None
    lease_ends: datetime | None = None
    counts_from: datetime | None = None
    renewed: bool = False
    sent: bool = False
    reached: int = 0
    rounds: int = 0
    mark: str | None = None
    marks: list[str] = field(default_factory=list[str])

    # -- people -------------------------------------------------------------------------------------------------------

    def asked(self, now: datetime) -> set[str]:
        """Who is asked by now, whether or not anybody has looked."""
        late = self.wanted.escalate
        return among(self.wanted, late.to if late and (self.escalated or self.escalates(now)) else ())

    def escalates(self, now: datetime) -> bool:
        """Whether it is time to ask more people."""
        late = self.wanted.escalate
        in_time = late is not None and now >= self.made + late.after
        return self.state is State.PENDING and in_time and not self.escalated

    def escalate(self) -> None:
        self.escalated = True
        self.kinds.append(Kind.APPROVAL_ESCALATED)

    def objections(self, by: Person, channel: str, now: datetime) -> set[type[Exception]]:
        """Why this person may not say anything here."""
        found: set[type[Exception]] = set()
        if by.email not in self.asked(now):
            found.add(NotEligible)
        if by == OLGA and not self.wanted.allow_self:
            found.add(SelfApproval)
        if self.wanted.channels and channel not in self.wanted.channels:
            found.add(WrongChannel)
        return found

    def too_late(self, by: Person, now: datetime, *, seen: bool) -> set[type[Exception]]:
        """Why a word of somebody who may speak does not count any more."""
        reasons: dict[type[Exception], bool] = {
            AlreadyResolved: self.state is not State.PENDING,
            DeadlinePassed: now >= min(self.deadline, self.grace_ends or self.deadline),
            Changed: not seen,
            AlreadyVoted: by.email in self.votes,
        }
        return {error for error, applies in reasons.items() if applies}

    def vote(self, by: Person, decision: Decision, now: datetime) -> None:
        """A word that counts."""
        self.votes[by.email] = decision
        if decision is Decision.REJECT:
            self.end(Kind.APPROVAL_REJECTED, now)
        elif len(self.votes) < self.wanted.quorum:
            self.kinds.append(Kind.APPROVAL_REVIEWED)
        else:
            self.state, self.execute_by = State.APPROVED, now + QUARTER
            self.kinds.append(Kind.APPROVAL_APPROVED)

    # -- the caller ---------------------------------------------------------------------------------------------------

    def leave(self, grace_ends: datetime | None) -> None:
        """Its caller goes away, if it is there and anything can follow."""
        if not self.gone and not self.state.final:
            self.gone, self.at, self.grace_ends = True, None, grace_ends
            self.kinds.append(Kind.APPROVAL_ABANDONED)

    def come_back(self, session: str | None, at: str) -> None:
        """The identical call waits for it, in a session of its own."""
        self.gone, self.at, self.grace_ends = False, at, None
        self.call = replace(self.call, session=session)
        self.kinds.append(Kind.APPROVAL_RESUMED)

    def waits_for_caller(self, now: datetime) -> bool:
        """Whether the identical call picks it up."""
        limit = {State.PENDING: self.deadline, State.APPROVED: self.execute_by}.get(self.state)
        in_grace = self.grace_ends is None or now < self.grace_ends
        return self.gone and limit is not None and now < limit and in_grace

    def remembered(self, now: datetime) -> bool:
        """Whether its rejection answers the identical call."""
        at = self.ended_at
        return self.state is State.REJECTED and not self.forgotten and at is not None and now - at < MEMORY

    def forget(self) -> None:
        self.forgotten = True
        self.kinds.append(Kind.APPROVAL_FORGOTTEN)

    # -- its run ------------------------------------------------------------------------------------------------------

    def run(self, holder: str, now: datetime) -> None:
        """It is claimed."""
        self.state, self.counts_from, self.sent = State.EXECUTING, now, False
        self.kinds.append(Kind.APPROVAL_CLAIMED)
        self._hold(holder, now)

    def send(self) -> None:
        """Its holder sends it to the tool, which happens once, whatever else does."""
        if not self.sent:
            self.sent, self.reached = True, self.reached + 1
        assert self.reached == 1

    def may_hear(self, word: str) -> bool:
        """Whether its holder's word on it can be taken."""
        if self.state is State.INTERRUPTED:
            return word in ("finish", "fail")
        possible = {"release": self.rounds == 0, "ask": self.rounds < MOST_ROUNDS}
        return self.state is State.EXECUTING and possible.get(word, True)

    def hear(self, word: str, mark: str, now: datetime) -> None:
        """Its holder says what came of it."""
        if self.state is State.INTERRUPTED:
            self.holder = None
            self.kinds.append(Kind.APPROVAL_LATE)
        elif word == "release":
            self.state, self.counts_from = State.APPROVED, None
            self.kinds.append(Kind.APPROVAL_RELEASED)
            self._let_go(None)
        elif word == "ask":
            self.rounds, self.mark, self.execute_by = self.rounds + 1, mark, now + QUARTER
            self.marks.append(mark)
            self.kinds.append(Kind.APPROVAL_ASKED)
            self._let_go(self.execute_by)
        elif word == "ask again":
            self.mark = self.marks[-1]
            self.kinds.append(Kind.APPROVAL_ASKED)
            self._let_go(self.execute_by)
        else:
            self.end(WORDS[word], now)

    def go_on(self, holder: str, now: datetime) -> None:
        """The input came."""
        self.mark, self.gone, self.at, self.grace_ends = None, False, holder, None
        self.kinds.append(Kind.APPROVAL_CONTINUED)
        self._hold(holder, now)

    def end(self, kind: Kind, now: datetime, cause: Cause | None = None) -> None:
        """Nothing follows."""
        assert not self.state.final
        if kind in (Kind.APPROVAL_SUCCEEDED, Kind.APPROVAL_FAILED):
            self._let_go(None)
        self.state, self.mark = ENDS[kind], None
        self.cause, self.ended_at = cause, now
        self.kinds.append(kind)

    def lose(self, dead: Collection[str], now: datetime) -> None:
        """These processes died, and somebody notices."""
        if self.state is State.EXECUTING and self.holder in dead:
            self.end(Kind.APPROVAL_INTERRUPTED, now)
            self.gone, self.at = True, None
        elif self.state in OPEN and self.at in dead:
            self.leave(None)

    # -- time ---------------------------------------------------------------------------------------------------------

    def pass_time(self, now: datetime) -> None:
        """Somebody looks what time did; what came first ends it."""
        limit = {State.PENDING: self.deadline, State.APPROVED: self.execute_by}.get(self.state)
        grace = self.grace_ends or datetime.max.replace(tzinfo=UTC)
        if limit is not None and now >= min(limit, grace):
            if grace < limit:
                self.end(Kind.APPROVAL_WITHDRAWN, now, Cause.CANCELLED)
            else:
                cause = Cause.UNUSED if self.state is State.APPROVED else Cause.UNANSWERED
                self.end(Kind.APPROVAL_EXPIRED, now, cause)
        elif self.state is State.PENDING:
            self._urge(now)
        elif self.state is State.EXECUTING and self.lease_ends is not None and now >= self.lease_ends:
            self.end(Kind.APPROVAL_INTERRUPTED, now)

    def moments(self) -> list[datetime]:
        """The instants that matter to it now."""
        whole, late = self.deadline - self.made, self.wanted.escalate
        pending = [self.made + 0.5 * whole, self.made + 0.9 * whole, self.deadline]
        pending += [self.made + late.after] if late else []
        mine = {State.PENDING: pending, State.APPROVED: [self.execute_by], State.EXECUTING: [self.lease_ends]}
        return [each for each in (*mine.get(self.state, ()), self.grace_ends) if each is not None]

    def _urge(self, now: datetime) -> None:
        if self.escalates(now):
            self.escalate()
        gone_by = (now - self.made) / (self.deadline - self.made)
        if (due := (gone_by >= 0.5) + (gone_by >= 0.9)) > self.reminders:
            self.reminders = due
            self.kinds.append(Kind.APPROVAL_REMINDED)

    # -- how it is seen -----------------------------------------------------------------------------------------------

    def check(self, stored: Approval) -> None:
        """It is stored as it has to be."""
        assert stored.state is self.state
        assert (stored.caller is Caller.GONE, stored.waits_at) == (self.gone, self.at)
        assert stored.withdraw_at == self.grace_ends
        assert {given.by: given.decision for given in stored.reviews} == self.votes
        assert (stored.reminded, stored.escalated_at is not None) == (self.reminders, self.escalated)
        assert (stored.deadline, stored.execute_by) == (self.deadline, self.execute_by)
        assert (stored.holder, stored.lease_until) == (self.holder, self.lease_ends)
        assert (stored.rounds, stored.awaiting) == (self.rounds, self.mark)
        assert (stored.requirement, stored.call.session) == (self.wanted, self.call.session)
        assert stored.forgotten_at is not None if self.forgotten else stored.forgotten_at is None
        assert (stored.resolution.cause if stored.resolution else None) is self.cause
        assert stored.call.arguments["password"] == MASK
        assert (stored.sealed is None) is self.state.final
        if Kind.APPROVAL_APPROVED in self.kinds:
            assert sum(given is Decision.APPROVE for given in self.votes.values()) >= self.wanted.quorum

    def _hold(self, holder: str, now: datetime) -> None:
        self.holder, self.lease_ends, self.renewed = holder, now + LEASE, True

    def _let_go(self, until: datetime | None) -> None:
        self.holder, self.lease_ends, self.renewed = None, until, False


class Oracle(dict[str, Known]):
    """All approvals of one example, by id, in the order in which they were made; and who lost their role."""

    def __init__(self) -> None:
        super().__init__()
        self.dismissed: set[str] = set()

    def of(self, *states: State) -> list[Known]:
        return [each for each in self.values() if each.state in states]

    def identical(self, identity: Any) -> Iterator[Known]:
        return (each for each in self.values() if each.identity == identity)

    def remembered(self, identity: Any, now: datetime) -> set[str]:
        """Whose rejection answers this call."""
        return {each.id for each in self.identical(identity) if each.remembered(now)}

    def picked_up(self, identity: Any, now: datetime) -> set[str]:
        """Which of them this call picks up: one of the newest, and of those that were approved if there are any."""
        left = [each for each in self.identical(identity) if each.waits_for_caller(now)]
        left = [each for each in left if each.state is State.APPROVED] or left
        newest = max((each.made for each in left), default=None)
        return {each.id for each in left if each.made == newest}

    def refusals(self, grant: str, wanted: Requirement, limit: int, now: datetime) -> tuple[set[str], bool]:
        """What an agent may be told of a new call that is not held, and whether it cannot be held."""
        mine = [each for each in self.values() if each.call.grant.id == grant]
        pending = sum(each.state is State.PENDING and now < each.deadline for each in mine)
        recent = sum(each.made > now - timedelta(hours=1) for each in mine)
        late = wanted.escalate
        reviewers = among(wanted, late.to if late and late.after < (wanted.timeout or QUARTER) else ())
        reviewers = reviewers - self.dismissed - (set() if wanted.allow_self else {OLGA.email})
        capped, taken = pending >= MOST_PENDING or recent >= MOST_IN_AN_HOUR, self.taken(grant, now)
        nobody = len(reviewers) < wanted.quorum
        applies = {"limited": capped or taken.stop > limit, "denied": nobody}
        return {status for status in applies if applies[status]}, capped or taken.start >= limit or nobody

    def taken(self, grant: str, now: datetime, besides: Known | None = None) -> range:
        """How many slots of a grant are taken: by who waits, and by who was dispatched within a minute.

        From the fewest to the most: what is older may count for a while, since old slots are kept together.
        """
        others = [each for each in self.values() if each.call.grant.id == grant and each is not besides]
        ages = [now - each.counts_from for each in others if each.counts_from is not None]
        waiting, minute = sum(each.state in OPEN for each in others), timedelta(minutes=1)
        fewest, most = (waiting + sum(age <= span for age in ages) for span in (minute, 2 * minute))
        return range(fewest, most + 1)

    def slots(self) -> dict[str, bool]:
        """Which calls have slots of their own, and whether they are only reserved."""
        return {each.call.id: each.state in OPEN for each in self.of(*OPEN, State.EXECUTING)}

    def dispatched(self) -> int:
        """How many calls count as dispatched."""
        return sum(each.counts_from is not None for each in self.values())


def among(wanted: Requirement, late: tuple[str, ...]) -> set[str]:
    """The addresses of who is asked; nobody named is everybody."""
    if not wanted.approvers:
        return EVERYBODY
    return {email for name in (*wanted.approvers, *late) for email in STANDS_FOR[name]}
