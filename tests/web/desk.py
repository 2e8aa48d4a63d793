"""What the tests of the web side sit at: the application, its parts, and clients that are signed in."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx2
from fastapi import FastAPI

from broker.approvals.feed import Feed
from broker.approvals.ledger import Rules
from broker.approvals.service import Approvals
from broker.domain.approvals import Approval
from broker.domain.calls import Action, Call, Requirement, Risk, Step, Verdict
from broker.domain.canonical import Keyring
from broker.domain.clock import Clock
from broker.domain.paths import parse_path
from broker.domain.people import GrantRef, Person, Role
from broker.policy.watch import InForce
from broker.store import grants, people
from broker.store.chain_watch import ChainWatch
from broker.store.people import CredentialKind
from broker.store.writer import Store
from broker.web import create_web
from broker.web.oidc.provider import Provider

URL = "http://127.0.0.1:8750"
DEFINITION = {"name": "git_push", "description": "Pushes commits."}

ROLES: dict[str, frozenset[Role]] = {
    "admin": frozenset({Role.ADMIN}),
    "approver": frozenset({Role.APPROVER}),
    "second": frozenset({Role.APPROVER}),
    "auditor": frozenset({Role.AUDITOR}),
    "policy_manager": frozenset({Role.POLICY_MANAGER}),
    "owner": frozenset(),
    "nobody": frozenset(),
}
"""Everybody there is, by the name before `@example.com`."""


@dataclass
class Desk:
    app: FastAPI
    store: Store
    approvals: Approvals
    feed: Feed
    keyring: Keyring
    readiness: dict[str, Any]
    channels: dict[str, dict[str, Any]]
    chain: ChainWatch
    in_force: dict[str, InForce]
    grant: GrantRef
    url: str
    following: asyncio.Task[None]
    calls: int = field(default=0)

    def client(self, address: str = "127.0.0.1", **headers: str) -> httpx2.AsyncClient:
        """A client that is nobody yet."""
        transport = httpx2.ASGITransport(app=self.app, client=(address, 5000))
        return httpx2.AsyncClient(transport=transport, base_url=self.url, headers=headers)

    async def secret(self, name: str, kind: CredentialKind) -> str:
        """A new link, session or token of somebody."""
        new = await self.store.write(
            lambda tx: people.issue(tx, "cli:test", kind, f"{name}@example.com", lifetime=timedelta(minutes=15))
        )
        return new.secret

    async def browser(self, name: str) -> httpx2.AsyncClient:
        """Somebody's browser, signed in."""
        client = self.client()
        client.cookies.set("broker_session", await self.secret(name, CredentialKind.SESSION))
        return client

    async def program(self, name: str) -> httpx2.AsyncClient:
        """Somebody's program, with an API token."""
        return self.client(Authorization=f"Bearer {await self.secret(name, CredentialKind.TOKEN)}")

    async def csrf(self, client: httpx2.AsyncClient) -> str:
        """The form token that the client's pages carry."""
        found = (await client.get("/")).text.split('name="csrf" value="', 1)[1]
        return found.split('"', 1)[0]

    async def hold(
        self,
        tool: str = "git_push",
        *,
        arguments: Any = None,
        requirement: Requirement | None = None,
        reason: str | None = "Writes to a shared branch",
        steps: tuple[Step, ...] = (),
        redact: tuple[str, ...] = (),
        risk: Risk = Risk.HIGH,
        **params: Any,
    ) -> Approval:
        """A call that is held now."""
        self.calls += 1
        given = {"name": tool, "arguments": {"branch": f"b{self.calls}"} if arguments is None else arguments, **params}
        paths = tuple(map(parse_path, redact))
        wanted = requirement or Requirement()
        verdict = Verdict(Action.HOLD, "tools.git_push.action", reason, risk, wanted, redact=paths, steps=steps)
        return await self.submit(Call(f"call_{self.calls}", "git", tool, given, self.grant), verdict)

    async def submit(self, call: Call, verdict: Verdict, **definition: Any) -> Approval:
        """Hold a call, or pick up what is open of it. Its tool is described as in `DEFINITION`, and so."""
        described = {**DEFINITION, "name": call.tool, **definition}
        held = await self.approvals.requests.submit(call, verdict, described)
        assert isinstance(held, Approval)
        return held

    async def ask_for_input(self, approval: Approval) -> Approval:
        """Let an approved call run until its tool asks for input."""
        return await self.approvals.claims.await_input(await self.claim(approval), "a state")

    async def go_on(self, approval: Approval) -> None:
        """Let the agent bring what the tool asked for."""
        verdict = Verdict(Action.HOLD, approval.rule)
        claims, definition = self.approvals.claims, approval.definition
        await claims.continue_with_input(approval.call, "a state", lambda _call: verdict, definition)

    async def claim(self, approval: Approval) -> Approval:
        """Let an approved call begin to run."""
        verdict = Verdict(Action.HOLD, approval.rule)
        claimed = await self.approvals.claims.claim(approval.id, lambda _call: verdict, approval.definition)
        assert isinstance(claimed, Approval)
        return claimed

    async def run(self, approval: Approval, result: Any) -> None:
        """Let an approved call run, with `result` as its server's answer."""
        await self.claim(approval)
        await self.approvals.claims.finish(approval.id, failed=False, result=result)


async def open_desk(store_url: str, clock: Clock, url: str = URL, provider: Provider | None = None) -> Desk:
    """A desk with everybody in `ROLES`, and perhaps a provider to sign in with."""
    store = Store(store_url, clock)
    keyring = Keyring([b"a secret of the tests, long enough"])
    feed = Feed(store)
    approvals = Approvals(store, clock, keyring, feed, Rules(max_pending=100))
    readiness: dict[str, Any] = {"status": "ok"}

    async def ready() -> dict[str, Any]:
        return readiness

    fares: dict[str, dict[str, Any]] = {}

    async def channels() -> dict[str, dict[str, Any]]:
        return fares

    in_force: dict[str, InForce] = {}
    chain = ChainWatch(store)
    app = create_web(
        store=store,
        approvals=approvals,
        feed=feed,
        clock=clock,
        keyring=keyring,
        public_url=url,
        in_force=in_force,
        ready=ready,
        channels=channels,
        chain=chain,
        provider=provider,
    )

    for name, roles in ROLES.items():
        await store.write(
            lambda tx, name=name, roles=roles: people.save(tx, "cli:test", f"{name}@example.com", roles, frozenset())
        )
    made = await store.write(
        lambda tx: grants.create(
            tx,
            "cli:test",
            label="release-bot",
            owner="owner@example.com",
            upstreams=frozenset({"git"}),
            expires_at=None,
        )
    )
    following = asyncio.create_task(feed.run())
    return Desk(app, store, approvals, feed, keyring, readiness, fares, chain, in_force, made.grant.ref, url, following)


async def close_desk(desk: Desk) -> None:
    desk.following.cancel()
    await asyncio.wait({desk.following})
    desk.store.close()


def person(name: str) -> Person:
    """Somebody in `ROLES`."""
    return Person(f"{name}@example.com", ROLES[name])
