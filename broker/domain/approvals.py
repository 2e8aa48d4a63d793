"""An approval and its life: the one state table that every change goes through.

What belongs here: which move is allowed from which state, and by whom. What does not: storing it, waking the caller,
running the call (`broker.approvals`, `broker.gateway`).

A call is held as `pending`. Eligible people review it for the revision they see; a quorum makes it `approved`, one
rejection `rejected`, the clock `expired`. The waiting call claims it (`executing`), and only the holder of that claim
sends it upstream, so one approval leads to at most one execution. The outcome is `succeeded` or `failed`; back to
`approved` only when the call provably never reached the tool; `interrupted` when nobody can know.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from broker.domain.calls import Call, Requirement, Risk
from broker.domain.people import GrantRef, Permission, Person, normal_email
from broker.errors import (
    AlreadyResolved,
    AlreadyVoted,
    Changed,
    DeadlinePassed,
    NotEligible,
    SelfApproval,
    TransitionRefused,
    WrongChannel,
)


class State(StrEnum):
    """Where an approval stands."""

    PENDING = "pending"
    APPROVED = "approved"
    EXECUTING = "executing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REJECTED = "rejected"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    INTERRUPTED = "interrupted"

    @property
    def final(self) -> bool:
        """Whether nothing can follow."""
        return not any(before is self for before, _ in TRANSITIONS)


class Move(StrEnum):
    """What can happen to an approval."""

    APPROVE = "approve"
    REJECT = "reject"
    EXPIRE = "expire"
    WITHDRAW = "withdraw"
    CLAIM = "claim"
    SUCCEED = "succeed"
    FAIL = "fail"
    RELEASE = "release"
    INTERRUPT = "interrupt"


TRANSITIONS: Mapping[tuple[State, Move], frozenset[State]] = {
    (State.PENDING, Move.APPROVE): frozenset({State.PENDING, State.APPROVED}),  # below and at the quorum
    (State.PENDING, Move.REJECT): frozenset({State.REJECTED}),
    (State.PENDING, Move.EXPIRE): frozenset({State.EXPIRED}),
    (State.APPROVED, Move.EXPIRE): frozenset({State.EXPIRED}),
    (State.PENDING, Move.WITHDRAW): frozenset({State.WITHDRAWN}),
    (State.APPROVED, Move.WITHDRAW): frozenset({State.WITHDRAWN}),
    (State.APPROVED, Move.CLAIM): frozenset({State.EXECUTING}),
    (State.EXECUTING, Move.SUCCEED): frozenset({State.SUCCEEDED}),
    (State.EXECUTING, Move.FAIL): frozenset({State.FAILED}),
    (State.EXECUTING, Move.RELEASE): frozenset({State.APPROVED}),  # the call provably never reached the tool
    (State.EXECUTING, Move.INTERRUPT): frozenset({State.INTERRUPTED}),
}


class Caller(StrEnum):
    """Whether an agent still waits for the answer."""

    WAITING = "waiting"
    GONE = "gone"


class Decision(StrEnum):
    """What one person said."""

    APPROVE = "approve"
    REJECT = "reject"


class Cause(StrEnum):
    """Why an approval ended without a person's word, as the agent is told."""

    UNANSWERED = "unanswered"
    UNUSED = "unused"
    GRANT = "grant"
    TOOL = "tool"
    POLICY = "policy"
    SECRET = "secret"  # noqa: S105 - a name of a cause
    SESSION = "session"
    ADMINISTRATOR = "administrator"


@dataclass(frozen=True, slots=True)
class Review:
    """One person's word. `by` is a normal e-mail address, `channel` is `web`, `api`, `slack` or `slack:…`."""

    by: str
    decision: Decision
    channel: str
    revision: str
    at: datetime
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Resolution:
    """How it ended, or how it was decided: the state reached, and by whom, when, where and why."""

    state: State
    at: datetime
    by: str | None = None
    channel: str | None = None
    reason: str | None = None
    cause: Cause | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """The durable record of one held call.

    `call` is what people see of it; when something is masked, `sealed` is the whole of it, for its run. `fingerprint`
    is what a retry is recognised by, `revision` what a review is for; they are equal until a reviewer edits. `holder`
    names the process that executes it and `lease_until` how long it is believed to be alive.
    """

    id: str
    state: State
    call: Call
    fingerprint: str
    revision: str
    rule: str
    requirement: Requirement
    created_at: datetime
    deadline: datetime
    reason: str | None = None
    risk: Risk | None = None
    definition: Mapping[str, Any] | None = None
    execute_by: datetime | None = None
    caller: Caller = Caller.WAITING
    reviews: tuple[Review, ...] = ()
    resolution: Resolution | None = None
    holder: str | None = None
    lease_until: datetime | None = None
    sealed: str | None = None


# -- who may decide ---------------------------------------------------------------------------------------------------


def eligible(requirement: Requirement, grant: GrantRef, person: Person) -> bool:
    """Whether `person` may decide a call of `grant` under `requirement`, wherever they are."""
    return _named(requirement, person) and not _is_self(requirement, grant, person)


def eligible_people(requirement: Requirement, grant: GrantRef, people: Iterable[Person]) -> list[Person]:
    """Those of `people` who may decide."""
    return [person for person in people if eligible(requirement, grant, person)]


def _named(requirement: Requirement, person: Person) -> bool:
    if not person.may(Permission.DECIDE):
        return False
    if not requirement.approvers:
        return True
    names = {normal_email(name) for name in requirement.approvers if "@" in name}
    return person.email in names or not person.groups.isdisjoint(requirement.approvers)


def _is_self(requirement: Requirement, grant: GrantRef, person: Person) -> bool:
    return not requirement.allow_self and person.email == normal_email(grant.owner)


