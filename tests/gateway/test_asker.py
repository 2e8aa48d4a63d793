"""What is told to who waits for a held call: progress that always grows, whatever the upstream says of its own."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.people import Grant
from broker.gateway.asker import GIVEN_UP_AFTER, TELL_EVERY, Asker, call_in_session
from broker.gateway.inbound import Inbound
from broker.gateway.sse import KEEP_ALIVE
from broker.gateway.wire import parse_message
from tests.gateway.scene import tool_call

HUGE = 10**400


async def nothing() -> None:
    """The grant is fine."""


def asker(token: Any = "t") -> Asker:
    meta = {"progressToken": token} if token is not None else {}
    message = parse_message(json.dumps(tool_call("act", **meta)).encode())
    grant = Grant(id="g", label="l", owner="o@example.com", upstreams=frozenset(), created_at=datetime.now(UTC))
    return Asker(Inbound("POST", grant, (), modern=True, check_grant=nothing, came=0, message=message), lambda: None)


def in_session(grant_id: str, session: str | None, came: float, tool: str = "act") -> Asker:
    """One that waits for people, of an older client."""
    message = parse_message(json.dumps(tool_call(tool)).encode())
    grant = Grant(id=grant_id, label="l", owner="o@example.com", upstreams=frozenset(), created_at=datetime.now(UTC))
    inbound = Inbound("POST", grant, (), modern=False, check_grant=nothing, came=came, message=message, session=session)
    waiting = Asker(inbound, lambda: None, call_in_session(inbound))
    waiting.waits = True
    return waiting


def test_only_the_same_call_of_the_same_agent_in_the_same_session_takes_the_place_of_another() -> None:
    """A server may give one session id to several agents: none of them can end what another waits for."""
    first = in_session("g", "s", 0)
    assert first.gave_way_to(in_session("g", "s", GIVEN_UP_AFTER))
    for other in (
        in_session("another", "s", GIVEN_UP_AFTER),
        in_session("g", "other", GIVEN_UP_AFTER),
        in_session("g", None, GIVEN_UP_AFTER),
        in_session("g", "s", GIVEN_UP_AFTER, tool="look"),
        in_session("g", "s", GIVEN_UP_AFTER / 2),
    ):
        assert not first.gave_way_to(other)
    first.waits = False  # it runs
    assert not first.gave_way_to(in_session("g", "s", GIVEN_UP_AFTER))


def progress(value: Any, token: Any = "t", **more: Any) -> dict[str, Any]:
    params = {"progressToken": token, "progress": value, **more}
    return {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}


async def heard(who: Asker) -> list[dict[str, Any]]:
    """The params of all the progress that was told."""
    who.line.end()
    events = [chunk async for chunk in who.line.chunks()]
    messages = [json.loads(event.split(b"data: ")[1]) for event in events if b"data: " in event]
    return [message["params"] for message in messages if message.get("method") == "notifications/progress"]


def sign(who: Asker) -> None:
    who.next_sign = 0
    who.say_when_due("Waiting")


async def test_signs_of_life_come_every_ten_seconds_and_news_at_once() -> None:
    who, clock = asker(), asyncio.get_running_loop()
    who.say_when_due("first")
    before = clock.time()
    assert before < who.next_sign <= before + TELL_EVERY == before + 10
    who.say_when_due("too early")
    who.say("news")
    assert who.next_sign >= before + TELL_EVERY
    who.say_when_due("too early after that")
    who.next_sign = clock.time()
    who.say_when_due("due")
    told = await heard(who)
    assert [(each["progress"], each["message"]) for each in told] == [(1, "first"), (2, "news"), (3, "due")]


@given(
    signs=st.integers(0, 3),
    said=st.lists(st.integers(-(10**6), 10**6) | st.floats(-1e6, 1e6) | st.sampled_from([0, 0.1, -0.0, 1e-9])),
)
async def test_progress_always_grows(signs: int, said: list[float]) -> None:
    who = asker()
    for _ in range(signs):
        sign(who)
    for value in said:
        await who.pass_on(progress(value, total=10), b"")
    told = await heard(who)
    values = [each["progress"] for each in told]
    assert len(told) == signs + len(said)
    assert all(earlier < later for earlier, later in pairwise(values))


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ([(0.5, 2), (1.25, 2), (2, 2)], [(2.5, 4), (3.25, 4), (4, 4)]),
        ([(0, 10), (1, 10), (10, 10)], [(3, 13), (4, 13), (13, 13)]),  # a server may begin with 0
        ([(5, None), (5, None), (6, None)], [(7, None), (8, None), (9, None)]),  # or say the same again
    ],
)
async def test_the_upstreams_progress_goes_on_above_what_was_told_and_so_does_its_total(
    said: list[tuple[float, float | None]], told: list[tuple[float, float | None]]
) -> None:
    who = asker()
    sign(who)
    sign(who)
    for value, total in said:
        await who.pass_on(progress(value, **({} if total is None else {"total": total}), kept="x"), b"")
    heard_of = (await heard(who))[2:]
    assert [(each["progress"], each.get("total")) for each in heard_of] == told
    assert all(each["kept"] == "x" for each in heard_of)


@pytest.mark.parametrize("odd", ["1", None, [], {}, HUGE, -HUGE])
async def test_progress_that_is_no_usual_number_passes_as_it_is(odd: Any) -> None:
    who = asker()
    await who.pass_on(progress(1, total=odd), b"")
    await who.pass_on(progress(odd, total=3), b"")
    await who.pass_on(progress(2), b"")
    told = await heard(who)
    assert [each["progress"] for each in told] == [1, odd, 2]
    assert [each.get("total") for each in told] == [odd, 3, None]


@pytest.mark.parametrize(
    "other",
    [
        progress(1, token="another"),
        progress(1, token=None),
        {"jsonrpc": "2.0", "method": "notifications/progress", "params": []},
        {"jsonrpc": "2.0", "method": "notifications/progress"},
        {"jsonrpc": "2.0", "method": "notifications/message", "params": {"progressToken": "t", "progress": 1}},
        7,
        None,
    ],
)
async def test_what_is_no_progress_of_this_call_passes_byte_for_byte(other: Any) -> None:
    who = asker()
    await who.pass_on(other, b"raw")
    who.line.end()
    assert [chunk async for chunk in who.line.chunks()] == [b"raw"]


async def test_who_gave_no_token_gets_comments_and_the_upstreams_progress_as_it_is() -> None:
    who = asker(token=None)
    sign(who)
    await who.pass_on(progress(1, token=None), b"raw")
    who.line.end()
    assert [chunk async for chunk in who.line.chunks()] == [KEEP_ALIVE, b"raw"]
