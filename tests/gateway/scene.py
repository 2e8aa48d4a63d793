"""A running broker with its people, agents and upstreams, as tests of the gateway see it.

What belongs here: starting one, real MCP clients, bare HTTP, and waiting for what the record says. What does not: any
statement about behaviour.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from broker.app import Broker, running
from broker.approvals.notices import Channel
from broker.domain.answers import META_KEY
from broker.domain.approvals import Approval, Decision
from broker.domain.audit import Row
from broker.domain.clock import Clock
from broker.domain.people import Grant, Person, Role
from broker.settings import Settings
from broker.store import audit, grants, people
from tests.servers import BOUND, PAUSE
from tests.sqlite import new_file

APPROVER = Person("boss@example.com", frozenset({Role.APPROVER}))
OWNER = "owner@example.com"
ERAS = ("legacy", "auto")
HOLD_ACT: dict[str, Any] = {"default": "allow", "tools": {"act": {"action": "hold"}}}
ENVELOPE: dict[str, Any] = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
CLIENT: dict[str, Any] = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}

LEGACY: dict[str, None] = dict.fromkeys(("MCP-Protocol-Version", "Mcp-Method", "Mcp-Name"))
"""Without these fields a request that has `_meta` is none of the stateless era."""


def modern(method: str, params: Mapping[str, Any] | None = None, request_id: int | str = 1) -> dict[str, Any]:
    """A request of the stateless era."""
    given = dict(params or {})
    given["_meta"] = {**ENVELOPE, **given.get("_meta", {})}
    return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": given}


def tool_call(
    tool: str, arguments: Mapping[str, Any] | None = None, request_id: int = 1, **meta: Any
) -> dict[str, Any]:
    """A `tools/call` of the stateless era."""
    return modern("tools/call", {"name": tool, "arguments": dict(arguments or {}), "_meta": meta}, request_id)


def modern_headers(message: Mapping[str, Any]) -> dict[str, str]:
    """The fields that go with a request of the stateless era."""
    fields = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": str(message["method"])}
    params = message["params"]
    name = params.get("name") or params.get("uri") or params.get("taskId")
    return {**fields, "Mcp-Name": str(name)} if name is not None else fields


def block(message: Mapping[str, Any]) -> dict[str, Any]:
    """The broker's block in a response to a call."""
    return message["result"]["_meta"][META_KEY]


def told(result: Any) -> dict[str, Any]:
    """The broker's block in a result that an SDK client parsed."""
    meta: dict[str, Any] = result.meta
    return meta[META_KEY]


def text(result: Any) -> str:
    """The words in a result that an SDK client parsed."""
    return "".join(part.text for part in result.content)


