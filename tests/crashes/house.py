"""A house whose broker dies; its store, its people, its agents and its MCP server outlive it.

What belongs here: a broker process on that store, what is said to it, its end, and a look at what it left. What does
not: what has to be so then.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import sqlalchemy as sa
from sqlmodel import Session

from broker.domain.approvals import Approval, State
from broker.domain.calls import UNIT
from broker.domain.people import Person, Role
from broker.stop_points import VARIABLE, Point
from broker.store import approvals, grants, people
from broker.store.approvals import ApprovalFilter
from broker.store.people import CredentialKind
from broker.store.writer import Store, Transaction
from tests.cli.conftest import Shell
from tests.crashes.caller import Caller
from tests.crashes.process import BrokerProcess, serving
from tests.gateway.scene import OWNER, Agent
from tests.servers import BOUND, PAUSE
from tests.servers.scripted import Scripted, tool

ALICE = Person("alice@example.com", frozenset({Role.APPROVER}))
BOB = Person("bob@example.com", frozenset({Role.APPROVER}))
HOLD: dict[str, Any] = {
    "action": "hold",
    "limits": [{"counter": "acts", "window": "day", "max": 2, "scope": "grant"}],
}
TOOLS: dict[str, Any] = {
    "act": HOLD,
    "act_soon": {**HOLD, "approval": {"timeout": "1s"}},
    "act_later": {**HOLD, "approval": {"timeout": "3s"}},
    "act_together": {**HOLD, "approval": {"quorum": 2}},
}


@dataclass(frozen=True)
class Left:
    """What there is of one agent's calls.

    Args:
        states: of its approvals, oldest first.
        slots: how many are reserved, and how many are counted.
        effects: how often a call of it reached the server.
    """

    states: list[State]
    slots: tuple[int, int]
    effects: int


@dataclass
class Running:
    """A broker process, and what people and agents say to it."""

    process: BrokerProcess
    http: aiohttp.ClientSession
    tokens: Mapping[str, str]
    calls: list[asyncio.Future[dict[str, Any]]] = field(default_factory=list[asyncio.Future[dict[str, Any]]])

    def asks(self, caller: Caller, tool: str = "act") -> asyncio.Future[dict[str, Any]]:
        """The agent calls a tool; gives the broker's block of the answer."""
        self.calls.append(call := asyncio.ensure_future(caller.ask(self.process.url, tool)))
        return call

    async def approval(self, caller: Caller, state: State, caller_is: str = "waiting") -> dict[str, Any]:
        """The agent's only approval in a state, whole, as soon as it is there and its caller is as given."""
        path = f"/api/v1/approvals?grant={caller.id}&state={state}"
        async with asyncio.timeout(BOUND):
            while not (found := (await self.get(path))["items"]) or found[0]["caller"] != caller_is:  # noqa: ASYNC110
                await asyncio.sleep(PAUSE)
        (one,) = found
        return await self.get(f"/api/v1/approvals/{one['id']}")

    async def approve(self, approval: Mapping[str, Any], by: Person = ALICE) -> None:
        """A person's yes, whether or not the broker lives to confirm it."""
        url = f"{self.process.url}/api/v1/approvals/{approval['id']}/decision"
        with contextlib.suppress(aiohttp.ClientConnectionError):
            async with self.http.post(url, json={"decision": "approve"}, headers=self._fields(by)) as answer:
                assert answer.status == 200, await answer.text()

    async def get(self, path: str) -> Any:
        """What the HTTP API, or a page, tells Alice."""
        async with self.http.get(self.process.url + path, headers=self._fields(ALICE)) as answer:
            assert answer.status == 200, await answer.text()
            return await (answer.json() if answer.content_type == "application/json" else answer.text())

    async def runs_for_its_retry(self, caller: Caller) -> None:
        """The agent's identical call waits, is approved and runs."""
        retry = self.asks(caller)
        await self.approve(await self.approval(caller, State.PENDING))
        assert (await retry)["status"] == "approved"

    async def is_told_as_unknown(self, caller: Caller) -> None:
        """People read in the API and on the card that the agent's call may or may not have run."""
        approval = await self.approval(caller, State.INTERRUPTED, "gone")
        last = approval["history"][-1]
        assert (last["kind"], last["actor"]) == ("approval.interrupted", "broker")
        why = "the broker stopped in the middle: it may or may not have run"
        assert last["detail"]["why"] == why
        assert f"It was cut off: {why}." in await self.get(f"/approvals/{approval['id']}")

    async def hang_up(self) -> None:
        """End the calls whose broker is gone; a client of the SDK would try to get its answer for a while yet."""
        for call in self.calls:
            call.cancel()
        await asyncio.gather(*self.calls, return_exceptions=True)

    def _fields(self, by: Person) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[by.email]}"}


