"""Who decides: a person through a sign-in link, or, when the demo plays by itself, a program through the HTTP API."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import quote

import httpx2

from broker.app import Broker
from broker.domain.people import Role
from broker.store import people
from broker.store.people import CredentialKind

REVIEWER = "you@localhost"
REASON = "Lunch is not on the agenda"
"""What the program says when it rejects."""

_ACTOR = "cli:demo"


async def add_reviewer(broker: Broker) -> None:
    """Add the person who decides, and who may look at the record."""
    roles = frozenset({Role.APPROVER, Role.AUDITOR})
    await broker.store.write(lambda tx: people.save(tx, _ACTOR, REVIEWER, roles, frozenset()))


async def review_link(broker: Broker, approval_id: str, lifetime: timedelta) -> str:
    """A link that signs the reviewer in, once, and opens the card of an approval."""
    link = CredentialKind.LINK
    new = await broker.store.write(lambda tx: people.issue(tx, _ACTOR, link, REVIEWER, lifetime=lifetime))
    return f"{broker.url}/sign-in?token={new.secret}&next={quote(f'/approvals/{approval_id}')}"


async def decide(broker: Broker, approval_id: str, decision: str) -> None:
    """Approve or reject through the HTTP API, as `broker approvals` does.

    Raises:
        httpx2.HTTPError: the API did not take it.
    """
    token = CredentialKind.TOKEN
    new = await broker.store.write(lambda tx: people.issue(tx, _ACTOR, token, REVIEWER, label="demo"))
    headers = {"Authorization": f"Bearer {new.secret}"}
    async with httpx2.AsyncClient(base_url=broker.url, headers=headers, trust_env=False) as api:
        seen = (await api.get(f"/api/v1/approvals/{approval_id}")).raise_for_status().json()
        body = {
            "decision": decision,
            "revision": seen["revision"],
            "reason": REASON if decision == "reject" else None,
        }
        (await api.post(f"/api/v1/approvals/{approval_id}/decision", json=body)).raise_for_status()