class Bare:
    """An answer over bare HTTP."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.status = response.status
        self.headers = response.headers

    async def whole(self) -> bytes:
        """The rest of its body."""
        return await asyncio.wait_for(self.response.read(), BOUND)

    async def message(self) -> dict[str, Any]:
        """Its last message, JSON or events."""
        body = await self.whole()
        if "event-stream" not in self.headers.get("content-type", ""):
            return json.loads(body)
        return json.loads([line[5:] for line in body.splitlines() if line.startswith(b"data:")][-1])

    async def line(self) -> bytes:
        """The next line of its body that is not empty; nothing at its end."""
        async with asyncio.timeout(BOUND):
            while line := await self.response.content.readline():
                if line.strip():
                    return line.strip()
        return b""

    async def event(self) -> dict[str, Any]:
        """The next message of a stream."""
        while not (line := await self.line()).startswith(b"data:"):
            assert line, "the stream ended"
        return json.loads(line[5:])

    def leave(self) -> None:
        """Close the connection without reading on."""
        self.response.close()


@dataclass
class Agent:
    """A grant in the hands of a client."""

    url: str
    grant: Grant
    token: str
    http: aiohttp.ClientSession

    def at(self, upstream: str) -> str:
        """The address of an upstream's endpoint."""
        return f"{self.url}/mcp/{upstream}"

    @contextlib.asynccontextmanager
    async def client(self, upstream: str, mode: str, **options: Any) -> AsyncGenerator[Client]:
        """A real client of the SDK."""
        async with create_mcp_http_client(headers={"Authorization": f"Bearer {self.token}"}) as http:
            transport = streamable_http_client(self.at(upstream), http_client=http, max_sse_event_size=64 << 20)
            async with Client(transport, mode=mode, **options) as client:  # pyright: ignore[reportArgumentType]
                yield client

    async def send(
        self,
        upstream: str,
        body: Any = None,
        headers: Mapping[str, str | None] | None = None,
        *,
        method: str = "POST",
        session: str | None = None,
    ) -> Bare:
        """Bare HTTP. A modern request gets its fields; a header that is None is left out."""
        fields: dict[str, str | None] = {
            "Authorization": f"Bearer {self.token}",
            "Accept": "application/json, text/event-stream",
            "Content-Type": "application/json",
        }
        if isinstance(body, dict) and "_meta" in body.get("params", {}):  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
            fields |= modern_headers(body)  # pyright: ignore[reportUnknownArgumentType]
        if session is not None:
            fields["Mcp-Session-Id"] = session
        sent = {name: value for name, value in (fields | dict(headers or {})).items() if value is not None}
        data: Any = json.dumps(body).encode() if isinstance(body, dict | list) else body
        async with asyncio.timeout(BOUND):
            return Bare(await self.http.request(method, self.at(upstream), data=data, headers=sent))

    async def call(self, upstream: str, tool: str, arguments: Mapping[str, Any] | None = None, **meta: Any) -> Bare:
        """A modern `tools/call`; returns when its answer begins."""
        return await self.send(upstream, tool_call(tool, arguments, **meta))

    async def open(self, upstream: str) -> str:
        """A legacy session; returns its id."""
        request = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": CLIENT}
        answer = await self.send(upstream, request)
        assert (await answer.message())["result"]["protocolVersion"] == "2025-11-25"
        session = answer.headers["mcp-session-id"]
        await self.send(upstream, {"jsonrpc": "2.0", "method": "notifications/initialized"}, session=session)
        return session


@dataclass
class Scene:
    """A broker and what can be done around it."""

    broker: Broker
    http: aiohttp.ClientSession
    rows: list[Row] = field(default_factory=list[Row])
    news: asyncio.Condition = field(default_factory=asyncio.Condition)
    _read: list[Row] = field(default_factory=list[Row])

    async def agent(
        self,
        *upstreams: str,
        label: str = "agent",
        owner: str = OWNER,
        expires_at: Any = None,
        patience: Any = None,
    ) -> Agent:
        """A new grant; without names it is for every upstream."""
        names = frozenset(upstreams or self.broker.policies)
        made = await self.broker.store.write(
            lambda tx: grants.create(
                tx, "cli:test", label=label, owner=owner, upstreams=names, expires_at=expires_at, patience=patience
            )
        )
        return Agent(self.broker.url, made.grant, made.token, self.http)

    async def person(self, person: Person) -> None:
        """Let somebody be known."""
        await self.broker.store.write(lambda tx: people.save(tx, "cli:test", person.email, person.roles, person.groups))

    async def revoke(self, agent: Agent) -> None:
        """End a grant."""
        await self.broker.store.write(lambda tx: grants.revoke(tx, "cli:test", agent.grant.id))

    async def happened(self, kind: str, agent: Agent, nth: int = 1) -> Row:
        """The `nth` row of this kind about an approval of the agent, as soon as the feed tells it."""

        def found() -> list[Row]:
            return [row for row in self.rows if row.kind.value == kind and row.grant == agent.grant.id]

        async with asyncio.timeout(BOUND), self.news:
            await self.news.wait_for(lambda: len(found()) >= nth)
        return found()[nth - 1]

    async def submitted(self, agent: Agent, nth: int = 1) -> str:
        """The id of the agent's `nth` approval, as soon as it is there."""
        row = await self.happened("approval.submitted", agent, nth)
        assert row.approval_id is not None
        return row.approval_id

    async def decide(
        self, approval_id: str, decision: Decision = Decision.APPROVE, *, reason: str | None = None
    ) -> Approval:
        """Say yes or no as the approver."""
        return await self.broker.approvals.reviews.review(approval_id, APPROVER, decision, channel="api", reason=reason)

    async def review(
        self, agent: Agent, decision: Decision = Decision.APPROVE, *, nth: int = 1, reason: str | None = None
    ) -> Approval:
        """Decide the agent's `nth` approval as soon as it is there."""
        return await self.decide(await self.submitted(agent, nth), decision, reason=reason)

    async def of(self, agent: Agent) -> list[Row]:
        """Every row of the agent's calls, oldest first."""
        seq = self._last()
        new = await self.broker.store.read(lambda session: audit.after(session, seq, sys.maxsize))
        self._read += [row for row in new if row.seq > self._last()]
        return [row for row in self._read if row.grant == agent.grant.id and not row.kind.value.startswith("grant.")]

    def _last(self) -> int:
        return self._read[-1].seq if self._read else 0

    async def kinds(self, agent: Agent) -> list[str]:
        """What was recorded of the agent's calls, oldest first."""
        return [row.kind.value for row in await self.of(agent)]

    async def recorded(self, agent: Agent, kind: str, nth: int = 1) -> Row:
        """The `nth` row of this kind of the agent, once it is written: outcomes are written behind the answer."""
        async with asyncio.timeout(BOUND):
            while True:
                rows = [row for row in await self.of(agent) if row.kind.value == kind]
                if len(rows) >= nth:
                    return rows[nth - 1]
                await asyncio.sleep(PAUSE)

    async def watch(self) -> None:
        """Take note of what the feed tells, until cancelled."""
        async for row in self.broker.feed.follow():
            async with self.news:
                self.rows.append(row)
                self.news.notify_all()


