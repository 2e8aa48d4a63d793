"""Recorded calls, read again as the gate and the approvals wrote them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from broker.domain.audit import Event, Kind
from broker.domain.calls import Charge, Requirement, Scope
from broker.domain.paths import Path
from broker.domain.recorded import Fate, RecordedCall
from broker.store import calls
from broker.store.writer import Store
from tests.clock import NOON, MovableClock
from tests.store.past import ALLOW, HOLD, Past

HOUR = timedelta(hours=1)
UNSEEN = (Path(("session",)),)


async def read(store: Store, **span: Any) -> list[RecordedCall]:
    """The calls of the upstream `desk`, of the first hour if nothing else is said."""
    wanted = {"since": NOON, "until": NOON + HOUR} | span

    def query(session: Any) -> list[RecordedCall]:
        rows = calls.span(session, wanted["since"], wanted["until"])
        return [found for _, found in calls.recorded(session, rows, "desk")]

    return await store.read(query)


@pytest.fixture
async def past(store: Store, clock: MovableClock) -> Past:
    return await Past.begin(store, clock)


async def test_each_call_is_read_once_as_it_was_judged_with_what_it_carried_and_whose_it_was(
    past: Past, store: Store
) -> None:
    look, wipe, press = past.call("look", at=[1]), past.call("wipe"), past.call("press", session="s-1", hard=True)
    await past.allowed(look)
    await past.denied(wipe)
    await past.held(press)
    assert await read(store) == [
        RecordedCall(look, NOON, Fate.ALLOW, "tools.look", UNSEEN),
        RecordedCall(wipe, NOON, Fate.DENY, "tools.wipe.action", UNSEEN),
        RecordedCall(press, NOON, Fate.HOLD, "tools.press.action"),
    ]


async def test_a_limit_is_a_fate_of_its_own_and_a_full_queue_is_none_of_the_policy(past: Past, store: Store) -> None:
    charge = Charge("desk", "looks", Scope.GRANT, "g", HOUR, 1, "tools.look.limits[0]")
    for _ in range(2):
        await past.allowed(past.call("look"), replace(ALLOW, charges=(charge,)))
        await past.held(past.call("press", number=_))
    found = [(one.call.tool, one.fate, one.rule) for one in await read(store)]
    assert found == [
        ("look", Fate.ALLOW, "tools.look"),
        ("press", Fate.HOLD, "tools.press.action"),
        ("look", Fate.LIMITED, "tools.look.limits[0]"),
        ("press", Fate.HOLD, None),
    ]


async def test_a_call_for_which_nobody_may_decide_was_held_by_its_policy(past: Past, store: Store) -> None:
    await past.held(past.call("press"), replace(HOLD, requirement=Requirement(quorum=5)))
    (found,) = await read(store)
    assert (found.fate, found.rule) == (Fate.HOLD, "tools.press.action")


async def test_calls_of_another_time_or_another_upstream_are_left_out(
    past: Past, store: Store, clock: MovableClock
) -> None:
    await past.allowed(past.call("early"))
    clock.advance(HOUR)
    await past.allowed(past.call("wanted"))
    await past.allowed(past.call("elsewhere", upstream="git"))
    clock.advance(HOUR)
    await past.allowed(past.call("late"))
    found = await read(store, since=NOON + HOUR, until=NOON + 2 * HOUR)
    assert [one.call.tool for one in found] == ["wanted"]
    assert await read(store, since=NOON + 9 * HOUR, until=NOON + 10 * HOUR) == []


async def test_a_long_past_is_read_in_pages_and_in_order(past: Past, store: Store) -> None:
    made = [past.call("look", number=number) for number in range(calls.PAGE + 2)]
    await asyncio.gather(*map(past.allowed, made))
    assert [one.call for one in await read(store)] == made


async def test_of_a_call_whose_arguments_were_emptied_they_are_what_is_unknown(past: Past, store: Store) -> None:
    await past.allowed(past.call("look", at=1))
    await past.allowed(past.call("look", at=2))
    await store.write(lambda tx: tx.connection.execute(sa.text("DELETE FROM contents WHERE call_id = 'call_1'")))
    await store.write(lambda tx: tx.connection.execute(sa.text("UPDATE contents SET body = '{}'")))
    assert [one.unknown for one in await read(store)] == [(Path(("args",)), *UNSEEN)] * 2


async def test_of_a_call_that_is_kept_masked_the_masked_values_are_what_is_unknown(past: Past, store: Store) -> None:
    await past.allowed(past.call("pay", card="[redacted]", items=[{"price": 1}, {"price": "[redacted]"}]))
    await past.allowed(past.call("say", text="[redacted]"))
    masked = "UPDATE contents SET what = 'redacted' WHERE call_id = 'call_1'"
    await store.write(lambda tx: tx.connection.execute(sa.text(masked)))
    pay, say = await read(store)
    assert pay.unknown == (Path(("args", "card")), Path(("args", "items", 1, "price")), *UNSEEN)
    assert say.unknown == UNSEEN  # an agent may well say this word


async def test_the_upstreams_of_a_time_are_those_whose_tools_were_called(past: Past, store: Store) -> None:
    await past.allowed(past.call("look", upstream="git"))
    await past.denied(past.call("look"))
    await store.write(lambda tx: tx.record(Event(kind=Kind.CALL_ANSWERED, actor="agent:1", upstream="other")))

    def query(session: Any) -> list[str]:
        return calls.upstreams(session, calls.span(session, NOON, NOON + HOUR))

    assert await store.read(query) == ["desk", "git"]
