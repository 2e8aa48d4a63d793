"""A broker as its own processes, between drivers of clients and an MCP server that counts what reached it.

What belongs here: starting it, ending it and starting it again, grants, decisions, and what its queue says. What does
not: what a scenario does (`plays`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from broker.domain.clock import SystemClock
from broker.domain.people import Person, Role
from broker.store import grants, people
from broker.store.people import CredentialKind
from broker.store.writer import Store, Transaction
from tests.crashes.process import BrokerProcess, serving
from tests.gateway.scene import OWNER
from tests.servers import BOUND
from tests.servers.scripted import Scripted, tool

ALICE = Person("alice@example.com", frozenset({Role.APPROVER}))
Message = dict[str, Any]

LIMIT = 5
"""Seconds that a client with a limit waits: less than people have for `act_soon`."""

LIMIT_AGAIN = 3 * LIMIT
"""Seconds that it waits when it makes the identical call: one that gives up unseen in the moment of the answer would be
told nothing, and ask anew, and on a slow machine that moment is wide."""

SOON = 9
"""Seconds that people have for `act_soon`: less than the broker's patience, and than both limits together."""

GRACE, PATIENCE = 8, 11
"""The broker's own `retry_grace` and `patience`, in seconds."""

APPROVALS = {
    "patience": f"{PATIENCE}s",
    "retry_grace": f"{GRACE}s",
    "max_pending": 1000,
    "max_per_hour": 10_000,
}
POLICY: Message = {
    "version": "1",
    "default": "allow",
    "tools": {
        "act": {"action": "hold"},
        "act_soon": {"action": "hold", "approval": {"timeout": f"{SOON}s"}},
    },
}


class Queue:
    """What people are shown of each call, which its arguments name: looked up when an event says that it changed."""

    def __init__(self) -> None:
        self._approvals: defaultdict[str, set[str]] = defaultdict(set)
        self._states: dict[str, str | None] = {}
        self._events: Counter[str] = Counter()
        self._news = asyncio.Condition()
        self.listens = asyncio.Event()  # what was submitted before is not known
        self._looking: set[asyncio.Task[None]] = set()

    async def until(self, broker: Broker, name: str, state: str | None, found: Callable[[Message], bool]) -> Message:
        """The only approval of a call, as soon as the API shows `found` of it; not looked up in another state."""
        seen, shown = -1, None
        try:
            async with asyncio.timeout(BOUND):
                while True:
                    async with self._news:
                        await self._news.wait_for(partial(self._has_news, name, seen, state))
                        (approval_id,) = self._approvals[name]
                        seen = self._events[approval_id]
                    shown = await broker.get(f"/api/v1/approvals/{approval_id}")
                    if found(shown):
                        return shown
        except TimeoutError:
            told = shown and (shown["state"], shown["caller"], [row["kind"] for row in shown["history"]])
            raise AssertionError(f"the queue does not show what it should: {told}") from None

    def _has_news(self, name: str, seen: int, state: str | None) -> bool:
        mine = self._approvals[name]
        return any(self._events[one] > seen and (state is None or self._states[one] in (state, None)) for one in mine)

    async def follow(self, broker: Broker) -> None:
        """Listen to its events, also when it goes away and comes back, until cancelled."""
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                await self._listen(broker)
            await asyncio.sleep(0.05)  # it is away

    async def _listen(self, broker: Broker) -> None:
        async with broker.http.get(
            f"{broker.people_url}/api/v1/events", headers=broker.fields, timeout=_ENDLESS
        ) as events:
            async for line in events.content:
                if line.startswith(b"data:"):
                    await self._take(broker, json.loads(line[5:]))

    async def _take(self, broker: Broker, event: Message) -> None:
        known = [*self._states]
        async with self._news:
            if "id" in event:
                self._states[event["id"]] = event["state"]
                self._events[event["id"]] += 1
            else:  # it begins, and each may have changed
                self.listens.set()
                self._states |= dict.fromkeys(known)
                self._events.update(known)
            self._news.notify_all()
        for new in self._states.keys() - known:
            looking = asyncio.ensure_future(self._learn_name(broker, new))
            self._looking.add(looking)
            looking.add_done_callback(self._looking.discard)

    async def _learn_name(self, broker: Broker, approval_id: str) -> None:
        approval = await broker.get(f"/api/v1/approvals/{approval_id}")
        async with self._news:
            self._approvals[approval["arguments"]["name"]].add(approval_id)
            self._news.notify_all()