def check_reviewer(approval: Approval, person: Person, channel: str) -> None:
    """Raise unless `person` may decide `approval` from `channel`.

    Raises:
        NotEligible, SelfApproval, WrongChannel: why they may not.
    """
    if not _named(approval.requirement, person):
        raise NotEligible
    if _is_self(approval.requirement, approval.call.grant, person):
        raise SelfApproval
    # `slack` in a requirement means any place in Slack, `slack:#c` that one only.
    if approval.requirement.channels and {channel, channel.partition(":")[0]}.isdisjoint(approval.requirement.channels):
        raise WrongChannel


# -- the moves --------------------------------------------------------------------------------------------------------


def review(approval: Approval, person: Person, word: Review, *, execute_within: timedelta) -> Approval:
    """Take one person's word.

    Args:
        word: its `by` is `person`'s address and its `at` the present instant.
        execute_within: how long an approval waits for the agent to use it.

    Returns:
        The approval with the review added: pending below the quorum, else approved or rejected. The very same
        approval when the person repeats themselves.

    Raises:
        AlreadyResolved, AlreadyVoted, Changed, DeadlinePassed, NotEligible, SelfApproval, WrongChannel
    """
    check_reviewer(approval, person, word.channel)
    earlier = next((given for given in approval.reviews if given.by == word.by), None)
    if earlier is not None and earlier.decision is word.decision and earlier.revision == approval.revision:
        return approval
    if approval.state is not State.PENDING:
        raise AlreadyResolved(describe_end(approval))
    if word.at >= approval.deadline:
        raise DeadlinePassed
    if word.revision != approval.revision:
        raise Changed
    if earlier is not None:
        raise AlreadyVoted
    reviews = (*approval.reviews, word)
    if word.decision is Decision.REJECT:
        return _resolve(replace(approval, reviews=reviews), Move.REJECT, State.REJECTED, word)
    approvers = {given.by for given in reviews if given.decision is Decision.APPROVE}
    if len(approvers) < approval.requirement.quorum:
        return _move(replace(approval, reviews=reviews), Move.APPROVE, State.PENDING)
    approved = _resolve(replace(approval, reviews=reviews), Move.APPROVE, State.APPROVED, word)
    return replace(approved, execute_by=word.at + execute_within)


def expire(approval: Approval, now: datetime) -> Approval:
    """End what nobody answered, or nobody used, in time.

    Raises:
        TransitionRefused: it is not pending or approved, or its time is not over.
    """
    unused = approval.state is State.APPROVED
    limit = approval.execute_by if unused else approval.deadline
    if limit is None or now < limit:
        raise TransitionRefused("its time is not over")
    cause = Cause.UNUSED if unused else Cause.UNANSWERED
    end = Resolution(State.EXPIRED, now, cause=cause)
    return replace(_move(approval, Move.EXPIRE, State.EXPIRED), resolution=end)


def withdraw(approval: Approval, cause: Cause, now: datetime, by: str | None = None) -> Approval:
    """End what must not run any more: by an administrator, or because grant, tool, policy or session are not the same.

    Raises:
        TransitionRefused: it is not pending or approved.
    """
    end = Resolution(State.WITHDRAWN, now, by=by, cause=cause)
    return replace(_move(approval, Move.WITHDRAW, State.WITHDRAWN), resolution=end)


def claim(approval: Approval, holder: str, now: datetime, lease: timedelta) -> Approval:
    """Take the sole right to run an approved call.

    Raises:
        DeadlinePassed: it was not used in time.
        TransitionRefused: it is not approved, or somebody else claimed it.
    """
    claimed = _move(approval, Move.CLAIM, State.EXECUTING)
    if approval.execute_by is not None and now >= approval.execute_by:
        raise DeadlinePassed
    return replace(claimed, holder=holder, lease_until=now + lease)


def finish(approval: Approval, *, failed: bool) -> Approval:
    """Note the final outcome of the executed call; the resolution stays the people's.

    Raises:
        TransitionRefused: it is not executing.
    """
    state = State.FAILED if failed else State.SUCCEEDED
    return replace(_move(approval, Move.FAIL if failed else Move.SUCCEED, state), holder=None, lease_until=None)


def release(approval: Approval) -> Approval:
    """Give a claim back, since the call provably never reached the tool.

    Raises:
        TransitionRefused: it is not executing.
    """
    return replace(_move(approval, Move.RELEASE, State.APPROVED), holder=None, lease_until=None)


def interrupt(approval: Approval) -> Approval:
    """Note that an executing call's outcome is unknown; it is never run again.

    Raises:
        TransitionRefused: it is not executing.
    """
    return _move(approval, Move.INTERRUPT, State.INTERRUPTED)


def describe_end(approval: Approval) -> str:
    """One sentence on who decided and when, for somebody who comes late."""
    end = approval.resolution
    if end is None:
        return f"This approval is {approval.state}."
    who = f" by {end.by}" if end.by else ""
    why = f": {end.reason}" if end.reason else f" ({end.cause})" if end.cause else ""
    return f"Already {end.state}{who} at {end.at:%Y-%m-%d %H:%M:%S} UTC{why}."


def _move(approval: Approval, move: Move, to: State) -> Approval:
    if to not in TRANSITIONS.get((approval.state, move), ()):
        raise TransitionRefused(f"an approval that is {approval.state} does not {move} to {to}")
    # What is masked is needed for a run only: at the end nothing of it stays.
    return replace(approval, state=to, sealed=None if to.final else approval.sealed)


def _resolve(approval: Approval, move: Move, to: State, word: Review) -> Approval:
    end = Resolution(to, word.at, by=word.by, channel=word.channel, reason=word.reason)
    return replace(_move(approval, move, to), resolution=end)
