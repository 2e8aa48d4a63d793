"""Several workers of one `broker serve` are one broker on one address, also when one of them is killed."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from broker.domain.approvals import State
from broker.front import worker_of
from broker.store import grants
from tests.cli.test_stop import gone
from tests.crashes.caller import Caller
from tests.crashes.house import ALICE, House, Left, Running
from tests.gateway.scene import CLIENT, OWNER, Agent, modern
from tests.servers import RAW_STDIO, ROOT

PENDING, SUCCEEDED = State.PENDING, State.SUCCEEDED
INITIALIZE = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": CLIENT}
on_postgresql = pytest.mark.parametrize("new_store_url", ["postgresql"], indirect=True)


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def workers(running: Running) -> set[int]:
    pid = running.process.process.pid
    return {int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def share(house: House) -> None:
    """Let its brokers have two workers, before a server of processes beside the other."""
    config = house.shell.folder / "broker.toml"
    (house.shell.folder / "open.json").write_text('{"version": "1", "default": "allow"}')
    config.write_text(
        config.read_text().replace("port = 0", "port = 0\nworkers = 2")
        + f"[upstreams.raw]\ncommand = {json.dumps(RAW_STDIO)}\nenv = {{ PYTHONPATH = {json.dumps(str(ROOT))} }}\n"
        + 'policy = "open.json"\n'
    )


async def agent_of(house: House, worker: int) -> Caller:
    """One whose grant belongs to a worker."""
    names = frozenset({"one", "raw"})
    while True:
        new = await house.store.write(
            lambda tx: grants.create(tx, "cli:test", label="agent", owner=OWNER, upstreams=names, expires_at=None)
        )
        if worker_of(new.token.encode(), 2) == worker:
            return Caller(Agent("", new.grant, new.token, house.http))


async def server_of(caller: Caller, url: str, session: str | None = None) -> int:
    """The process of the agent's own server, asked over a connection of its own."""
    caller.agent.url, alone = url, {"Connection": "close"}
    if session is None:
        return (await (await caller.agent.send("raw", modern("test/pid"), alone)).message())["result"]["pid"]
    request: dict[str, Any] = {"jsonrpc": "2.0", "id": 7, "method": "test/pid", "params": {}}
    return (await (await caller.agent.send("raw", request, alone, session=session)).message())["result"]["pid"]


@on_postgresql
async def test_agents_are_spread_over_workers_and_each_stays_at_its_own(house: House) -> None:
    share(house)
    async with house.broker() as running:
        url, started = running.process.url, workers(running)
        agents = [await agent_of(house, number) for number in (0, 0, 1, 1)]
        servers = [await server_of(agent, url) for agent in agents]
        at = [parent(server) for server in servers]
        assert (at[0], at[2]) == (at[1], at[3])
        assert {at[0], at[2]} == started
        for agent in agents:
            session = (await agent.agent.send("raw", INITIALIZE)).headers["mcp-session-id"]
            assert len({await server_of(agent, url, session) for _ in range(4)}) == 1
        elsewhere = await agent_of(house, 1 - worker_of(house.tokens[ALICE.email].encode(), 2))
        call = running.asks(elsewhere)
        await running.approve(await running.approval(elsewhere, PENDING))
        assert (await call)["status"] == "approved"
        for pid in started:  # as service managers do, which signal every process of a service
            os.kill(pid, signal.SIGTERM)
    assert await house.left(elsewhere) == Left([SUCCEEDED], (0, 1), 1)
    for pid in (*started, *servers):
        await gone(pid)


@on_postgresql
async def test_a_worker_that_is_killed_is_started_again_and_missed_by_its_own_agents_alone(house: House) -> None:
    share(house)
    async with house.dying() as running:
        url, started = running.process.url, workers(running)
        waits, stays = await agent_of(house, 0), await agent_of(house, 1)
        victim = parent(await server_of(waits, url))
        survivor = parent(await server_of(stays, url))
        running.asks(waits)
        here = running.asks(stays)
        for caller in (waits, stays):
            await running.approval(caller, PENDING)
        os.kill(victim, signal.SIGKILL)
        await running.approval(waits, PENDING, "gone")
        await running.runs_for_its_retry(waits)
        await running.approve(await running.approval(stays, PENDING))
        assert (await here)["status"] == "approved"
        successor = parent(await server_of(waits, url))
        assert workers(running) == {survivor, successor}
        assert successor not in started
        assert "Worker 0 ended (signal 9). It is started again in 0 s." in running.process.log
    assert await house.left(waits) == await house.left(stays) == Left([SUCCEEDED], (0, 1), 1)
    for pid in (survivor, successor):  # they end with the process that started them, though it was killed
        await gone(pid)
