"""An approval and its states: the one table that every change goes through.

What belongs here: the values, and which move leads where. What does not: the guard of each move (`moves`), who may
decide (`reviewers`), what time does (`schedule`), storing it and running the call (`broker.approvals`,
`broker.gateway`).

A call is held as `pending`. Eligible people review it for the revision they see; a quorum makes it `approved`, one
rejection `rejected`, the clock `expired`. The waiting call claims it (`executing`), and only the holder of that claim
sends it upstream, so one approval leads to at most one execution. The outcome is `succeeded` or `failed`; back to
`approved` only when the call provably never reached the tool; `interrupted` when nobody can know. A tool that asks for
input first (`input_required`) leaves it executing, and the same call with what it asked for continues it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from broker.domain.calls import Call, Requirement, Risk


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
    ASK = "ask"
    CONTINUE = "continue"
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
    (State.EXECUTING, Move.ASK): frozenset({State.EXECUTING}),  # the tool asks for input first
    (State.EXECUTING, Move.CONTINUE): frozenset({State.EXECUTING}),  # the agent brought it
    (State.EXECUTING, Move.INTERRUPT): frozenset({State.INTERRUPTED}),
}


class Caller(StrEnum):
    """Whether an agent still waits for the answer; that of a task asks from time to time, and never goes away."""

    WAITING = "waiting"
    GONE = "gone"
    TASK = "task"


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
    CANCELLED = "cancelled"
    TASK = "task"
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
    names the process that executes it, or may still bring the outcome of what was interrupted, and `lease_until` how
    long it is believed to be alive.

    Args:
        waits_at: the process that its caller waits at, if any does.
        withdraw_at: its caller cancelled, and has until then to come back with the identical call.
        reminded: how many of the reminders were given.
        escalated_at: since when those of the requirement's `escalate` are asked too.
        rounds: how often the tool asked for input after it was approved.
        awaiting: the mark of the continuation that the tool waits for until `execute_by`; nobody holds it meanwhile,
            and `lease_until` is the same instant.
        forgotten_at: since when the rejection is no answer to the identical call any more.
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
    waits_at: str | None = None
    reviews: tuple[Review, ...] = ()
    resolution: Resolution | None = None
    holder: str | None = None
    lease_until: datetime | None = None
    withdraw_at: datetime | None = None
    reminded: int = 0
    escalated_at: datetime | None = None
    rounds: int = 0
    awaiting: str | None = None
    forgotten_at: datetime | None = None
    sealed: str | None = None

    def waits(self, process: str) -> bool:
        """Whether its caller waits at `process`, as far as that is known."""
        return self.caller is not Caller.GONE and self.waits_at in (None, process)

    def outlined(self) -> Approval:
        """The same without what the call says and how its tool is described: for who only waits, never to be saved."""
        return replace(self, call=replace(self.call, params={}), definition=None, sealed=None)
