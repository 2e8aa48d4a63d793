"""What `/readyz` says: whether the store, the policies and the ways to people work.

What belongs here: gathering it. What does not: showing it (`broker.web`), and what each part knows of its trouble.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from broker.approvals.outbox import Outbox
from broker.domain.audit import timestamp
from broker.errors import StoreError
from broker.policy.watch import InForce
from broker.store import audit
from broker.store.chain_watch import ChainWatch, Walk
from broker.store.writer import Store

if TYPE_CHECKING:
    from broker.store.presence import Presence

Channels = Mapping[str, Mapping[str, Any]]
"""How each channel fares, by its name: `ok`, and if it is not, `error` in one sentence and since when, if known."""


async def ready(
    store: Store,
    presence: Presence | None,
    policies: Mapping[str, InForce],
    channels: Callable[[], Awaitable[Channels]],
    chain: ChainWatch,
) -> dict[str, Any]:
    """Everything that may be in trouble; `status` is `failing` when calls cannot be recorded, so that none runs."""
    told: Channels = {}
    try:
        await store.write(lambda tx: audit.approvals_since(tx.session, audit.head(tx.session).seq))
        state = {"ok": True, "seq": (await store.read(audit.head)).seq}
        told = await channels()
    except StoreError as error:
        state = {"ok": False, "error": str(error)}
    deaf = presence.trouble if presence is not None else None
    refused = any(in_force.trouble is not None for in_force in policies.values())
    altered = chain.walk.trouble is not None
    troubled = refused or altered or deaf is not None or not all(channel["ok"] for channel in told.values())
    return {
        "status": "failing" if not state["ok"] else "degraded" if troubled else "ok",
        "store": state if deaf is None else {**state, "trouble": deaf},
        "policies": {name: one.present() for name, one in policies.items()},
        "channels": told,
        "chain": _chain(chain.walk),
    }


def _chain(walk: Walk) -> dict[str, Any]:
    verified = {"seq": walk.reached.seq, "at": timestamp(walk.at) if walk.at is not None else None}
    if walk.trouble is None:
        return {"ok": True, "verified": verified}
    return {"ok": False, "error": walk.trouble, "verified": verified}


async def channels(outboxes: Iterable[Outbox], troubles: Mapping[str, Callable[[], str | None]]) -> Channels:
    """How the channels fare.

    Args:
        troubles: what is wrong with the connection of a channel, if anything is, by the channel's name.

    Raises:
        StoreError: the store cannot be read.
    """
    return {outbox.channel.name: await _channel(outbox, troubles.get(outbox.channel.name)) for outbox in outboxes}


async def _channel(outbox: Outbox, connection: Callable[[], str | None] | None) -> dict[str, Any]:
    if (trouble := await outbox.trouble()) is not None:
        return {"ok": False, "error": trouble.sentence, "since": timestamp(trouble.since)}
    if connection is not None and (sentence := connection()) is not None:
        return {"ok": False, "error": sentence}
    return {"ok": True}
