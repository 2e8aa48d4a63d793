"""How the processes of an upstream end, and that nothing of them is left behind."""

from __future__ import annotations

import asyncio
import os

import pytest
import uvloop

from broker.errors import SessionUnknown, UpstreamInterrupted, UpstreamUnreachable
from broker.gateway.upstreams import UpstreamRequest
from broker.gateway.upstreams.stdio import StdioUpstream
from tests.gateway.stdio import (
    CLIENT,
    Listening,
    get,
    gone,
    opened,
    post,
    result,
    token,
    upstream,
)
from tests.servers import BOUND, RAW_STDIO

# -- ends -------------------------------------------------------------------------------------------------------------


async def test_a_command_that_is_not_there_is_unreachable() -> None:
    async with upstream("/nowhere/no-such-command") as server:
        for request in (post("x"), post("initialize", CLIENT), post("x")):
            with pytest.raises(UpstreamUnreachable, match="no-such-command"):
                await server.send(request)


async def test_a_command_that_speaks_no_mcp_is_ended_with_a_sentence() -> None:
    server = StdioUpstream("git", ["yes", "this is no message"], opens_within=0.2)
    try:
        with pytest.raises(UpstreamInterrupted, match=r"said nothing within 0\.2 s"):
            await server.send(post("initialize"))
    finally:
        await server.close()


async def test_a_process_that_dies_interrupts_what_is_under_way_and_its_session_is_over() -> None:
    async with upstream() as server:
        session = await opened(server)
        held = asyncio.create_task(server.send(post("test/hold", {"name": "a"}, session=session)))
        await asyncio.sleep(0)
        with pytest.raises(UpstreamInterrupted, match="may or may not have run"):
            await server.send(post("test/die", session=session))
        with pytest.raises(UpstreamInterrupted):
            await held
        with pytest.raises(SessionUnknown):
            await server.send(post("x", session=session))


async def test_a_process_that_closes_its_output_is_over() -> None:
    async with upstream() as server:
        with pytest.raises(UpstreamInterrupted):
            await server.send(post("test/close"))


async def test_a_stream_ends_as_interrupted_when_the_process_dies() -> None:
    async with upstream() as server:
        reply = await server.send(post("test/progress-then-die", token(1)))
        with pytest.raises(UpstreamInterrupted):
            _ = [chunk async for chunk in reply.chunks]


async def test_after_a_death_the_next_modern_request_starts_a_new_process() -> None:
    async with upstream() as server:
        first = await result(server, post("x"))
        with pytest.raises(UpstreamInterrupted):
            await server.send(post("test/die"))
        assert (await result(server, post("x")))["pid"] != first["pid"]


@pytest.mark.parametrize("request_of_an_era", [post("x"), post("initialize", CLIENT)], ids=["modern", "legacy"])
async def test_a_command_that_dies_without_an_answer_is_not_started_again_at_once(
    request_of_an_era: UpstreamRequest,
) -> None:
    async with upstream(*RAW_STDIO, "exit") as server:
        with pytest.raises((UpstreamInterrupted, UpstreamUnreachable)):
            await server.send(request_of_an_era)
        with pytest.raises(UpstreamUnreachable, match=r"without answering anything; .* It is started again in \d+ s"):
            await server.send(request_of_an_era)


async def test_a_command_that_dies_of_modern_requests_can_still_serve_a_handshake() -> None:
    async with upstream(*RAW_STDIO) as server:
        with pytest.raises(UpstreamInterrupted):
            await server.send(post("test/die"))
        with pytest.raises(UpstreamUnreachable, match="without answering"):
            await server.send(post("x"))
        assert await opened(server)


async def test_closing_leaves_nothing_behind_not_even_children_of_the_process() -> None:
    async with upstream() as server:
        told = await result(server, post("test/spawn"))
        held = asyncio.create_task(server.send(post("test/hold", {"name": "a"})))
        await asyncio.sleep(0)
    with pytest.raises(UpstreamInterrupted):
        await held
    async with asyncio.timeout(BOUND):
        await gone(told["pid"])
        await gone(told["child"])
    with pytest.raises(UpstreamUnreachable):
        await server.send(post("x", grant="g2"))


async def test_a_process_that_dies_takes_its_children_along() -> None:
    async with upstream() as server:
        told = await result(server, post("test/spawn"))
        with pytest.raises(UpstreamInterrupted):
            await server.send(post("test/die"))
        await gone(told["child"])


async def test_a_grandchild_in_a_session_of_its_own_is_ended_too() -> None:
    async with upstream() as server:
        told = await result(server, post("test/spawn", {"own_session": True}))
        assert os.getsid(told["child"]) == told["child"]
    await gone(told["child"])


async def test_a_grandchild_in_a_session_of_its_own_is_ended_when_its_parent_dies() -> None:
    async with upstream() as server:
        told = await result(server, post("test/spawn", {"own_session": True}))
        with pytest.raises(UpstreamInterrupted):
            await server.send(post("test/die"))
        await gone(told["child"])


async def test_a_process_that_will_not_go_is_killed_with_all_others_at_once() -> None:
    async with upstream(*RAW_STDIO, "stubborn") as server:
        pids = [(await result(server, post("x", grant=grant)))["pid"] for grant in ("g1", "g2", "g3")]
        async with asyncio.timeout(7):  # 4 s each
            await server.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_a_grant_that_ended_takes_its_processes_along_and_what_is_under_way_hears_it_at_once() -> None:
    async with upstream(*RAW_STDIO, "stubborn") as server:
        session, others = await opened(server), await opened(server, "g2")
        pids = [(await result(server, post("x", session=owned)))["pid"] for owned in (session, None)]
        stream = Listening(await server.send(get(session)))
        held = [
            asyncio.create_task(server.send(post("test/hold", {"name": "a"}, session=owned)))
            for owned in (session, None)
        ]
        await asyncio.sleep(0)
        assert server.tenants == {"g1", "g2"}
        releasing = asyncio.create_task(server.release("g1"))
        for interrupted in held:
            with pytest.raises(UpstreamInterrupted, match="The grant ended"):
                await interrupted
        assert await stream.ended()
        assert not releasing.done()  # a process that will not go takes its time
        assert server.tenants == {"g2"}
        await releasing
        for pid in pids:
            await gone(pid)
        with pytest.raises(SessionUnknown):
            await server.send(post("x", session=session))
        assert await result(server, post("x", session=others, grant="g2"))


async def test_killing_waits_for_nothing_and_leaves_nothing() -> None:
    async with upstream(*RAW_STDIO, "stubborn") as server:
        session = await opened(server)
        told = [
            await result(server, post("test/spawn", {"own_session": own}, session=owned))
            for owned, own in ((session, True), (None, False))
        ]
        closing = asyncio.create_task(server.close())
        await asyncio.sleep(0)
        server.kill()
        for process in told:
            await gone(process["pid"])
            await gone(process["child"])
        await closing
        with pytest.raises(UpstreamUnreachable):
            await opened(server)


def test_it_ends_on_the_loop_that_the_server_runs_on() -> None:
    async def story() -> None:
        await test_a_process_that_dies_interrupts_what_is_under_way_and_its_session_is_over()
        await test_a_process_that_closes_its_output_is_over()
        await test_closing_leaves_nothing_behind_not_even_children_of_the_process()

    uvloop.run(story())
