"""A long record: the rows of very many calls, as the gate and the approvals write them, but all at once.

What belongs here: making them, the same ones each time. What does not: looking for them (`searching`).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import insert

from broker.domain.audit import Event, Kind, chained
from broker.store import chain
from broker.store.audit import columns
from broker.store.columns import micros
from broker.store.engine import WRITER
from broker.store.tables import GrantRow, table_of
from broker.store.writer import Store

AT_ONCE = 5_000
BEGAN = datetime.fromisoformat("2026-01-01T00:00:00+00:00")
EACH = timedelta(milliseconds=700)
"""Between two rows: a million of them are eight days."""

UPSTREAMS = ("git", "desk", "mail", "billing", "files", "browser")
VERBS = ("list", "show", "push", "delete", "create", "send", "move", "read", "write", "search")
NOUNS = ("branch", "window", "message", "invoice", "folder", "page", "commit", "draft")
PEOPLE = tuple(f"{name}@example.com" for name in ("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi"))
CHANNELS = ("web", "slack:#approvals", "slack:#desktop", "api")
GRANTS = 200
WORDS = (
    *("please", "ask", "the", "owner", "first", "because", "this", "branch", "is", "protected", "and", "release"),
    *("wrong", "account", "not", "now", "customer", "has", "agreed", "looks", "fine", "checked", "with", "finance"),
    *("approved", "by", "phone", "see", "ticket", "too", "large", "for", "one", "step", "on", "friday"),
)

RARE = "the quokka incident"
"""A reason that one rejection in about ten thousand calls has."""


def labelled(number: int) -> str:
    """What the agent of a grant is called."""
    return f"{('ci', 'release-bot', 'helpdesk', 'researcher')[number % 4]}-{number}"


def fill(store: Store, rows: int) -> None:
    """Append `rows` rows to an empty store, in a chain that verifies."""
    dice = random.Random(8)
    grants = [f"grt_{dice.getrandbits(96):024x}" for _ in range(GRANTS)]
    with store.engine.begin() as connection:
        connection.execute(insert(table_of(GrantRow)), [_grant(number, grant) for number, grant in enumerate(grants)])
    events = _events(dice, grants)
    for first in range(1, rows + 1, AT_ONCE):
        with store.engine.execution_options(**{WRITER: True}).connect() as connection, connection.begin():
            head = chain.lock(connection)
            made = list[Any]()
            for seq in range(first, min(first + AT_ONCE, rows + 1)):
                made.append(chained(next(events), seq, BEGAN + seq * EACH, made[-1].digest if made else head.digest))
            kept = [
                columns(row, micros(row.at)) | {"seq": row.seq, "prev": row.prev, "digest": row.digest} for row in made
            ]
            chain.append(connection, kept, [])


def _grant(number: int, grant: str) -> dict[str, Any]:
    return {
        "id": grant,
        "token_hash": grant,
        "label": labelled(number),
        "owner": PEOPLE[number % len(PEOPLE)],
        "upstreams": list(UPSTREAMS),
        "created_at": BEGAN,
    }


def _events(dice: random.Random, grants: list[str]) -> Iterator[Event]:
    while True:
        call, verb = f"call_{dice.getrandbits(96):024x}", dice.choice(VERBS)
        grant = grants[int(len(grants) * dice.random() ** 2)]
        upstream, tool = dice.choice(UPSTREAMS), f"{verb}_{dice.choice(NOUNS)}"
        facts: dict[str, Any] = {
            "call_id": call,
            "upstream": upstream,
            "tool": tool,
            "grant": grant,
            "rule": f"tools.{tool}",
            "arguments_digest": f"{dice.getrandbits(256):064x}",
        }
        agent: dict[str, Any] = {"actor": f"agent:{grant}", **facts}
        chance = dice.random()
        if chance < 0.05:
            yield Event(
                kind=Kind.CALL_DENIED, verdict="deny", **agent, detail={"reason": f"{verb} is never allowed here"}
            )
        elif chance < 0.06:
            yield Event(kind=Kind.CALL_LIMITED, verdict="allow", **agent, detail={"reason": "10 calls a minute"})
        elif chance < 0.12:
            yield from _held(
                dice, agent, {**facts, "verdict": "hold", "approval_id": f"apr_{dice.getrandbits(96):024x}"}
            )
        else:
            yield Event(kind=Kind.CALL_ALLOWED, verdict="allow", **agent)
            word = "succeeded" if dice.random() < 0.97 else "failed"
            spent = round(dice.random() * 300, 1)
            yield Event(kind=Kind.CALL_ANSWERED, verdict="allow", **agent, detail={"outcome": word, "ms": spent})


def _held(dice: random.Random, agent: dict[str, Any], facts: dict[str, Any]) -> Iterator[Event]:
    asked: dict[str, Any] = agent | facts
    yield Event(kind=Kind.APPROVAL_SUBMITTED, **asked, detail={"state": "pending"})
    person, channel = dice.choice(PEOPLE), dice.choice(CHANNELS)
    reason = " ".join(dice.choices(WORDS, k=8))
    said = {"channel": channel, "revision": f"{dice.getrandbits(256):064x}"}
    if dice.random() < 0.3:
        reason = RARE if dice.random() < 0.005 else reason
        detail = {"decision": "reject", "reason": reason, **said, "state": "rejected"}
        yield Event(kind=Kind.APPROVAL_REJECTED, actor=person, **facts, detail=detail)
        return
    detail = {"decision": "approve", "reason": reason if dice.random() < 0.2 else None, **said, "state": "approved"}
    yield Event(kind=Kind.APPROVAL_APPROVED, actor=person, **facts, detail=detail)
    yield Event(kind=Kind.APPROVAL_CLAIMED, **asked, detail={"state": "executing"})
    ended = Kind.APPROVAL_SUCCEEDED if dice.random() < 0.95 else Kind.APPROVAL_FAILED
    yield Event(kind=ended, actor="broker", **facts, detail={"state": ended.value.partition(".")[2]})
