"""What a slow client, a silent process and an unused one may cost the others: a little, for a while."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from broker.errors import SessionUnknown, UpstreamInterrupted, UpstreamUnreachable
from broker.gateway.upstreams.stdio import StdioUpstream
from broker.gateway.upstreams.stdio.readers import MOST_WAITING
from tests.gateway.stdio import (
    Listening,
    get,
    gone,
    note,
    opened,
    post,
    response,
    result,
    seen,
    streaming,
    upstream,
)

LINE = 10_000
FLOOD: dict[str, Any] = {"count": 1000, "size": LINE}
SLACK = 512 * 1024
"""What the pipe and one read of it hold beside."""


async def works_on(server: StdioUpstream, session: str | None, seconds: float) -> None:
    """Let other requests pass for so long."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while loop.time() < until:
        await result(server, post("x", session=session, headers=()))


async def cancelled(server: StdioUpstream, session: str | None = None) -> list[Any]:
    """The numbers of what was cancelled at the process, and those of what it holds."""
    read = await seen(server, session)
    holds = [message["id"] for message in read if message.get("method") in ("test/hold", "subscriptions/listen")]
    assert [m["params"]["requestId"] for m in read if m.get("method") == "notifications/cancelled"] == holds
    return holds


# -- slow clients -----------------------------------------------------------------------------------------------------


async def test_a_process_is_held_back_while_a_client_does_not_read_and_nothing_is_lost(tmp_path: Path) -> None:
    held_at = tmp_path / "held"
    held_at.touch()
    async with upstream() as server:
        stream = Listening(await streaming(server, None))
        flooding = asyncio.create_task(result(server, post("test/flood", {**FLOOD, "name": "a", "file": str(held_at)})))
        while not (written := held_at.read_text()):  # noqa: ASYNC110 - it waits, and tells nobody but this file
            await asyncio.sleep(0.01)
        assert MOST_WAITING / LINE - 10 < int(written) < (MOST_WAITING + SLACK) / LINE
        assert (await stream.next())["params"]["progress"] == 1
        read = [(await stream.next())["params"]["progress"] for _ in range(FLOOD["count"])]
        await flooding
    assert read == list(range(FLOOD["count"]))


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_a_client_that_reads_nothing_while_others_wait_is_cut(era: str, tmp_path: Path) -> None:
    async with upstream(read_within=0.3) as server:
        session = await opened(server) if era == "legacy" else None
        stream = Listening(await streaming(server, session))
        flood = {**FLOOD, "name": "a", "file": str(tmp_path / "held")}
        assert await result(server, post("test/flood", flood, session=session, headers=())) == {}
        with pytest.raises(UpstreamInterrupted, match=r"not read for 0\.3 s while others waited"):
            await stream.rest()
        if session is None:
            assert await cancelled(server)
        else:
            with pytest.raises(AssertionError):  # leaving is no cancel there
                await cancelled(server, session)


async def test_a_client_that_does_not_read_its_get_stream_loses_it_while_others_wait(tmp_path: Path) -> None:
    async with upstream(read_within=0.3) as server:
        session = await opened(server)
        slow = Listening(await server.send(get(session)))
        flood = {**FLOOD, "file": str(tmp_path / "held")}
        assert await result(server, post("test/flood", flood, session=session, headers=())) == {}
        assert await slow.ended()
        assert (await Listening(await server.send(get(session))).next())["method"] == "n/flood"


async def test_one_message_larger_than_what_may_wait_passes_whole() -> None:
    async with upstream() as server:
        large = note("notifications/message", data="x" * 3 * MOST_WAITING)
        session = await opened(server)
        stream = Listening(await server.send(post("test/say", {"before": [large, large]}, session=session)))
        for _ in range(2):
            assert (await stream.next())["params"] == large["params"]
        assert (await stream.next())["result"] == {}


# -- silent processes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_a_request_that_nothing_is_heard_of_is_given_up_and_cancelled_at_the_process(era: str) -> None:
    async with upstream(answer_within=1.0) as server:
        session = await opened(server) if era == "legacy" else None
        with pytest.raises(UpstreamInterrupted, match=r"said nothing about this request for 1 s.*may or may not"):
            await server.send(post("test/hold", {"name": "a"}, session=session))
        assert len(await cancelled(server, session)) == 1
        await result(server, post("test/let-go", {"name": "a"}, session=session))  # its late answer goes nowhere


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_progress_is_a_sign_of_life(era: str) -> None:
    loop = asyncio.get_running_loop()
    async with upstream(answer_within=1.0) as server:
        session = await opened(server) if era == "legacy" else None
        stream = Listening(await streaming(server, session))
        until = loop.time() + 2.0
        while loop.time() < until:
            await result(server, post("test/progress", {"name": "a", "progress": 1}, session=session))
            await stream.next()
        with pytest.raises(UpstreamInterrupted, match="said nothing"):
            await stream.rest()


