"""The shape of a policy document in the Intercept dialect: every key that may be written, and what values it takes.

What belongs here: pydantic models, one for each object of such a document, and what cannot stand together in one
object. What does not: single values (`intercept_values`), what a document means and the mistakes that
only the whole of it shows (`intercept`).

Source: PolicyLayer's Intercept, POLICY.md and its loader (version 1.1); `require_approval` and `approval_timeout` came
with its pull request 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from broker.policy.language.documents import Terms
from broker.policy.language.intercept_values import AnyName, ArgsName, RateLimit, Tool, Window
from broker.policy.language.values import MOST, Count, Counter, Duration, Text
from broker.policy.model import Operator

_NUMBER = (int, float)  # compared with `type`: a JSON true is an int to Python

_NEEDED: Mapping[Operator, tuple[str, tuple[type, ...]]] = {
    **dict.fromkeys((Operator.LT, Operator.LTE, Operator.GT, Operator.GTE), ("a number", _NUMBER)),
    **dict.fromkeys((Operator.IN, Operator.NOT_IN), ("a list", (list,))),
    Operator.EXISTS: ("true or false", (bool,)),
    Operator.REGEX: ("a text", (str,)),
}

_ABSENT = 4  # each of them doubles what the rule comes to, since what is null does not exist either


def _mistake(sentence: str) -> PydanticCustomError:
    return PydanticCustomError("intercept", "{sentence}", {"sentence": sentence})


class InterceptCondition(Terms):
    """One comparison: of an argument, or of a counter."""

    path: AnyName
    op: Operator
    value: Any

    @property
    def counter(self) -> str | None:
        """The counter that is compared, ``TOOL.COUNTER``, or None where it is an argument."""
        return self.path.removeprefix("state.") if self.path.startswith("state.") else None

    @property
    def most(self) -> int:
        """How far the counter may go, counted in whole numbers."""
        return int(self.value) - (1 if self.op is Operator.LT else 0)

    @model_validator(mode="after")
    def _comparable(self) -> Self:
        if (wrong := self._of_counter() if self.counter else self._of_argument()) is not None:
            raise _mistake(wrong)
        return self

    def _of_counter(self) -> str | None:
        if self.op not in (Operator.LT, Operator.LTE):
            return f"a counter is compared with lt or lte, not with {self.op}: it can only be kept below something"
        if not _is_whole(self.value) or not 0 < self.most <= MOST:
            return f"{self.op} on a counter needs a whole number that admits from 1 to {MOST}; to admit none, deny"
        return None

    def _of_argument(self) -> str | None:
        needed, kinds = _NEEDED.get(self.op, ("", ()))
        return f"{self.op} needs {needed} as its value" if kinds and type(self.value) not in kinds else None


class InterceptState(Terms):
    """The counter of a rule, and what a call adds to it."""

    counter: Counter
    window: Window
    increment: Count | None = None
    increment_from: ArgsName | None = None

    @model_validator(mode="after")
    def _one_increment(self) -> Self:
        if self.increment is not None and self.increment_from is not None:
            raise _mistake("has both increment and increment_from: a call adds the one or the other")
        return self


class InterceptRule(Terms):
    """One rule. A call must pass all rules of its tool, and in each of them all conditions."""

    name: Text
    action: Literal["evaluate", "deny", "require_approval"] = "evaluate"
    conditions: list[InterceptCondition] = Field(default=[])
    on_deny: Text | None = None
    rate_limit: RateLimit | None = None
    state: InterceptState | None = None
    approval_timeout: Duration | None = None

    @model_validator(mode="after")
    def _one_meaning(self) -> Self:
        if (wrong := self._wrong()) is not None:
            raise _mistake(wrong)
        return self

    def _wrong(self) -> str | None:
        if self.action == "evaluate":
            return self._wrong_to_evaluate()
        if self.rate_limit is not None or self.state is not None or any(said.counter for said in self.conditions):
            return f"{self.action} counts nothing: put rate_limit, state and what reads a counter in a rule of its own"
        if self.action == "deny" and self.conditions:
            return "deny takes no conditions: without it, a rule denies what does not meet its conditions"
        if self.action == "deny" and self.approval_timeout is not None:
            return "approval_timeout needs action require_approval"
        if sum(said.op is Operator.EXISTS and said.value is False for said in self.conditions) > _ABSENT:
            return f"require_approval takes at most {_ABSENT} conditions with exists: false"
        return None

    def _wrong_to_evaluate(self) -> str | None:
        if self.approval_timeout is not None:
            return "approval_timeout needs action require_approval"
        if self.rate_limit is not None and (self.conditions or self.state is not None):
            return "rate_limit stands for conditions and state of its own: put it in a rule of its own"
        if self.rate_limit is None and not self.conditions:
            return "has nothing to check: write conditions, rate_limit, or action deny or require_approval"
        return None


class InterceptTool(Terms):
    """What is said of one tool, or under ``*`` of every tool."""

    rules: list[InterceptRule] = Field(default=[])


class InterceptDocument(Terms):
    """A whole policy document in the Intercept dialect."""

    version: Literal["1"]
    default: Literal["allow", "deny"] = "allow"
    json_schema: Text | None = Field(default=None, alias="$schema")
    description: str | None = None
    hide: list[Tool] = Field(default=[])
    tools: dict[Tool, InterceptTool] = Field(default={})

    @field_validator("hide")
    @classmethod
    def _each_once(cls, names: list[str]) -> list[str]:
        for index, name in enumerate(names):
            if name in names[:index]:
                raise _mistake(f"names {name} twice")
        return names


def _is_whole(value: Any) -> bool:
    return type(value) is int or (type(value) is float and value.is_integer())
