"""What `/readyz` says: whether the store, the policies and the ways to people work.

What belongs here: gathering it. What does not: showing it (`broker.web`), and what each part knows of its trouble.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from broker.approvals.outbox import Outbox
from broker.domain.audit import timestamp
from broker.errors import StoreError
from broker.policy.watch import InForce
from broker.store import audit
from broker.store.chain_watch import ChainWatch, Walk
from broker.store.presence import Presence
from broker.store.writer import Store
from broker.web.policies import present_of


async def ready(
    store: Store, presence: Presence | None, policies: dict[str, InForce], outboxes: Sequence[Outbox], chain: ChainWatch
) -> dict[str, Any]:
    """Everything that may be in trouble; `status` is `failing` when calls cannot be recorded, so that none runs."""
    try:
        await store.write(lambda tx: audit.approvals_since(tx.session, audit.head(tx.session).seq))
        state = {"ok": True, "seq": (await store.read(audit.head)).seq}
        channels = {outbox.channel.name: await _channel(outbox) for outbox in outboxes}
    except StoreError as error:
        state, channels = {"ok": False, "error": str(error)}, {}
    deaf = presence.trouble if presence is not None else None
    refused = any(in_force.trouble is not None for in_force in policies.values())
    altered = chain.walk.trouble is not None
    troubled = refused or altered or deaf is not None or not all(channel["ok"] for channel in channels.values())
    return {
        "status": "failing" if not state["ok"] else "degraded" if troubled else "ok",
        "store": state if deaf is None else {**state, "trouble": deaf},
        "policies": {name: present_of(one) for name, one in policies.items()},
        "channels": channels,
        "chain": _chain(chain.walk),
    }


def _chain(walk: Walk) -> dict[str, Any]:
    verified = {"seq": walk.reached.seq, "at": timestamp(walk.at) if walk.at is not None else None}
    if walk.trouble is None:
        return {"ok": True, "verified": verified}
    return {"ok": False, "error": walk.trouble, "verified": verified}


async def _channel(outbox: Outbox) -> dict[str, Any]:
    if (trouble := await outbox.trouble()) is None:
        return {"ok": True}
    return {"ok": False, "error": trouble.sentence, "since": timestamp(trouble.since)}