_ENDLESS = aiohttp.ClientTimeout(total=None)


@dataclass
class Broker:
    """A broker whose process may end and be another one later.

    Args:
        store: the same one, for what the command line does.
        token: what Alice shows to the API.
        desk: a second folder, for a process beside it that people use; without one they use the same as the agents.
        people_url: where people decide.
    """

    folder: Path
    store_url: str
    store: Store
    http: aiohttp.ClientSession
    server: Scripted
    token: str
    desk: Path | None = None
    queue: Queue = field(default_factory=Queue)
    url: str = ""
    people_url: str = ""
    process: BrokerProcess | None = None
    _running: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    async def start(self) -> None:
        """Start a process, where the last one was if there was one."""
        self._furnish(self.folder, urlsplit(self.url).port or 0)
        self.process = await self._running.enter_async_context(serving(self.folder, {}))
        self.url = self.process.url
        if self.desk is None:
            self.people_url = self.url

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        """Run its processes, and what the queue listens to."""
        async with contextlib.AsyncExitStack() as beside:
            if self.desk is not None:
                self._furnish(self.desk, 0)
                self.people_url = (await beside.enter_async_context(serving(self.desk, {}))).url
            await self.start()
            following = asyncio.ensure_future(self.queue.follow(self))
            try:
                await asyncio.wait_for(self.queue.listens.wait(), BOUND)
                yield
            finally:
                following.cancel()
                await asyncio.wait([following])
                await self.end(kill=True)

    def _furnish(self, folder: Path, port: int) -> None:
        tables: dict[str, Mapping[str, Any]] = {
            "server": {"port": port},
            "store": {"url": self.store_url.replace("+psycopg", "")},
            "upstreams.one": {"url": self.server.url, "policy": "policy.json"},
            "approvals": APPROVALS,
        }
        lines = [
            line
            for name, table in tables.items()
            for line in (f"[{name}]", *(f"{key} = {json.dumps(table[key])}" for key in table))
        ]
        (folder / "broker.toml").write_text("\n".join(lines))
        (folder / "policy.json").write_text(json.dumps(POLICY))
        (folder / "broker.secret").write_text("s" * 64)
        (folder / "broker.secret").chmod(0o600)

    async def end(self, *, kill: bool) -> None:
        """End the process: as a crash does, or as an operator does."""
        assert self.process is not None
        if kill:
            self.process.kill()
        else:
            self.process.stop()
        await self.process.ended()
        await self._running.aclose()

    @property
    def fields(self) -> dict[str, str]:
        """What Alice's requests have."""
        return {"Authorization": f"Bearer {self.token}"}

    async def get(self, path: str) -> Message:
        """What the API tells Alice."""
        async with self.http.get(self.people_url + path, headers=self.fields) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def decide(self, approval: Message, decision: str, reason: str | None = None) -> None:
        """Alice says yes or no."""
        url = f"{self.people_url}/api/v1/approvals/{approval['id']}/decision"
        async with self.http.post(url, json={"decision": decision, "reason": reason}, headers=self.fields) as answer:
            assert answer.status == 200, await answer.text()

    async def grant(self, label: str) -> str:
        """The token of a new one."""
        names = frozenset({"one"})
        made = await self.store.write(
            lambda tx: grants.create(tx, "cli:test", label=label, owner=OWNER, upstreams=names, expires_at=None)
        )
        return made.token

    def effects(self, name: str) -> int:
        """How often a call reached the server."""
        return sum(call["params"]["arguments"]["name"] == name for call in self.server.calls)


@contextlib.asynccontextmanager
async def broker(folder: Path, store_url: str, server: Scripted, *, desk: Path | None = None) -> AsyncGenerator[Broker]:
    """One that runs, with its settings in `folder` and its record at `store_url`; with a `desk` as two processes."""
    server.tools = [tool(name) for name in ("act", "act_soon", "look")]
    store = Store(store_url, SystemClock())
    try:
        token = await store.write(_let_in)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
            made = Broker(folder, store_url, store, http, server, token, desk)
            async with made.open():
                yield made
    finally:
        store.close()


def _let_in(tx: Transaction) -> str:
    people.save(tx, "cli:test", ALICE.email, ALICE.roles, ALICE.groups)
    return people.issue(tx, "cli:test", CredentialKind.TOKEN, ALICE.email).secret