@dataclass
class House:
    """Everything but the broker."""

    shell: Shell
    store: Store
    server: Scripted
    http: aiohttp.ClientSession
    tokens: dict[str, str] = field(default_factory=dict[str, str])

    async def furnish(self, store_url: str) -> None:
        """Write the settings, let the people in, and give the server its tools."""
        folder = self.shell.folder
        (folder / "policy.json").write_text(json.dumps({"version": "1", "default": "deny", "tools": TOOLS}))
        (folder / "broker.toml").write_text(
            f'[server]\nport = 0\n[store]\nurl = "{store_url.replace("+psycopg", "")}"\n'
            f'[upstreams.one]\nurl = "{self.server.url}"\npolicy = "policy.json"\n'
        )
        (folder / "broker.secret").write_text("s" * 64)
        (folder / "broker.secret").chmod(0o600)
        for person in (ALICE, BOB):
            self.tokens[person.email] = await self.store.write(lambda tx, who=person: _let_in(tx, who))
        self.server.tools = [tool(name) for name in TOOLS]

    async def caller(self, client: str = "modern") -> Caller:
        """An agent with a grant of its own."""
        names = frozenset({"one"})
        new = await self.store.write(
            lambda tx: grants.create(tx, "cli:test", label="agent", owner=OWNER, upstreams=names, expires_at=None)
        )
        return Caller(Agent("", new.grant, new.token, self.http), client)

    @contextlib.asynccontextmanager
    async def broker(self) -> AsyncGenerator[Running]:
        """One that is asked to stop at the end of the block."""
        async with self._running({}) as running:
            yield running
            running.process.stop()
            assert await running.process.ended() == 0

    @contextlib.asynccontextmanager
    async def dying(self, point: Point | None = None) -> AsyncGenerator[Running]:
        """One that dies at `point`, which the end of the block waits for; without a point it is killed there."""
        async with self._running({VARIABLE: point.value} if point else {}) as running:
            yield running
            if point is None:
                running.process.kill()
            assert await running.process.ended() == -signal.SIGKILL
            assert (VARIABLE in running.process.log) is (point is not None)

    @contextlib.asynccontextmanager
    async def _running(self, environment: Mapping[str, str]) -> AsyncGenerator[Running]:
        async with serving(self.shell.folder, environment) as process:
            running = Running(process, self.http, self.tokens)
            try:
                yield running
            finally:
                await running.hang_up()
        assert "Traceback" not in process.log
        await asyncio.to_thread(self.shell.lines, "audit", "verify")

    async def approvals(self, caller: Caller) -> list[Approval]:
        """The agent's approvals as they stand in the store, oldest first."""
        mine = ApprovalFilter(grant=caller.id)
        return await self.store.read(lambda session: approvals.page(session, mine)[::-1])

    async def left(self, caller: Caller) -> Left:
        """What there is of the agent's calls."""
        effects = [call["params"]["arguments"]["who"] for call in self.server.calls].count(caller.id)
        states = [approval.state for approval in await self.approvals(caller)]
        return Left(states, await self.store.read(lambda session: _slots(session, caller)), effects)


def _let_in(tx: Transaction, person: Person) -> str:
    people.save(tx, "cli:test", person.email, person.roles, person.groups)
    return people.issue(tx, "cli:test", CredentialKind.TOKEN, person.email).secret


def _slots(session: Session, caller: Caller) -> tuple[int, int]:
    mine = {"counter": f"%{caller.id}%"}
    reserved = sa.text("SELECT count(*) FROM held_slots WHERE until IS NULL AND counter LIKE :counter")
    counted = sa.text("SELECT coalesce(sum(amount), 0) FROM counts WHERE counter LIKE :counter")
    held, ran = (session.connection().execute(query, mine).scalar_one() for query in (reserved, counted))
    return int(held), int(ran) // UNIT
