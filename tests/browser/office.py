"""A broker in the middle of its day, for what looks at all of its pages: agents wait, people have decided, calls ran.

What belongs here: the people, the agents, what they asked, and a browser of somebody who is signed in. What does not:
what is expected of a page.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page

from broker.domain.approvals import Decision
from broker.domain.audit import Kind
from broker.domain.people import Person, Role
from broker.store import people
from broker.store.people import CredentialKind
from tests.gateway.scene import Agent, Scene, playing
from tests.servers.scripted import scripted, tool

ALICE = Person("alice@example.com", frozenset({Role.ADMIN, Role.APPROVER}))
BOB = Person("bob@example.com", frozenset({Role.APPROVER}))
SIZES = {"wide": (1280, 800), "phone": (390, 844)}

_GIT = {
    "default": "hold",
    "tools": {
        "git_log": {"action": "allow"},
        "git_push": {
            "action": "hold",
            "risk": "high",
            "reason": "Writes to a shared branch.",
            "approval": {"quorum": 2},
        },
        "git_reset": {"action": "hold", "risk": "critical", "reason": "Throws work away."},
        "git_clean": {"action": "deny"},
    },
}
_MAIL = {
    "default": "hold",
    "tools": {"send_mail": {"action": "hold", "risk": "medium", "reason": "Leaves the house."}},
}
_LETTER = "Dear Ann,\n\nthe release of Friday is moved to Monday.\n\nKind regards"
_PUSH = {"remote": "origin", "branch": "main", "force": False, "message": "Correct the tax of split invoices"}
_RESET = {"target": "origin/main", "mode": "hard", "paths": ["billing/", "invoices/"], "options": {"keep_index": False}}
_MAILED = {"to": "ann@example.com", "subject": "The release", "body": _LETTER}


@dataclass
class Office:
    """A scene, and which of its approvals is what."""

    scene: Scene
    pending: str
    critical: str
    decided: str
    left: str

    async def row(self) -> int:
        """The number of the audit row of the call that ran."""
        rows = [row for row in self.scene.rows if row.approval_id == self.decided]
        return next(row.seq for row in rows if row.kind is Kind.APPROVAL_APPROVED)

    async def sign_in(self, page: Page, person: Person = ALICE) -> None:
        """As somebody whom the broker knows."""
        issued = await self.scene.broker.store.write(
            lambda tx: people.issue(
                tx,
                "cli:test",
                CredentialKind.SESSION,
                person.email,
                label="Firefox on Linux",
                lifetime=timedelta(hours=12),
            )
        )
        await page.context.add_cookies(
            [{"name": "broker_session", "value": issued.secret, "url": self.scene.broker.url}]
        )

    @contextlib.asynccontextmanager
    async def opened(self, browser: Browser, size: str, **options: Any) -> AsyncGenerator[Page]:
        """A page in a browser of its own in which Alice is signed in; options as Playwright's for a context."""
        width, height = SIZES[size]
        address = self.scene.broker.url
        context = await browser.new_context(viewport={"width": width, "height": height}, base_url=address, **options)
        page = await context.new_page()
        await self.sign_in(page)
        try:
            yield page
        finally:
            await context.close()


@contextlib.asynccontextmanager
async def furnished(folder: Path) -> AsyncGenerator[Office]:
    """An office whose store is in `folder`."""
    async with scripted() as git, scripted() as mail:
        risky = {"destructiveHint": True, "readOnlyHint": False}
        push = tool("git_push", "Pushes the commits of a branch to a remote.", annotations=risky)
        reset = tool("git_reset", "Moves a branch, and with mode hard throws away what is not committed.")
        git.tools = [push, reset, *map(tool, ("git_log", "git_clean", "git_commit"))]
        mail.tools = [tool("send_mail", "Sends a message.")]
        upstreams = {"git": {"url": git.url, "policy": _GIT}, "mail": {"url": mail.url, "policy": _MAIL}}
        async with playing(folder, upstreams) as scene:
            for person in (ALICE, BOB):
                await scene.person(person)
            yield await _a_day(scene)


async def _a_day(scene: Scene) -> Office:
    release = await scene.agent(label="release-bot", owner="carol@example.com")
    support = await scene.agent(label="support-assistant", owner="dan@example.com")
    for name in ("git_log", "git_clean"):
        await (await release.call("git", name, {"path": "billing/"})).message()
    no = asyncio.create_task(_asked(support, "mail", "send_mail", {**_MAILED, "to": "all@example.com"}))
    await scene.review(support, Decision.REJECT, reason="Not to everybody at once. Ask Ann alone.")
    await no
    yes = asyncio.create_task(_asked(release, "git", "git_commit", {"message": _PUSH["message"], "all": True}))
    decided = (await scene.review(release)).id
    await yes
    await scene.recorded(release, "approval.succeeded")
    gone = await support.call("mail", "send_mail", {**_MAILED, "to": "press@example.com"})
    left = await scene.submitted(support, 2)
    gone.leave()
    await scene.happened("approval.abandoned", support)
    await release.call("git", "git_reset", _RESET)
    critical = await scene.submitted(release, 2)
    await support.call("mail", "send_mail", _MAILED)
    await scene.submitted(support, 3)
    await release.call("git", "git_push", _PUSH)
    pending = await scene.submitted(release, 3)
    await scene.broker.approvals.reviews.review(pending, BOB, Decision.APPROVE, channel="web")
    return Office(scene, pending, critical, decided, left)


async def _asked(agent: Agent, upstream: str, name: str, arguments: dict[str, Any]) -> None:
    """A call from its beginning to its end."""
    await (await agent.call(upstream, name, arguments)).message()
