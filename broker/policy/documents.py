"""The shape of a policy document: every key that may be written, and what values it takes.

What belongs here: pydantic models, strict, one for each object of a document. What does not: single values
(`broker.policy.values`), what a document means (`broker.policy.native`), how its mistakes are told
(`broker.policy.mistakes`).
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from broker.domain.calls import Action, Risk, Scope
from broker.policy.model import Operator
from broker.policy.values import (
    Approver,
    ArgsPath,
    Channel,
    Count,
    Counter,
    Duration,
    OnePath,
    Seconds,
    Sum,
    Text,
    ToolPattern,
    Window,
)


class Terms(BaseModel):
    """One object of a document: no unknown keys, no conversions, no nulls."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, arbitrary_types_allowed=True)

    @field_validator("*", mode="before")
    @classmethod
    def _not_null(cls, value: Any, info: ValidationInfo) -> Any:
        """A key without a value is a rule that was forgotten, not one that was left out."""
        if value is None and info.field_name != "value":  # a condition may compare with null
            raise PydanticCustomError("null", "has no value: write one, or take the key out")
        return value


class ConditionTerms(Terms):
    """One condition: the value at a path, compared."""

    path: OnePath
    op: Operator
    value: Any
    message: Text | None = None


class LimitTerms(Terms):
    """How many calls a counter admits in a window, or how large a sum."""

    counter: Counter
    window: Window
    max: Count
    scope: Scope = Scope.GRANT
    add: Sum | None = None
    on_deny: Text | None = None


class RateLimitTerms(Terms):
    """The short form: seconds, and a counter of the tool's own for each session."""

    max: Count
    window: Seconds


class EscalateTerms(Terms):
    """Who else is told when nobody answers."""

    after: Duration
    to: list[Approver] = Field(min_length=1)


class RememberTerms(Terms):
    """Which standing approvals a reviewer may give."""

    scopes: list[Literal["exact", "tool"]] = Field(min_length=1)
    max: Duration


class ApprovalTerms(Terms):
    """Who must agree, where, and by when."""

    approvers: list[Approver] = []
    quorum: Count = 1
    timeout: Duration | None = None
    escalate: EscalateTerms | None = None
    channels: list[Channel] = []
    allow_self: bool = False
    allow_edit: bool = False
    remember: RememberTerms | None = None

    @field_validator("approvers", "channels")
    @classmethod
    def _not_empty(cls, names: list[str]) -> list[str]:
        """An empty list reads like nobody and would mean everybody."""
        if not names:
            raise PydanticCustomError("empty", "is empty: name at least one, or take the key out for no restriction")
        return names


class EveryToolTerms(Terms):
    """What is said of every call that is not hidden or unlisted."""

    limits: list[LimitTerms] = []
    require: list[ConditionTerms] = []
    deny_if: list[ConditionTerms] = []
    approve_if: list[ConditionTerms] = []


class ToolTerms(EveryToolTerms):
    """What is said of one tool, or of those that match a glob. A listed tool is allowed unless it says otherwise."""

    action: Action = Action.ALLOW
    reason: Text | None = None
    risk: Risk | None = None
    when: Text | None = None
    approval: ApprovalTerms | None = None
    rate_limit: RateLimitTerms | None = None


class Document(Terms):
    """A whole policy document."""

    version: Literal["1"]
    default: Action
    json_schema: Text | None = Field(default=None, alias="$schema")
    description: str | None = None
    hide: list[ToolPattern] = []
    redact: list[ArgsPath] = []
    all_tools: EveryToolTerms = EveryToolTerms()
    tools: dict[ToolPattern, ToolTerms] = {}
