"""Limits count when a call is sent: what was long on its way to its server counts from there, or is not sent."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from broker.errors import UpstreamUnreachable
from broker.gateway.upstreams import UpstreamRequest
from broker.policy.load import parse_policy
from tests.clock import MovableClock
from tests.gateway.scene import Agent, Scene, block, playing, tool_call
from tests.gateway.stdio import post, result, said, upstream
from tests.gateway.test_https_upstream import certified
from tests.servers import BOUND, read_http
from tests.servers.scripted import Message, Scripted
from tests.servers.scripted import said as done

pytestmark = pytest.mark.timeout(60)

LIMIT = {"counter": "c", "window": "second", "max": 1, "scope": "upstream"}
POLICY: dict[str, Any] = {
    "default": "allow",
    "tools": {"look": {"limits": [LIMIT]}, "act": {"action": "hold", "limits": [LIMIT]}},
}


class SlowToConnect:
    """A server over TLS that closes after each answer. While it is shut, who connects waits for a door of their own."""

    def __init__(self, authority: trustme.CA) -> None:
        self._tls = certified(authority)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self._answering: set[asyncio.Task[None]] = set()
        self.shut = False
        self.doors = asyncio.Queue[asyncio.Event]()
        self.shut_after: str | None = None
        self.calls: list[str] = []

    @property
    def url(self) -> str:
        return f"https://localhost:{self._listener.getsockname()[1]}/mcp"

    async def serve(self) -> None:
        """Take connections until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                connected, _ = await loop.sock_accept(self._listener)
                door = asyncio.Event()
                if self.shut:
                    self.doors.put_nowait(door)
                else:
                    door.set()
                task = asyncio.create_task(self._answer(connected, door))
                self._answering.add(task)
        finally:
            for task in self._answering:
                task.cancel()
            self._listener.close()

    async def knocked(self) -> asyncio.Event:
        """The door of the next one who waits."""
        return await asyncio.wait_for(self.doors.get(), BOUND)

    async def _answer(self, connected: socket.socket, door: asyncio.Event) -> None:
        await door.wait()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, connected, ssl=self._tls)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            _, body = await read_http(reader)
            message: Message = json.loads(body)
            if message["method"] == "tools/call":
                self.calls.append(message["params"]["name"])
            if message["method"] == self.shut_after:
                self.shut = True
            answer = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": RESULTS[message["method"]]}).encode()
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: "
            transport.write(head + b"%d\r\n\r\n" % len(answer) + answer)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
        transport.close()


COMPLETE = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
RESULTS: dict[str, dict[str, Any]] = {
    "server/discover": {
        "supportedVersions": ["2026-07-28"],
        "serverInfo": {"name": "slow", "version": "1"},
        "capabilities": {"tools": {}},
        **COMPLETE,
    },
    "tools/list": {
        "tools": [{"name": name, "inputSchema": {"type": "object"}} for name in ("look", "act")],
        **COMPLETE,
    },
    "tools/call": {"content": [{"type": "text", "text": "done"}], "isError": False, "resultType": "complete"},
}


@contextlib.asynccontextmanager
async def slow_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[SlowToConnect]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    server = SlowToConnect(authority)
    serving = asyncio.create_task(server.serve())
    try:
        yield server
    finally:
        serving.cancel()
        await asyncio.wait([serving])


@pytest.fixture
async def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[SlowToConnect]:
    async with slow_server(tmp_path, monkeypatch) as server:
        yield server


@pytest.fixture
async def before_slow(slow: SlowToConnect, clock: MovableClock, tmp_path: Path) -> AsyncGenerator[Scene]:
    """A broker before it, that has asked it for its versions already."""
    async with playing(tmp_path, {"one": {"url": slow.url, "policy": POLICY}}, clock=clock) as scene:
        await (await (await scene.agent()).call("one", "warm-up")).message()
        slow.calls.clear()
        yield scene


async def asked(agent: Agent, tool: str) -> dict[str, Any]:
    return await (await agent.call("one", tool)).message()


def status(answer: dict[str, Any]) -> str:
    return answer["result"].get("_meta", {}).get("approval-broker/decision", {}).get("status", "done")


