"""The bodies that the HTTP API answers with, as its description has them.

What belongs here: names and types that programs outside rely on, for OpenAPI. What does not: making a body
(`presentation`, `broker.domain.audit`, `policies`); a test holds every answer against what is said here.
"""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict

from broker.domain.approvals import Caller, Cause, Decision, State
from broker.domain.audit import Kind
from broker.domain.calls import Action, Risk, Scope

T = TypeVar("T")


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Page(_Body, Generic[T]):
    """Some of a list, newest first; with `next` as the cursor the list goes on, and null is its end."""

    items: list[T]
    next: str | None


class Grant(_Body):
    """The agent that asked."""

    id: str
    label: str
    owner: str


class Escalation(_Body):
    """Who else is asked, and after how long."""

    after: str
    to: list[str]


class Remembering(_Body):
    """Which standing approvals may be given, for how long at most."""

    scopes: list[str]
    max: str


class Requirement(_Body):
    """Who must agree before it runs."""

    approvers: list[str]
    quorum: int
    channels: list[str]
    allow_self: bool
    allow_edit: bool
    escalate: Escalation | None
    remember: Remembering | None


class Review(_Body):
    """One person's word."""

    by: str
    decision: Decision
    reason: str | None
    channel: str
    revision: str
    at: AwareDatetime


class Resolution(_Body):
    """How it was decided, or how it ended."""

    state: State
    by: str | None
    at: AwareDatetime
    channel: str | None
    reason: str | None
    cause: Cause | None


class Approval(_Body):
    """A held call, as it stands in lists."""

    id: str
    state: State
    upstream: str
    tool: str
    arguments: Any
    other_params: dict[str, Any]
    revision: str
    fingerprint: str
    grant: Grant
    risk: Risk | None
    reason: str | None
    rule: str
    requirement: Requirement
    created_at: AwareDatetime
    deadline: AwareDatetime
    execute_by: AwareDatetime | None
    caller: Caller
    withdraw_at: AwareDatetime | None
    may_decide: list[str]
    reminded: int
    escalated_at: AwareDatetime | None
    forgotten_at: AwareDatetime | None
    rounds: int
    awaits_input: bool

    reviews: list[Review]
    resolution: Resolution | None


class AuditRow(_Body):
    """A row of the record."""

    seq: int
    at: AwareDatetime
    kind: Kind
    actor: str
    call_id: str | None
    approval_id: str | None
    upstream: str | None
    tool: str | None
    grant: str | None
    verdict: str | None
    rule: str | None
    arguments_digest: str | None
    detail: dict[str, Any]
    prev: str
    digest: str


class LookedAt(_Body):
    """One rule that was looked at before the call was held."""

    rule: str
    said: str
    saw: str | None
    why: str | None


class WholeApproval(Approval):
    """A held call with its rows of the record, oldest first."""

    history: list[AuditRow]
    explanation: list[LookedAt]


class Head(_Body):
    """The end of the record."""

    seq: int
    digest: str


class Source(_Body):
    """Which policy judges, and what is wrong with its file now."""

    source: str
    digest: str
    loaded_at: AwareDatetime
    error: str | None
    mistakes: list[str]


class Rule(_Body):
    """What a rule does, and its tests."""

    rule: str
    then: Action
    unless: bool
    tests: list[str]
    message: str | None


class Limit(_Body):
    """How much a counter admits in a window of so many seconds."""

    rule: str
    counter: str
    window: float
    max: int
    scope: Scope
    add: int | str
    calendar: bool
    message: str | None


class Tool(_Body):
    """What the policy says of a tool."""

    name: str
    action: Action
    risk: Risk | None
    reason: str | None
    rules: list[Rule]
    limits: list[Limit]


class Policy(Source):
    """The policy of an upstream."""

    upstream: str
    default: Action
    tools: list[Tool]
    hide: list[str]
    redact: list[str]


class Health(_Body):
    """The process is up."""

    status: Literal["ok"]


class Readiness(BaseModel):
    """What else is told depends on what is configured."""

    status: Literal["ok", "degraded"]


def answers(body: Any) -> dict[int | str, dict[str, Any]]:
    """For a route that answers with `body`."""
    return {200: {"model": body}}
