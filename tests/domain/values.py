"""Calls, people and approvals for tests: the ordinary ones, of which a test changes what it is about."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from broker.domain.approvals import Approval, Cause, Decision, Review, State
from broker.domain.calls import Call, Charge, Requirement, Scope
from broker.domain.canonical import Keyring, new_id
from broker.domain.moves import claim, expire, finish, interrupt, review, withdraw
from broker.domain.people import GrantRef, Person, Role
from tests.clock import NOON

KEYRING = Keyring([b"a secret of the tests, long enough"])
GRANT = GrantRef("grant_1", "ci agent", "olga@example.com")
DEFINITION = {"name": "press", "inputSchema": {"type": "object"}}
MINUTE = timedelta(minutes=1)
QUARTER = timedelta(minutes=15)
LEASE = timedelta(seconds=30)


def call(tool: str = "press", *, grant: GrantRef = GRANT, upstream: str = "desk", **arguments: Any) -> Call:
    """A call of `tool` with these arguments."""
    return Call(new_id("call"), upstream, tool, {"name": tool, "arguments": arguments}, grant)


def charge(*, window: timedelta = MINUTE, maximum: int = 1, counter: str = "presses", who: str = "grant_1") -> Charge:
    """A slot of a counter of the grant `who`."""
    return Charge("desk", counter, Scope.GRANT, who, window, maximum, f"tools.press.limits[{counter}]")


def person(name: str, *groups: str, role: Role = Role.APPROVER) -> Person:
    """`name@example.com`, an approver unless it says otherwise."""
    return Person(f"{name}@example.com", frozenset({role}), frozenset(groups))


ALICE, BOB, CAROL, OLGA = person("alice"), person("bob"), person("carol"), person("olga")


def held(requirement: Requirement | None = None, **changes: Any) -> Approval:
    """A pending approval, made at noon and due a quarter of an hour later."""
    values: dict[str, Any] = {
        "id": "apr_1",
        "state": State.PENDING,
        "call": call(),
        "fingerprint": "f" * 64,
        "revision": "f" * 64,
        "rule": "tools.press.action",
        "requirement": requirement or Requirement(),
        "created_at": NOON,
        "deadline": NOON + QUARTER,
    }
    return Approval(**values | changes)


def word(by: Person, decision: Decision = Decision.APPROVE, **changes: Any) -> Review:
    """What `by` says, a minute after noon in the browser."""
    values: dict[str, Any] = {
        "by": by.email,
        "decision": decision,
        "channel": "web",
        "revision": "f" * 64,
        "at": NOON + MINUTE,
    }
    return Review(**values | changes)


def reviewed(approval: Approval, by: Person, decision: Decision = Decision.APPROVE, **changes: Any) -> Approval:
    """`approval` after the word of `by`."""
    return review(approval, by, word(by, decision, **changes), execute_within=QUARTER)


def in_state(state: State) -> Approval:
    """An approval that came to `state` by the ordinary moves."""
    pending = held()
    approved = reviewed(pending, ALICE)
    executing = claim(approved, "proc_1", NOON + 2 * MINUTE, LEASE)
    return {
        State.PENDING: pending,
        State.APPROVED: approved,
        State.EXECUTING: executing,
        State.SUCCEEDED: finish(executing, failed=False),
        State.FAILED: finish(executing, failed=True),
        State.REJECTED: reviewed(pending, ALICE, Decision.REJECT, reason="not on a Friday"),
        State.EXPIRED: expire(pending, NOON + QUARTER),
        State.WITHDRAWN: withdraw(pending, Cause.ADMINISTRATOR, NOON + MINUTE, by="root@example.com"),
        State.INTERRUPTED: interrupt(executing),
    }[state]
