"""The shape of a policy document: every key that may be written, and what values it takes.

What belongs here: pydantic models, strict, one for each object of a document. What does not: what a document means for
a call (`broker.policy.decide`, `broker.policy.limits`), how its mistakes are told (`broker.policy.mistakes`).

A key of the policy language that this version does not enforce stands in its model's `UNSUPPORTED` and is refused: a
rule that is read and not applied would let calls through that its author believes to be stopped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal, TypeGuard

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from broker.domain.calls import Action, Risk, Scope
from broker.domain.durations import parse_duration

EVERY_TOOL = "*"
_WINDOWS: Mapping[Any, timedelta] = {
    "second": timedelta(seconds=1),
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
}
_LONGEST = timedelta(days=365)
_MOST = 2**31 - 1  # what every database's integer holds


def path(*steps: str | int) -> str:
    """Where something stands in a document, such as ``tools.session_connect.limits[0].max``.

    A name that would read as several steps is quoted: ``tools["a.b"].action``.
    """
    return "".join(_step(step) for step in steps).removeprefix(".")


def _step(step: str | int) -> str:
    plain = isinstance(step, str) and re.fullmatch(r"[\w$-]+", step)
    return f".{step}" if plain else f"[{json.dumps(step, ensure_ascii=False)}]"


# -- values -----------------------------------------------------------------------------------------------------------


def _expected(what: str) -> PydanticCustomError:
    return PydanticCustomError("expected", "expected {what}", {"what": what})


def _matching(pattern: str, what: str) -> AfterValidator:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise _expected(what)
        return text

    return AfterValidator(check)


def _exact(name: str) -> str:
    if not name or name.isspace():
        raise _expected("the name of a tool")
    if set(name) & set("*?["):
        raise PydanticCustomError(
            "pattern", "patterns with *, ? or [ are not supported by this version: write each tool's name out"
        )
    return name


def _exact_or_every(name: str) -> str:
    return name if name == EVERY_TOOL else _exact(name)


def _duration(value: Any) -> timedelta:
    try:
        duration = parse_duration(value)
    except (ValueError, AttributeError):  # of another form, or no string
        duration = timedelta.max
    if duration <= _LONGEST:
        return duration
    raise _expected("a duration from 1s to 365d, such as 30s, 15m, 2h or 1d")


def _is_count(value: Any, most: float) -> TypeGuard[int]:
    return type(value) is int and 0 < value <= most  # a JSON true is an int to Python


def _count(value: Any) -> int:
    if _is_count(value, _MOST):
        return value
    raise _expected(f"a whole number from 1 to {_MOST}")


def _seconds(value: Any) -> timedelta:
    if _is_count(value, _LONGEST.total_seconds()):
        return timedelta(seconds=value)
    raise _expected(f"a whole number of seconds from 1 to {_LONGEST.total_seconds():.0f}")


def _window(value: Any) -> timedelta:
    if isinstance(value, str) and value in _WINDOWS:
        return _WINDOWS[value]
    if _is_count(value, _LONGEST.total_seconds()):
        return timedelta(seconds=value)
    raise _expected(f"second, minute, hour, day or a number of seconds up to {_LONGEST.total_seconds():.0f}")


Text = Annotated[str, StringConstraints(min_length=1)]
Counter = Annotated[str, _matching(r"\S{1,200}", "one word")]
Approver = Annotated[str, _matching(r"\S|\S.*\S", "a group or an e-mail address, with no blanks around it")]
ToolName = Annotated[str, AfterValidator(_exact)]
HiddenName = Annotated[str, AfterValidator(_exact_or_every)]
Channel = Annotated[str, _matching(r"web|api|slack|slack:[#@]\S+", "web, api, slack, slack:#channel or slack:@person")]
Duration = Annotated[timedelta, BeforeValidator(_duration)]
Seconds = Annotated[timedelta, BeforeValidator(_seconds)]
Window = Annotated[timedelta, BeforeValidator(_window)]
Count = Annotated[int, BeforeValidator(_count)]


# -- objects ----------------------------------------------------------------------------------------------------------


class Terms(BaseModel):
    """One object of a document: no unknown keys, no conversions, no nulls."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    UNSUPPORTED: ClassVar[frozenset[str]] = frozenset()

    @field_validator("*", mode="before")
    @classmethod
    def _not_null(cls, value: Any) -> Any:
        """A key without a value is a rule that was forgotten, not one that was left out."""
        if value is None:
            raise PydanticCustomError("null", "has no value: write one, or take the key out")
        return value


class LimitTerms(Terms):
    """How many calls a counter admits in a window."""

    UNSUPPORTED = frozenset({"add"})

    counter: Counter
    window: Window
    max: Count
    scope: Scope = Scope.GRANT
    on_deny: Text | None = None


class RateLimitTerms(Terms):
    """The short form: seconds, and a counter of the tool's own for each session."""

    max: Count
    window: Seconds


class ApprovalTerms(Terms):
    """Who must agree, where, and by when."""

    UNSUPPORTED = frozenset({"escalate", "allow_edit", "remember"})

    approvers: list[Approver] = []
    quorum: Count = 1
    timeout: Duration | None = None
    channels: list[Channel] = []
    allow_self: bool = False

    @field_validator("approvers", "channels")
    @classmethod
    def _not_empty(cls, names: list[str]) -> list[str]:
        """An empty list reads like nobody and would mean everybody."""
        if not names:
            raise PydanticCustomError("empty", "is empty: name at least one, or take the key out for no restriction")
        return names


class ToolTerms(Terms):
    """What is said of one tool. A listed tool is allowed unless it says otherwise."""

    UNSUPPORTED = frozenset({"require", "deny_if", "approve_if", "when", "redact", "rules"})

    action: Action = Action.ALLOW
    reason: Text | None = None
    risk: Risk | None = None
    approval: ApprovalTerms | None = None
    limits: list[LimitTerms] = []
    rate_limit: RateLimitTerms | None = None

    @field_validator("approval")
    @classmethod
    def _held(cls, terms: ApprovalTerms | None, info: ValidationInfo) -> ApprovalTerms | None:
        action = info.data.get("action", Action.HOLD)  # absent when it is a mistake of its own
        if action is not Action.HOLD:
            raise PydanticCustomError(
                "never_held",
                'has no effect, since calls of this tool are never held (action {action}): write "action": "hold", '
                "or take it out",
                {"action": str(action)},
            )
        return terms


class Document(Terms):
    """A whole policy document."""

    UNSUPPORTED = frozenset({"all_tools", "redact", "rules"})

    version: Literal["1"]
    default: Action
    json_schema: Text | None = Field(default=None, alias="$schema")
    description: str | None = None
    hide: list[HiddenName] = []
    tools: dict[ToolName, ToolTerms] = {}
