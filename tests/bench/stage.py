"""A broker in a process of its own, with a fast upstream, its agents and a reviewer; unless told else it holds all."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson

from broker.domain.approvals import State
from broker.domain.clock import SystemClock
from broker.domain.people import Role
from broker.store import approvals, grants, people
from broker.store.approvals import ApprovalFilter
from broker.store.grants import NewGrant
from broker.store.people import CredentialKind
from broker.store.writer import Store, Transaction
from tests.bench.answers import TOOL
from tests.bench.callers import Caller, hold
from tests.bench.processes import BROKER, MODULE, configured, start
from tests.bench.requests import call, http_request, opened

PER_GRANT = 20
"""Calls of one agent that are held, the default of `approvals.max_pending`."""

HELD_WITHIN = 120.0
"""Seconds from the first signs of calls until all of them are held."""

REVIEWER, OWNER = "reviewer@example.com", "owner@example.com"
POLICY = {"version": "1", "default": "deny", "tools": {TOOL: {"action": "hold", "reason": "Looks into files"}}}


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of client: its protocol revision, and whether it asks for progress."""

    revision: str
    progress: bool

    def __str__(self) -> str:
        return f"{self.revision}, {'progress' if self.progress else 'comments'}"


class Broker:
    """A broker in a process of its own, its agents, and a reviewer."""

    def __init__(self, url: str, pid: int, store: Store, http: aiohttp.ClientSession) -> None:
        self._api = f"{url}/api/v1/approvals"
        self._url = f"{url}/mcp/fast"
        self.pid = pid
        self._store = store
        self._http = http
        self._agents: list[tuple[str, dict[str, str]]] = []  # a grant and what its calls have to say
        self._numbers = itertools.count()

    async def target(self) -> dict[str, Any]:
        """Where the calls of one more agent go, as a job says it."""
        return {"url": self._url, "token": (await self._grant("load")).token, "charged": self.pid}

    async def listen(self, pages: int) -> list[Caller]:
        """Open the queue in so many browsers of the reviewer, and leave it open."""
        issue = partial(people.issue, kind=CredentialKind.SESSION, email=REVIEWER, lifetime=timedelta(hours=1))
        made = await self._store.write(lambda tx: [issue(tx, "cli:bench").secret for _ in range(pages)])
        head = f"GET /queue/events HTTP/1.1\r\nHost: {urlsplit(self._url).netloc}\r\nCookie: broker_session="
        return await hold(self._url, [f"{head}{secret}\r\n\r\n".encode() for secret in made], lambda: None)

    async def hold(self, kind: Kind, more: int, heard: Callable[[], None]) -> dict[int, Caller]:
        """Have so many more calls held; their callers by their numbers."""
        numbers = list(itertools.islice(self._numbers, more))
        while len(self._agents) * PER_GRANT <= numbers[-1]:
            await self._add_agent(kind.revision)
        requests = {self._request(kind, number): number for number in numbers}
        callers = await hold(self._url, requests, heard)
        return {requests[caller.request]: caller for caller in callers}

    async def until_held(self, many: int) -> None:
        """Return when so many calls are held: where that takes longer, a caller hears something before."""
        wanted = ApprovalFilter(states=(State.PENDING,))
        async with asyncio.timeout(HELD_WITHIN):
            while await self._store.read(lambda session: approvals.count(session, wanted)) < many:  # noqa: ASYNC110
                await asyncio.sleep(0.05)  # another process holds them

    async def pending(self, most: int) -> list[str]:
        """Ids of approvals that wait, the newest first."""
        found: list[str] = []
        query = {"state": "pending"}
        while len(found) < most:
            async with self._http.get(self._api, params=query) as answer:
                page: dict[str, Any] = await answer.json()
            found += [item["id"] for item in page["items"]]
            if page["next"] is None:
                break
            query["cursor"] = page["next"]
        return found[:most]

    async def approve(self, approval: str) -> int:
        """Returns the number of the caller."""
        async with self._http.post(f"{self._api}/{approval}/decision", json={"decision": "approve"}) as answer:
            return orjson.loads(await answer.read())["arguments"]["number"]

    async def revoke_all(self) -> None:
        """End every grant at once."""
        ids = [grant for grant, _ in self._agents]
        await self._store.write(lambda tx: [grants.revoke(tx, "cli:bench", grant) for grant in ids])

    async def _add_agent(self, revision: str) -> None:
        made = await self._grant(f"agent {len(self._agents) + 1}")
        self._agents.append((made.grant.id, await opened(self._http, self._url, revision, made.token)))

    async def _grant(self, label: str) -> NewGrant:
        terms: dict[str, Any] = {"label": label, "owner": OWNER, "upstreams": frozenset({"fast"}), "expires_at": None}
        return await self._store.write(lambda tx: grants.create(tx, "cli:bench", **terms))

    def _request(self, kind: Kind, number: int) -> bytes:
        meta = {"progressToken": f"token-{number}"} if kind.progress else {}
        _, fields = self._agents[number // PER_GRANT]
        return http_request(self._url, fields, call(kind.revision, number + 1, {"number": number}, meta))


@contextlib.asynccontextmanager
async def broker_of(
    folder: Path, store_url: str | None = None, policy: Mapping[str, Any] = POLICY, tools: int = 1
) -> AsyncGenerator[Broker]:
    """One on SQLite in `folder`, or at `store_url`, before a fast upstream that has so many tools."""
    store_url = store_url or f"sqlite:///{folder / 'broker.db'}"
    (folder / "policy.json").write_bytes(orjson.dumps(policy))
    async with contextlib.AsyncExitStack() as stack:
        _, upstream = await start(stack, *MODULE, "tests.bench.http_upstream", str(tools))
        config = configured(
            folder,
            f'[server]\nport = 0\n[store]\nurl = "{store_url}"\n[upstreams.fast]\nurl = "{upstream}"\n'
            'policy = "policy.json"\n[approvals]\ntimeout = "3h"\nmax_per_hour = 1000000000\npatience = "3h"\n',
        )
        store = Store(store_url, SystemClock())
        stack.callback(store.close)
        token = await store.write(_reviewer)
        process, said = await start(stack, *BROKER, "serve", "--json", "--config", str(config))
        connector = aiohttp.TCPConnector(limit=0)
        http = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {token}"}, connector=connector, raise_for_status=True
        )
        await stack.enter_async_context(http)
        yield Broker(orjson.loads(said)["url"], process.pid, store, http)


def _reviewer(tx: Transaction) -> str:
    people.save(tx, "cli:bench", REVIEWER, frozenset({Role.APPROVER}), frozenset())
    return people.issue(tx, "cli:bench", CredentialKind.TOKEN, REVIEWER, label="bench").secret
