"""The shape of a policy document: every key that may be written, and what values it takes.

What belongs here: pydantic models, strict, one for each object of a document. What does not: single values
(`values`), what a document means (`native`), how its mistakes are told
(`mistakes`).
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from broker.domain.calls import Action, Risk, Scope
from broker.policy.language.values import (
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
from broker.policy.model import Operator


class Terms(BaseModel):
    """One object of a document: no unknown keys, no conversions, no nulls."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        arbitrary_types_allowed=True,
        defer_build=True,  # one validator for a document with all in it, when the first one is read
    )

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
    """What is looked at: a path that begins with args, tool, upstream, grant (id, label, owner) or session."""
    op: Operator
    """How it is compared. Nothing is converted: a wrong type is an error, and an error denies the call."""
    value: Any
    """What it is compared with. A list for in and not_in, true or false for exists, an RE2 pattern for regex."""
    message: Text | None = None
    """What the agent (denied) or the reviewer (held) is told."""


class LimitTerms(Terms):
    """How many calls a counter admits in a window, or how large a sum. Tools that name one counter share it."""

    counter: Counter
    """The counter's name, one word."""
    window: Window
    """In no interval of this length are more than max calls let through: a unit, or seconds."""
    max: Count
    """The most calls, or the largest sum with add."""
    scope: Scope = Scope.GRANT
    """Whose calls are counted together: each session's, each grant's (each agent's), or all of this upstream."""
    add: Sum | None = None
    """Sum the number at this path rather than count calls. Missing, or not a number: the call is denied."""
    on_deny: Text | None = None
    """What the agent is told when the limit is reached."""


class RateLimitTerms(Terms):
    """The short form: seconds, and a counter of the tool's own for each session."""

    max: Count
    """The most calls in the window."""
    window: Seconds
    """The window's length in seconds."""


class EscalateTerms(Terms):
    """Who else is asked when nobody has decided for a while."""

    after: Duration
    """How long nobody has decided."""
    to: list[Approver] = Field(min_length=1)
    """Groups and people."""


class RememberTerms(Terms):
    """Which standing approvals a reviewer may give."""

    scopes: list[Literal["exact", "tool"]] = Field(min_length=1)
    """This very call, or every call of the tool."""
    max: Duration
    """For how long at most."""


class ApprovalTerms(Terms):
    """Who must agree, where, and by when."""

    approvers: list[Approver] = Field(default=[], min_length=1)
    """Groups and people who may decide; everyone with the approver role when left out."""
    quorum: Count = 1
    """How many distinct people must approve; one rejection settles it."""
    timeout: Duration | None = None
    """How long the call waits for them; approvals.timeout of the settings when left out."""
    escalate: EscalateTerms | None = None
    """Who else is asked when nobody has decided for a while."""
    channels: list[Channel] = Field(default=[], min_length=1)
    """Where it is posted and may be decided; everywhere when left out."""
    allow_self: bool | None = None
    """Whether the owner of the agent's grant may approve."""
    allow_edit: bool = False
    """Whether reviewers may change the arguments."""
    remember: RememberTerms | None = None
    """Which standing approvals a reviewer may give."""


class EveryToolTerms(Terms):
    """What is said of every call that is not hidden or unlisted."""

    limits: list[LimitTerms] = []
    """How many calls, or how large a sum; every one of them counts."""
    require: list[ConditionTerms] = []
    """Conditions that must all be true, or the call is denied."""
    deny_if: list[ConditionTerms] = []
    """Conditions of which any denies the call."""
    approve_if: list[ConditionTerms] = []
    """Conditions of which any holds the call for a person."""


class ToolTerms(EveryToolTerms):
    """What is said of one tool, or of those that match a glob. A listed tool is allowed unless it says otherwise."""

    action: Action = Action.ALLOW
    """What is done with a call to which no rule applies."""
    reason: Text | None = None
    """Why: to the agent (deny) or the reviewer (hold)."""
    risk: Risk | None = None
    """How much a wrong call can cost."""
    when: Text | None = None
    """A CEL expression over args, tool, upstream, grant and session; true holds the call. Not beside hold or deny."""
    approval: ApprovalTerms | None = None
    """Who decides the calls that are held."""
    rate_limit: RateLimitTerms | None = None
    """The short form of a limit: so many calls in so many seconds, for each session."""


class Document(Terms):
    """A policy of the approval broker: what is done with the calls of an MCP server's tools."""

    version: Literal["1"]
    """The version of the language."""
    default: Action
    """What is done with calls of tools that are not listed."""
    json_schema: Text | None = Field(default=None, alias="$schema")
    """Where editors find this schema; the broker does not look at it."""
    description: str | None = None
    """For people."""
    hide: list[ToolPattern] = []
    """Names and globs of tools that leave the tool list and are denied if called anyway; * hides all."""
    redact: list[ArgsPath] = []
    """Paths that are masked for reviewers and in every output; * is every member or item."""
    all_tools: EveryToolTerms = EveryToolTerms.model_construct()
    """What holds for every call that is not hidden or unlisted, on top of what its tool says."""
    tools: dict[ToolPattern, ToolTerms] = {}
    """By exact name, or by a glob such as keyboard_*. One entry counts for a tool: the most exact one."""
