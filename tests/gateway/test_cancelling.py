"""A call that is cancelled while it runs: the server is told, and the record says what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response, StreamingResponse

from broker.domain.audit import Row
from tests.gateway.scene import LEGACY, Agent, Bare, Scene, block
from tests.gateway.streams import sse
from tests.servers import BOUND
from tests.servers.scripted import Message, Scripted, said

pytestmark = pytest.mark.timeout(60)

CANCELLED = "The agent cancelled the call while it ran: it may or may not have run."


def legacy(request_id: int | str = "c1") -> Message:
    return {"jsonrpc": "2.0", "id": request_id, "method": "tools/call", "params": {"name": "act", "arguments": {}}}


def notice(request_id: int | str = "c1", **more: Any) -> Message:
    return {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": request_id, **more}}


class Running:
    """A call of the scripted server that runs until the test says what comes of it."""

    def __init__(self, server: Scripted) -> None:
        self.began, self.told, self.end = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.answer: Callable[[Message], Response] = said
        server.on["tools/call"] = self._run
        server.on["notifications/cancelled"] = self._hear

    async def _run(self, message: Message) -> Response:
        self.began.set()
        await self.end.wait()
        return self.answer(message)

    async def _hear(self, message: Message) -> Response:
        self.told.set()
        return Response(status_code=202)


@pytest.fixture
def running(server: Scripted) -> Running:
    """What `server` makes of the next call."""
    return Running(server)


async def history(scene: Scene, agent: Agent) -> list[Row]:
    """The rows about what ran, from its claim on."""
    rows = [row for row in await scene.of(agent) if row.kind.value.startswith("approval.")]
    kinds = [row.kind.value for row in rows]
    return rows[kinds.index("approval.claimed") + 1 :]


async def ended(scene: Scene, agent: Agent, kind: str) -> list[tuple[str, str | None]]:
    """What was recorded from the claim on, once it ended so, and why."""
    await scene.happened(f"approval.{kind}", agent)
    rows = await history(scene, agent)
    return [(row.kind.value.removeprefix("approval."), row.detail.get("why")) for row in rows]


# -- before 2026-07-28: a notification --------------------------------------------------------------------------------


def odd(message: Message) -> Response:
    return Response(b"nonsense", media_type="application/json")


def refused(message: Message) -> Response:
    error = {"code": -32800, "message": "Request cancelled"}
    return Response(sse({"jsonrpc": "2.0", "id": message["id"], "error": error}), media_type="text/event-stream")


def failing(message: Message) -> Response:
    return said(message, isError=True)


@pytest.mark.parametrize(
    ("answer", "end"), [(said, "succeeded"), (failing, "failed"), (refused, "failed"), (odd, "interrupted")]
)
async def test_a_legacy_cancel_is_passed_on_and_what_the_server_makes_of_it_is_recorded(
    small: Scene, server: Scripted, running: Running, answer: Callable[[Message], Response], end: str
) -> None:
    agent = await small.agent()
    session = await agent.open("one")
    held = await agent.send("one", legacy(), session=session)
    approval = (await small.review(agent)).id
    await asyncio.wait_for(running.began.wait(), BOUND)
    assert (await agent.send("one", notice(reason="tired"), session=session)).status == 202
    await asyncio.wait_for(running.told.wait(), BOUND)
    assert b"data:" not in await held.whole()
    [at] = [place for place, message in enumerate(server.seen) if message["method"] == "notifications/cancelled"]
    assert server.seen[at]["params"] == {"requestId": server.calls[0]["id"], "reason": "tired"}
    running_in, told_in = (server.sent[place]["mcp-session-id"] for place in (server.seen.index(server.calls[0]), at))
    assert running_in == told_in
    running.answer = answer
    running.end.set()
    rows = await ended(small, agent, end)
    assert rows[:2] == [("abandoned", "cancelled"), ("cancelled", "the server was told")]
    assert [kind for kind, _ in rows[2:]] == [end]
    assert (await small.broker.approvals.get(approval)).state == end
    again = await agent.send("one", legacy(), session=session)  # it was used: people are asked anew
    assert await small.submitted(agent, 2) != approval
    again.leave()


async def test_a_server_that_will_not_be_told_may_answer_all_the_same(
    small: Scene, server: Scripted, running: Running
) -> None:
    async def refuse(message: Message) -> Response:
        return Response(status_code=500)

    server.on["notifications/cancelled"] = refuse
    agent = await small.agent()
    held = await agent.send("one", legacy())
    await small.review(agent)
    await asyncio.wait_for(running.began.wait(), BOUND)
    await agent.send("one", notice())
    assert b"data:" not in await held.whole()
    await small.happened("approval.cancelled", agent)
    running.end.set()
    rows = await ended(small, agent, "succeeded")
    assert rows[1] == ("cancelled", "the server refused to hear of it (500)")


@pytest.mark.parametrize("cancels", [False, True])
async def test_a_lost_connection_is_no_cancel_and_a_cancel_may_still_come(
    small: Scene, server: Scripted, running: Running, cancels: bool
) -> None:
    agent = await small.agent()
    session = await agent.open("one")
    held = await agent.send("one", legacy(), session=session)
    approval = (await small.review(agent)).id
    await asyncio.wait_for(running.began.wait(), BOUND)
    held.leave()
    await small.happened("approval.abandoned", agent)
    assert (await small.broker.approvals.get(approval)).caller == "gone"
    if cancels:
        await agent.send("one", notice(), session=session)
        await asyncio.wait_for(running.told.wait(), BOUND)
    running.end.set()
    rows = await ended(small, agent, "succeeded")
    told = [("cancelled", "the server was told")] if cancels else []
    assert rows == [("abandoned", "lost"), *told, ("succeeded", None)]
    assert len(server.calls) == 1


# -- since 2026-07-28: a closed stream --------------------------------------------------------------------------------


@pytest.mark.parametrize("begun", [False, True], ids=["before the answer", "in the middle of it"])
async def test_a_modern_call_that_is_closed_closes_the_upstreams(
    small: Scene, server: Scripted, running: Running, begun: bool
) -> None:
    closed = asyncio.Event()

    async def stream(message: Message) -> Response:
        async def pieces() -> AsyncGenerator[bytes]:
            try:
                yield b": here\n\n"
                running.began.set()
                await asyncio.Event().wait()
            finally:
                closed.set()

        return StreamingResponse(pieces(), media_type="text/event-stream")

    if begun:
        server.on["tools/call"] = stream
    agent = await small.agent()
    held = await agent.call("one", "act")
    approval = (await small.review(agent)).id
    await asyncio.wait_for(running.began.wait(), BOUND)
    held.leave()
    rows = await ended(small, agent, "interrupted")
    assert rows == [("abandoned", "cancelled"), ("cancelled", "the server was told"), ("interrupted", CANCELLED)]
    assert (await small.broker.approvals.get(approval)).state == "interrupted"
    running.end.set()
    if begun:
        await asyncio.wait_for(closed.wait(), BOUND)


# -- over stdio -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_process_is_told_of_the_cancel(scene: Scene, agent: Agent, effects: Path, era: str) -> None:
    arguments, session = {"name": f"tired of {era}", "steps": 1}, None
    if era == "legacy":
        session = await agent.open("held-stdio")
        params = {"name": "slow", "arguments": arguments, "_meta": {"progressToken": 1}}
        held = await agent.send("held-stdio", {**legacy(), "params": params}, LEGACY, session=session)
        await begun(scene, agent, held)
        await agent.send("held-stdio", notice(), session=session)
    else:
        held = await agent.call("held-stdio", "slow", arguments, progressToken=1)
        await begun(scene, agent, held)
        held.leave()
    await scene.happened("approval.cancelled", agent)
    async with asyncio.timeout(BOUND):
        while f"cancelled tired of {era}" not in effects.read_text().splitlines():  # noqa: ASYNC110, ASYNC240
            await asyncio.sleep(0.01)
    if session is not None:  # its server owes no answer, which is waited for nonetheless
        await agent.send("held-stdio", method="DELETE", session=session)
    rows = await ended(scene, agent, "interrupted")
    assert rows[:2] == [("abandoned", "cancelled"), ("cancelled", "the server was told")]
    assert [kind for kind, _ in rows[2:]] == ["interrupted"]


async def begun(scene: Scene, agent: Agent, held: Bare) -> None:
    await scene.review(agent)
    while (await held.event())["params"]["message"] != "step 1":
        pass


# -- at the same moment -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_cancel_and_an_answer_at_the_same_moment_have_one_end(
    small: Scene, server: Scripted, running: Running, era: str
) -> None:
    agent = await small.agent()
    for turn in range(1, 7):
        running.began.clear()
        running.end.clear()
        asked = legacy(turn) if era == "legacy" else None
        held = await (agent.call("one", "act") if asked is None else agent.send("one", asked))
        approval = (await small.review(agent, nth=turn)).id
        await asyncio.wait_for(running.began.wait(), BOUND)
        cancel = asyncio.ensure_future(agent.send("one", notice(turn)) if asked is not None else left(held))
        for _ in range(turn):
            await asyncio.sleep(0)
        running.end.set()
        await cancel
        rest = await held.whole() if asked is not None else b""
        await settled(small)
        rows = await small.broker.approvals.history(approval)
        kinds = [row.kind.value.removeprefix("approval.") for row in rows]
        ends = [kind for kind in kinds if kind in ("succeeded", "interrupted")]
        assert len(ends) == 1
        assert (await small.broker.approvals.get(approval)).state == ends[0]
        assert kinds[-1] == ends[0]
        if b"data:" in rest:
            assert block(await held.message())["status"] == "approved"
    assert len(server.calls) == 6


def left(held: Bare) -> Coroutine[Any, Any, None]:
    async def leave() -> None:
        held.leave()

    return leave()


async def settled(scene: Scene) -> None:
    """Nothing is held or runs any more at the broker."""
    async with asyncio.timeout(BOUND):
        while scene.broker.approvals.claims.executing:  # noqa: ASYNC110
            await asyncio.sleep(0)
