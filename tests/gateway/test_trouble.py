"""When something is broken: servers that do not start or lie, a store that cannot be used, a broker that stops."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys
import threading
from collections.abc import AsyncGenerator, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response, StreamingResponse

from broker.approvals.feed import Feed
from broker.approvals.service import Approvals
from broker.domain.approvals import Decision
from broker.store.writer import Store
from tests.gateway.conftest import HELD
from tests.gateway.processes import children_running
from tests.gateway.scene import APPROVER, CLIENT, HOLD_ACT, Agent, Scene, block, playing
from tests.gateway.streams import progress, sse
from tests.servers import BOUND, features_stdio
from tests.servers.scripted import Message, Scripted, result, said, tool

pytestmark = pytest.mark.timeout(60)


@contextlib.contextmanager
def missing(folder: Path, table: str) -> Generator[None]:
    """While inside, the store has no such table, as if its disk had failed."""
    with contextlib.closing(
        sqlite3.connect(folder / "broker.db", isolation_level=None, timeout=BOUND, check_same_thread=False)
    ) as store:
        store.execute("PRAGMA legacy_alter_table = ON")
        store.execute(f"ALTER TABLE {table} RENAME TO away")
        try:
            yield
        finally:
            store.execute(f"ALTER TABLE away RENAME TO {table}")


@pytest.fixture
async def own(tmp_path: Path, server: Scripted) -> AsyncGenerator[Scene]:
    """A broker that the test may break."""
    async with playing(tmp_path, {"one": {"url": server.url, "policy": HOLD_ACT}}) as made:
        yield made


# -- servers ----------------------------------------------------------------------------------------------------------

NONSENSE = "import sys\nprint('Welcome!', flush=True)\nfor line in sys.stdin: print('what?', flush=True)"


@pytest.fixture(scope="module")
async def broken(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Scene]:
    """A broker before servers that are none."""
    commands = {
        "absent": ["/no/such/command"],
        "exits": [sys.executable, "-c", "raise SystemExit(3)"],
        "babbles": [sys.executable, "-c", NONSENSE],
    }
    upstreams: dict[str, Any] = {name: {"command": argv, "policy": HOLD_ACT} for name, argv in commands.items()}
    async with playing(tmp_path_factory.mktemp("broken"), upstreams) as made:
        yield made


@pytest.mark.parametrize("name", ["absent", "exits"])
@pytest.mark.parametrize("tool_name", ["look", "act"])
async def test_a_server_that_does_not_start_gets_a_call_answered_with_what_is_wrong(
    broken: Scene, name: str, tool_name: str
) -> None:
    agent = await broken.agent()
    answer = await (await agent.call(name, tool_name)).message()
    words = answer["result"]["content"][0]["text"]
    assert answer["result"]["isError"] is True
    assert f"The MCP server '{name}'" in words or block(answer)["status"] == "interrupted"
    assert ("may or may not have run" in words) != ("Nothing ran" in words)
    assert block(answer)["status"] == "unavailable" or (name, tool_name) == ("exits", "look")


@pytest.mark.parametrize("name", ["absent", "exits"])
async def test_a_server_that_does_not_start_gets_a_handshake_answered_with_what_is_wrong(
    broken: Scene, name: str
) -> None:
    agent = await broken.agent()
    request = {"jsonrpc": "2.0", "id": 3, "method": "initialize", "params": CLIENT}
    answer = await (await agent.send(name, request)).message()
    assert answer["id"] == 3
    assert name in answer["error"]["message"]


async def test_a_server_that_babbles_is_ended_when_its_client_gives_up(broken: Scene) -> None:
    agent = await broken.agent()
    request = {"jsonrpc": "2.0", "id": 3, "method": "initialize", "params": CLIENT}
    asking = asyncio.ensure_future(agent.send("babbles", request))
    while not children_running("what?"):  # noqa: ASYNC110 - nobody tells when a process starts
        await asyncio.sleep(0)
    asking.cancel()
    async with asyncio.timeout(BOUND):
        while children_running("what?"):  # noqa: ASYNC110 - nor when it is gone
            await asyncio.sleep(0)


async def test_a_server_that_dies_while_it_lists_its_tools_leaves_no_doubt_that_nothing_ran(
    small: Scene, server: Scripted
) -> None:
    async def die(message: Message) -> Response:
        async def broken_off() -> AsyncGenerator[bytes]:
            yield b"data: {"
            raise ConnectionAbortedError

        return StreamingResponse(broken_off(), media_type="text/event-stream")

    server.on["tools/list"] = die
    answer = await (await (await small.agent()).call("one", "act")).message()
    words = answer["result"]["content"][0]["text"]
    assert block(answer)["status"] == "unavailable"
    assert "Nothing ran" in words
    assert "may" not in words
    assert server.calls == []


@pytest.mark.parametrize(
    "described",
    [
        {**tool("act"), "description": "half \ud800"},
        {**tool("act"), "description": "a\0b"},
        {"name": "act"},
        {"name": "act", "inputSchema": None, "description": 7},
    ],
)
async def test_an_odd_definition_is_held_or_refused_and_never_runs_unasked(
    small: Scene, server: Scripted, described: dict[str, Any]
) -> None:
    server.tools = [7, None, described]  # pyright: ignore[reportAttributeAccessIssue]
    agent = await small.agent()
    held = await agent.call("one", "act")
    assert held.status == 200
    if "\ud800" in str(described.get("description")):
        assert block(await held.message())["status"] == "unavailable"
        assert server.calls == []
    else:
        await small.review(agent)
        assert block(await held.message())["status"] == "approved"


async def test_a_list_of_tools_without_an_end_is_given_up(small: Scene, server: Scripted) -> None:
    async def endless(message: Message) -> Response:
        return result(message, {"tools": [], "nextCursor": "more"})

    server.on["tools/list"] = endless
    answer = await (await (await small.agent()).call("one", "act")).message()
    assert block(answer)["status"] == "unavailable"
    assert server.calls == []


async def test_a_client_whose_session_the_server_forgot_is_told_so_for_held_tools_too(
    small: Scene, server: Scripted
) -> None:
    """404 is what makes it open a new one (2025-11-25, Session Management)."""
    agent = await small.agent()
    session = await agent.open("one")
    server.sessions.clear()
    for name in ("look", "act"):
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name}}
        assert (await agent.send("one", call, session=session)).status == 404


async def test_a_session_that_ends_while_its_call_is_held_leaves_the_approval_to_the_next(
    small: Scene, server: Scripted
) -> None:
    agent = await small.agent()
    session = await agent.open("one")
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "act"}}
    held = await agent.send("one", call, session=session)
    approval = await small.submitted(agent)
    server.sessions.clear()
    await small.decide(approval)
    facts = block(await held.message())
    assert (facts["status"], facts["approval_id"]) == ("unavailable", approval)
    again = await agent.send("one", call, session=await agent.open("one"))
    assert block(await again.message())["approval_id"] == approval


# -- the store --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tool_name", "table"), [("look", "audit"), ("look", "contents"), ("act", "approvals")])
async def test_a_call_that_cannot_be_recorded_does_not_run(
    own: Scene, server: Scripted, tmp_path: Path, tool_name: str, table: str
) -> None:
    agent = await own.agent()
    assert block(await refused(own, agent, tmp_path, tool_name, table))["status"] == "unavailable"
    assert server.calls == []
    answer = await agent.call("one", tool_name)
    if tool_name == "act":
        await own.review(agent)
    assert (await answer.message())["result"]["isError"] is False


async def refused(scene: Scene, agent: Agent, folder: Path, name: str, table: str) -> dict[str, Any]:
    with missing(folder, table):
        return await (await agent.call("one", name)).message()


async def test_a_grant_that_cannot_be_looked_up_is_503_and_nothing_runs(
    own: Scene, server: Scripted, tmp_path: Path
) -> None:
    agent = await own.agent()
    with missing(tmp_path, "grants"):
        answer = await agent.call("one", "look")
        assert answer.status == 503
    assert server.calls == []
    assert (await agent.call("one", "look")).status == 200


class OneThread(ThreadPoolExecutor):
    """Does one thing after the other, and tells when it is asked for something."""

    def __init__(self) -> None:
        super().__init__(1)
        self.asked = asyncio.Event()

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.asked.set()
        return super().submit(fn, *args, **kwargs)


async def test_a_decision_that_the_held_call_could_not_read_at_once_is_not_missed(own: Scene, tmp_path: Path) -> None:
    """Another process decided. One thread does all that is read here, in order: the store goes away between the
    decision and the look at it."""
    executor, busy, table = OneThread(), threading.Event(), contextlib.ExitStack()
    store, threads = own.broker.store, own.broker.store.lookers
    store.lookers = executor
    agent = await own.agent()
    held = await agent.call("one", "act")
    approval = await own.submitted(agent)
    executor.submit(busy.wait, BOUND)
    executor.submit(table.enter_context, missing(tmp_path, "approvals"))
    executor.asked.clear()
    ours = own.broker.approvals
    other = Store(f"sqlite:///{tmp_path / 'broker.db'}", ours.clock)
    elsewhere = Approvals(other, ours.clock, ours.keyring, Feed(other), ours.rules)
    try:
        await elsewhere.reviews.review(approval, APPROVER, Decision.APPROVE, channel="api")
        await executor.asked.wait()  # the feed's look at it stands in the line
        busy.set()
        await asyncio.wrap_future(executor.submit(bool))  # it has failed by now
        assert not held.response.content.at_eof()
    finally:
        await asyncio.wrap_future(executor.submit(table.close))
        store.lookers = threads
        other.close()
    assert block(await held.message())["status"] == "approved"


async def test_that_a_caller_left_is_noted_once_the_store_can_be_written_again(own: Scene, tmp_path: Path) -> None:
    agent = await own.agent()
    held = await agent.call("one", "act")
    approval = await own.submitted(agent)
    with missing(tmp_path, "approvals"):
        held.leave()
        assert block(await refused_hold(agent))["status"] == "unavailable"
    await own.happened("approval.abandoned", agent)
    assert (await own.broker.approvals.get(approval)).caller == "gone"


async def test_a_ticket_is_given_though_the_store_is_away_and_can_be_used_once_it_is_back(
    tmp_path: Path, server: Scripted
) -> None:
    brief = {"patience": timedelta(milliseconds=200)}
    async with playing(tmp_path, {"one": {"url": server.url, "policy": HOLD_ACT}}, approvals=brief) as scene:
        agent = await scene.agent()
        held = await agent.call("one", "act")
        approval = await scene.submitted(agent)
        with missing(tmp_path, "approvals"):
            told = block(await held.message())
            assert (told["status"], told["approval_id"]) == ("pending", approval)
            assert block(await (await agent.call("one", "act")).message())["status"] == "unavailable"
        await scene.happened("approval.abandoned", agent)
        await scene.decide(approval)
        assert block(await (await agent.call("one", "act")).message())["approval_id"] == approval
        assert len(server.calls) == 1


async def test_a_ticket_of_a_broker_that_stops_while_the_store_is_away_is_good_at_its_successor(
    tmp_path: Path, server: Scripted
) -> None:
    upstreams = {"one": {"url": server.url, "policy": HOLD_ACT}}
    with contextlib.ExitStack() as store:
        async with playing(tmp_path, upstreams) as scene:
            agent = await scene.agent()
            held = await agent.call("one", "act")
            approval = await scene.submitted(agent)
            reading = asyncio.ensure_future(held.message())
            store.enter_context(missing(tmp_path, "approvals"))
        assert block(await reading)["status"] == "pending"
    async with playing(tmp_path, upstreams) as scene:
        again = Agent(scene.broker.url, agent.grant, agent.token, scene.http)
        waiting = await again.call("one", "act")
        await scene.happened("approval.resumed", again)
        await scene.decide(approval)
        assert block(await waiting.message())["approval_id"] == approval


async def refused_hold(agent: Agent) -> dict[str, Any]:
    return await (await agent.call("one", "act", {"another": 1})).message()


async def test_an_approval_whose_claim_cannot_be_written_runs_nothing_and_stays_usable(
    own: Scene, server: Scripted, tmp_path: Path
) -> None:
    agent = await own.agent()
    held = await agent.call("one", "act")
    approval = await own.submitted(agent)
    asked, answer = server.list_tools_when_told()
    await own.decide(approval)
    await asyncio.wait_for(asked.wait(), BOUND)
    with missing(tmp_path, "approvals"):
        answer.set()
        facts = block(await held.message())
    assert (facts["status"], facts["approval_id"]) == ("unavailable", approval)
    assert server.calls == []
    await own.happened("approval.abandoned", agent)
    again = await agent.call("one", "act")
    assert block(await again.message())["approval_id"] == approval
    assert len(server.calls) == 1


async def test_a_result_that_exists_is_told_even_when_it_cannot_be_recorded(
    own: Scene, server: Scripted, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as store:

        async def act(message: Message) -> Response:
            store.enter_context(missing(tmp_path, "approvals"))
            return said(message)

        server.on["tools/call"] = act
        agent = await own.agent()
        held = await agent.call("one", "act")
        approval = (await own.review(agent)).id
        answer = await held.message()
    assert answer["result"]["content"][0]["text"] == "done"
    assert block(answer)["status"] == "approved"
    await own.happened("approval.succeeded", agent)  # once the store is back
    assert (await own.broker.approvals.get(approval)).state == "succeeded"


async def test_an_interruption_that_cannot_be_recorded_is_told_and_recorded_later(
    own: Scene, server: Scripted, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as store:

        async def act(message: Message) -> Response:
            store.enter_context(missing(tmp_path, "approvals"))
            return Response(b"nonsense", media_type="application/json")

        server.on["tools/call"] = act
        agent = await own.agent()
        held = await agent.call("one", "act")
        approval = (await own.review(agent)).id
        answer = await held.message()
    assert block(answer)["status"] == "interrupted"
    await own.happened("approval.interrupted", agent)
    assert (await own.broker.approvals.get(approval)).state == "interrupted"


# -- a broker that stops ----------------------------------------------------------------------------------------------


async def test_a_broker_that_stops_answers_its_held_calls_and_its_successor_takes_them_up(
    tmp_path: Path, effects: Path
) -> None:
    upstreams = {"features": {**features_stdio(effects), "policy": HELD}}
    async with playing(tmp_path, upstreams) as scene:
        agent = await scene.agent()
        session = await agent.open("features")
        params = {"name": "append_line", "arguments": {"line": "after the restart"}}
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        legacy = await agent.send("features", call, session=session)
        approval = await scene.submitted(agent)
        modern = await agent.call("features", "echo", {"text": "x"})
        await scene.submitted(agent, 2)
        reading = [asyncio.ensure_future(held.message()) for held in (legacy, modern)]
        processes = set(children_running("feature_server --stdio"))
        assert len(processes) >= 2
    for answer in await asyncio.gather(*reading):
        told = block(answer)
        assert (told["status"], told["retry"]) == ("pending", "same")
        assert told["review_url"].endswith(told["approval_id"])
        assert "deadline" in told
        assert "Repeat the identical call" in answer["result"]["content"][0]["text"]
    assert len(processes - set(children_running("feature_server --stdio"))) == 2
    async with playing(tmp_path, upstreams) as scene:
        pending = await scene.broker.approvals.get(approval)
        assert (pending.state, pending.caller) == ("pending", "gone")
        again = Agent(scene.broker.url, agent.grant, agent.token, scene.http)
        held = await again.send("features", call, session=await again.open("features"))
        await scene.happened("approval.resumed", again)
        await scene.decide(approval)
        assert block(await held.message())["approval_id"] == approval
    assert effects.read_text().splitlines().count("after the restart") == 1  # noqa: ASYNC240


async def test_a_broker_stops_though_an_approved_call_never_ends(tmp_path: Path, server: Scripted) -> None:
    began = asyncio.Event()

    async def forever(message: Message) -> Response:
        began.set()
        await asyncio.Event().wait()
        return said(message)

    server.on["tools/call"] = forever
    upstreams = {"one": {"url": server.url, "policy": HOLD_ACT}}
    async with asyncio.timeout(BOUND), playing(tmp_path, upstreams, server={"stop_within": "3s"}) as scene:
        agent = await scene.agent()
        held = await agent.call("one", "act")
        approval = (await scene.review(agent)).id
        await began.wait()
        reading = asyncio.ensure_future(held.message())
    assert block(await reading)["status"] == "interrupted"
    async with playing(tmp_path, upstreams) as scene:
        assert (await scene.broker.approvals.get(approval)).state == "interrupted"


async def test_a_broker_stops_though_a_caller_does_not_read_what_it_is_told(tmp_path: Path, server: Scripted) -> None:
    flooded = asyncio.Event()

    async def flood(message: Message) -> Response:
        async def much() -> AsyncGenerator[bytes]:
            for value in range(1, 200):
                yield sse(progress(message, value, message="x" * (1 << 18)))
                flooded.set()
            yield b""

        return StreamingResponse(much(), media_type="text/event-stream")

    server.on["tools/call"] = flood
    upstreams = {"one": {"url": server.url, "policy": HOLD_ACT}}
    async with asyncio.timeout(BOUND), playing(tmp_path, upstreams, server={"stop_within": "3s"}) as scene:
        agent = await scene.agent()
        held = await agent.call("one", "act", progressToken="t")
        await scene.review(agent)
        await flooded.wait()
    held.leave()