async def test_a_process_that_waits_for_its_client_is_not_silent() -> None:
    async with upstream(answer_within=1.0) as server:
        session = await opened(server)
        stream = Listening(await server.send(post("test/ask", session=session)))
        await works_on(server, session, 2.0)
        await server.send(response(session, "mine", result={}))
        messages = [(await stream.next()).get("method") for _ in range(3)]
    assert messages == ["notifications/message", "sampling/createMessage", None]


async def test_a_subscription_may_be_silent_for_ever_once_it_began() -> None:
    async with upstream(answer_within=1.0) as server:
        stream = Listening(await server.send(post("subscriptions/listen", id="l")))
        await works_on(server, None, 2.0)
        await result(server, post("test/end-listening"))
        assert [(await stream.next()).get("id") for _ in range(2)] == [None, "l"]


async def test_a_call_that_a_process_does_not_read_never_ran_and_is_told_so() -> None:
    async with upstream(answer_within=1.0) as server:
        await result(server, post("test/stop-reading"))
        large = {"text": "x" * 1_000_000}
        outcomes = await asyncio.gather(*(server.send(post("x", large)) for _ in range(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [UpstreamInterrupted, UpstreamUnreachable, UpstreamUnreachable]
    assert "has not read its input for 1 s" in str(outcomes[1])


async def test_what_the_broker_answers_to_a_process_that_does_not_read_does_not_pile_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "broker.upstream.raw")
    asking = [{"id": number, "method": "roots/list"} for number in range(5000)]
    async with upstream(answer_within=1.0) as server:
        await result(server, post("test/stop-reading", {"after": asking}))
        with pytest.raises((UpstreamInterrupted, UpstreamUnreachable)):
            await server.send(post("x"))
    dropped = [record for record in caplog.records if "does not read its input" in record.getMessage()]
    assert dropped  # the pipe and our side of it took the others, as many as came in that second


# -- unused processes -------------------------------------------------------------------------------------------------


async def test_a_process_that_nobody_uses_is_ended_and_its_session_is_over() -> None:
    async with upstream(idle=1.0) as server:
        session = await opened(server)
        legacy = (await result(server, post("x", session=session)))["pid"]
        modern = (await result(server, post("x")))["pid"]
        for pid in (legacy, modern):
            await gone(pid)
        assert server.tenants == frozenset()
        with pytest.raises(SessionUnknown):
            await server.send(post("x", session=session))
        assert (await result(server, post("x")))["pid"] != modern


async def test_a_process_is_in_use_while_a_request_is_under_way_or_a_client_listens() -> None:
    async with upstream(idle=1.0) as server:
        listened, worked, unused = [await opened(server) for _ in range(3)]
        stream = await server.send(get(listened))
        held = asyncio.create_task(server.send(post("test/hold", {"name": "a"}, session=worked)))
        await gone((await result(server, post("x", session=unused)))["pid"])
        told = (await result(server, post("x", session=listened)))["pid"]
        await result(server, post("test/let-go", {"name": "a"}, session=worked))
        assert (await held).status == 200
        await stream.close()
        await gone(told)


async def test_a_session_in_which_a_call_is_held_is_in_use() -> None:
    async with upstream(idle=1.0) as server:
        waited, unused = [await opened(server) for _ in range(2)]
        pid = (await result(server, post("x", session=unused)))["pid"]
        ending = asyncio.ensure_future(gone(pid))
        while not ending.done():
            server.touch(waited)
            await asyncio.wait([ending], timeout=0.1)
        assert (await server.send(post("x", session=waited))).status == 200


async def test_a_process_that_was_ended_unused_is_no_failure_that_delays_the_next() -> None:
    async with upstream(idle=0.5) as server:
        await server.send(post("notifications/unheard", id=None))
        async with asyncio.timeout(5):
            while server.tenants:  # noqa: ASYNC110 - it ends by itself, and tells nobody
                await asyncio.sleep(0.01)
        assert await result(server, post("x"))