async def test_calls_of_two_windows_that_wait_for_a_connection_are_not_sent_together(
    before_slow: Scene, slow: SlowToConnect, clock: MovableClock
) -> None:
    agent = await before_slow.agent()
    slow.shut = True
    asking: list[asyncio.Future[dict[str, Any]]] = []
    doors: list[asyncio.Event] = []
    for _ in range(3):
        asking.append(asyncio.ensure_future(asked(agent, "look")))
        doors.append(await slow.knocked())
        clock.advance(timedelta(seconds=2))
    told: list[dict[str, Any]] = []
    for door, answer in zip(doors, asking, strict=True):
        door.set()
        told.append(await asyncio.wait_for(answer, BOUND))
    assert [status(each) for each in told] == ["done", "limited", "limited"]
    assert slow.calls == ["look"]
    limited = block(told[1])
    assert (limited["rule"], limited["retry"], limited["retry_after"]) == ("tools.look.limits[0]", "later", 2)
    assert (await before_slow.kinds(agent)).count("call.limited") == 2
    clock.advance(timedelta(seconds=2))
    slow.shut = False
    assert status(await asked(agent, "look")) == "done"


async def test_a_call_that_was_long_on_its_way_counts_from_when_it_is_sent(
    before_slow: Scene, slow: SlowToConnect, clock: MovableClock
) -> None:
    agent = await before_slow.agent()
    slow.shut = True
    asking = asyncio.ensure_future(asked(agent, "look"))
    door = await slow.knocked()
    clock.advance(timedelta(seconds=5))
    door.set()
    assert status(await asyncio.wait_for(asking, BOUND)) == "done"
    assert status(await asked(agent, "look")) == "limited"
    assert slow.calls == ["look"]


async def test_an_approved_call_that_is_late_for_its_limit_is_not_sent_and_can_be_used_later(
    before_slow: Scene, slow: SlowToConnect, clock: MovableClock
) -> None:
    agent = await before_slow.agent()
    held = await agent.call("one", "act")
    approval = await before_slow.submitted(agent)
    slow.shut_after = "tools/list"
    await before_slow.decide(approval)
    door = await slow.knocked()  # it is claimed, and waits for a connection
    slow.shut, slow.shut_after = False, None
    clock.advance(timedelta(seconds=2))
    assert status(await asked(agent, "look")) == "done"
    door.set()
    answer = await held.message()
    assert answer["result"]["content"][0]["text"].endswith("valid for a while: repeat the identical call.")
    late = block(answer)
    assert (late["status"], late["retry"], late["approval_id"]) == ("limited", "later", approval)
    assert slow.calls == ["look"]
    clock.advance(timedelta(seconds=2))
    assert block(await asked(agent, "act"))["status"] == "approved"
    assert slow.calls == ["look", "act"]


@pytest.mark.parametrize(("era", "why"), [("legacy", "lost"), ("legacy", "cancelled"), ("modern", "cancelled")])
async def test_a_caller_that_leaves_between_the_claim_and_the_call_gets_nothing_run_and_can_come_back(
    before_slow: Scene, slow: SlowToConnect, era: str, why: str
) -> None:
    agent = await before_slow.agent()
    call = tool_call("act")
    if era == "legacy":
        del call["params"]["_meta"]
    held = await agent.send("one", call)
    approval = await before_slow.submitted(agent)
    slow.shut_after = "tools/list"
    await before_slow.decide(approval)
    door = await slow.knocked()  # it is claimed, and waits for a connection
    slow.shut, slow.shut_after = False, None
    if (era, why) == ("legacy", "cancelled"):
        notice = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
        assert (await agent.send("one", notice)).status == 202
    else:
        held.leave()
    assert (await before_slow.happened("approval.abandoned", agent)).detail["why"] == why
    door.set()
    row = await before_slow.happened("approval.released", agent)
    assert row.detail["why"] == "The agent stopped waiting before the call was sent."
    released = await before_slow.broker.approvals.get(approval)
    assert (released.state, released.caller) == ("approved", "gone")
    assert (released.withdraw_at is not None) is (why == "cancelled")
    assert slow.calls == []
    assert "approval.cancelled" not in await before_slow.kinds(agent)
    answer = await (await agent.send("one", call)).message()
    assert block(answer)["approval_id"] == approval
    assert slow.calls == ["act"]