@contextlib.asynccontextmanager
async def playing(
    folder: Path,
    upstreams: Mapping[str, Mapping[str, Any]],
    *,
    approvals: Mapping[str, Any] | None = None,
    server: Mapping[str, Any] | None = None,
    clients: Mapping[str, Any] | None = None,
    slack: Mapping[str, Any] | None = None,
    clock: Clock | None = None,
    store: str | None = None,
    channels: Sequence[Channel] = (),
) -> AsyncGenerator[Scene]:
    """A broker with its store in `folder`, or at the url `store`.

    Args:
        upstreams: as in the settings, except that a `policy` is the document itself.
        server: as in the settings; without a port it takes a free one.
    """
    sections = {"approvals": approvals or {}, "server": server or {}, "clients": clients or {}}
    sections |= {"slack": slack} if slack is not None else {}
    path = folder / "broker.db"
    url = store or (f"sqlite:///{path}" if path.exists() else new_file(path))
    settings = _settings(folder, upstreams, sections, url)
    # agents outlive the broker
    async with aiohttp.ClientSession() as http, running(settings, clock, channels) as broker:
        scene = Scene(broker, http)
        await scene.person(APPROVER)
        watching = asyncio.ensure_future(scene.watch())
        try:
            yield scene
        finally:
            watching.cancel()
            await asyncio.wait([watching])


def _settings(
    folder: Path,
    upstreams: Mapping[str, Mapping[str, Any]],
    sections: Mapping[str, Mapping[str, Any]],
    store: str,
) -> Settings:
    configured: dict[str, Any] = {}
    for name, terms in upstreams.items():
        configured[name] = dict(terms)
        if isinstance(document := terms.get("policy"), dict):
            path = folder / f"{name}.policy.json"
            path.write_text(json.dumps({"version": "1", **document}))  # pyright: ignore[reportUnknownArgumentType]
            configured[name]["policy"] = str(path)
    secret = folder / "broker.secret"
    secret.write_text("s" * 64)
    secret.chmod(0o600)
    return Settings.model_validate(
        {
            **sections,
            "server": {"port": 0, "secret": f"file:{secret}", **sections["server"]},
            "store": {"url": store},
            "upstreams": configured,
        }
    )


class Repository:
    """A git repository with one commit."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self.git("init", "-q")
        self.git("config", "user.email", "agent@example.com")
        self.git("config", "user.name", "Agent")
        self.stage("first")
        self.git("commit", "-qm", "first")

    def git(self, *words: str) -> str:
        """Run git there."""
        done = subprocess.run(["git", "-C", str(self.path), *words], check=True, capture_output=True, text=True)
        return done.stdout

    def stage(self, content: str) -> None:
        """Something to commit."""
        (self.path / "file").write_text(content)
        self.git("add", ".")

    def log(self) -> list[str]:
        """The messages of all commits, newest first."""
        return self.git("log", "--format=%s").splitlines()
