"""The policies in force and what is wrong with their files: as JSON, and as a page.

What belongs here: the shape that programs read, and rules and limits in words for people. What does not: judging
(`broker.policy.judging.decide`), changing a policy.
"""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from broker.domain.calls import Action
from broker.policy.judging.limits import described
from broker.policy.model import Condition, Entry, Limit, Operator, Rule, Test
from broker.policy.watch import InForce
from broker.web.identity import AskerOf, GuardedRoute
from broker.web.parts import PartsOf
from broker.web.problems import json_response
from broker.web.shapes import Page, Policy, answers
from broker.web.templates import render_large

router = APIRouter(route_class=GuardedRoute)

_OPERATORS = {
    Operator.EQ: "is",
    Operator.NEQ: "is not",
    Operator.IN: "is one of",
    Operator.NOT_IN: "is none of",
    Operator.LT: "<",
    Operator.LTE: "≤",
    Operator.GT: ">",
    Operator.GTE: "≥",
    Operator.REGEX: "matches",
    Operator.CONTAINS: "contains",
}
_DONE = {Action.DENY: "denied", Action.HOLD: "held", Action.ALLOW: "allowed"}


@router.get("/api/v1/policies", tags=["policies"], responses=answers(Page[Policy]))
async def list_policies(parts: PartsOf) -> Response:
    """The policy of each upstream: what is in force, and why the file as it is now is not, if it is not."""
    return json_response({"items": [_policy(in_force) for in_force in parts.policies.values()], "next": None})


@router.get("/policies", include_in_schema=False)
async def policies(parts: PartsOf, asker: AskerOf) -> Response:
    """The same for people."""
    found = [(in_force, _rows(in_force)) for in_force in parts.policies.values()]
    return await render_large("policies.html", asker=asker, policies=found)


# -- for programs -----------------------------------------------------------------------------------------------------


def _policy(in_force: InForce) -> dict[str, Any]:
    book = in_force.policy.book
    return {
        "upstream": in_force.upstream,
        **in_force.present(),
        "default": book.unlisted.action.value,
        "tools": [{"name": name, **_entry(entry)} for name, entry in book.entries.items()],
        "hide": list(book.hide),
        "redact": [str(path) for path in book.redact],
    }


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "action": entry.action.value,
        "risk": entry.risk.value if entry.risk else None,
        "reason": entry.reason,
        "rules": [_rule(rule) for rule in entry.rules],
        "limits": [_limit(limit) for limit in entry.limits],
    }


def _rule(rule: Rule) -> dict[str, Any]:
    tests = [tested(test) for test in rule.tests]
    return {"rule": rule.at, "then": rule.then.value, "unless": rule.unless, "tests": tests, "message": rule.message}


def _limit(limit: Limit) -> dict[str, Any]:
    return {
        "rule": limit.at,
        "counter": limit.counter,
        "window": limit.window.total_seconds(),
        "max": limit.max,
        "scope": limit.scope.value,
        "add": limit.add if isinstance(limit.add, int) else str(limit.add),
        "calendar": limit.calendar,
        "message": limit.message,
    }


# -- for people -------------------------------------------------------------------------------------------------------


def _rows(in_force: InForce) -> list[tuple[str, Entry, list[str]]]:
    """The lines of the table: what tools, the entry, and what it says beside its action."""
    book = in_force.policy.book
    entries = [*book.entries.items(), ("every other tool", book.unlisted)]
    return [(name, entry, [*map(ruled, entry.rules), *map(limited, entry.limits)]) for name, entry in entries]


def ruled(rule: Rule) -> str:
    """A rule in words, such as ``held if args.mode is "live"``."""
    how = "unless" if rule.unless else "if"
    return f"{_DONE[rule.then]} {how} {' and '.join(map(_worded, rule.tests))}"


def _worded(test: Test) -> str:
    if not isinstance(test, Condition):
        return test.source
    if test.op is Operator.EXISTS:
        return f"{test.path} is {'there' if test.value else 'missing'}"
    return f"{test.path} {_OPERATORS[test.op]} {json.dumps(test.value, ensure_ascii=False)}"


def tested(test: Test) -> str:
    """A test as it is written."""
    if isinstance(test, Condition):
        return f"{test.path} {test.op} {json.dumps(test.value, ensure_ascii=False)}"
    return test.source


def limited(limit: Limit) -> str:
    """A limit in words, such as ``at most 10 in a minute for each grant, counted as clicks``."""
    return f"at most {described(limit)}, counted as {limit.counter}"