@pytest.mark.parametrize("limits", [POLICY["tools"]["act"]["limits"], []], ids=["limited", "unlimited"])
async def test_an_approved_call_that_is_late_is_not_sent_when_the_policy_denies_it_by_now(
    before_slow: Scene, slow: SlowToConnect, clock: MovableClock, limits: list[Any]
) -> None:
    held_only = {"version": "1", "default": "allow", "tools": {"act": {"action": "hold", "limits": limits}}}
    before_slow.broker.policies["one"].policy = parse_policy(json.dumps(held_only), "held.json")
    agent = await before_slow.agent()
    held = await agent.call("one", "act")
    approval = await before_slow.submitted(agent)
    slow.shut_after = "tools/list"
    await before_slow.decide(approval)
    door = await slow.knocked()  # it is claimed, and waits for a connection
    stricter = json.dumps({"version": "1", "default": "allow", "tools": {"act": {"action": "deny"}}})
    before_slow.broker.policies["one"].policy = parse_policy(stricter, "stricter.json")
    clock.advance(timedelta(seconds=2))
    door.set()
    late = block(await held.message())
    assert (late["status"], late["rule"]) == ("denied", "tools.act.action")
    assert slow.calls == []


class Wanting:
    """A permit that is late until it is renewed, and may be refused."""

    def __init__(self, *, refused: bool = False) -> None:
        self.renewed = asyncio.Event()
        self._refused = refused

    def spend(self) -> bool:
        return self.renewed.is_set()

    async def renew(self) -> None:
        self.renewed.set()
        if self._refused:
            raise UpstreamUnreachable("too late")


def with_permit(request: UpstreamRequest, permit: Wanting) -> UpstreamRequest:
    return UpstreamRequest(
        request.method,
        request.grant_id,
        request.modern,
        request.message,
        request.headers,
        request.session,
        permit=permit,
    )


@pytest.mark.parametrize("refused", [False, True])
async def test_a_call_waits_for_a_process_that_does_not_read_before_it_is_looked_at_again(refused: bool) -> None:
    async with upstream() as server:
        pid: int = (await result(server, post("who")))["pid"]
        os.kill(pid, signal.SIGSTOP)
        large = asyncio.ensure_future(server.send(post("large", {"x": "x" * 1_000_000}, id=2)))
        permit = Wanting(refused=refused)
        late = asyncio.ensure_future(server.send(with_permit(post("late", id=3), permit)))
        short = asyncio.ensure_future(server.send(post("short", id=4)))
        done, _ = await asyncio.wait((large, late, short), timeout=0.2)
        assert not done
        assert not permit.renewed.is_set()
        os.kill(pid, signal.SIGCONT)
        await asyncio.gather(large, short)
        if refused:
            with pytest.raises(UpstreamUnreachable, match="too late"):
                await late
        else:
            assert (await said(await late))["result"]["request"]["method"] == "late"
        seen = [message["method"] for message in (await result(server, post("test/seen")))["seen"]]
        assert seen == ["who", "large", *(() if refused else ("late",)), "short", "test/seen"]


async def test_ten_a_second_are_ten_a_second_at_the_server(tmp_path: Path, server: Scripted) -> None:
    policy = {"default": "allow", "tools": {"look": {"limits": [{**LIMIT, "max": 10}]}}}
    arrivals: dict[int, float] = {}
    asked_at: dict[int, float] = {}

    async def note(message: Message) -> Any:
        arrivals[message["id"]] = time.time()
        return done(message)

    server.on["tools/call"] = note
    async with playing(tmp_path, {"one": {"url": server.url, "policy": policy}}) as scene:
        agent = await scene.agent()
        until = time.time() + 2.5

        async def insist(worker: int) -> None:
            number = worker
            while time.time() < until:
                number += 100
                asked_at[number] = time.time()
                await (await agent.send("one", tool_call("look", request_id=number))).message()

        await asyncio.gather(*(insist(worker) for worker in range(3)))
    assert len(arrivals) >= 20
    # each was sent between the two instants that are known
    for at in asked_at.values():
        surely = sum(asked_at[number] >= at and arrived <= at + 1 for number, arrived in arrivals.items())
        assert surely <= 10
