"""`broker serve`: the gateway, until it is stopped."""

from __future__ import annotations

import asyncio
import gc
import logging
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from broker import stop_points
from broker.cli import output, store
from broker.cli.arguments import AsJson, Config
from broker.cli.lasting import lasting
from broker.cli.people import LINK_LIFETIME
from broker.domain.people import Role

if TYPE_CHECKING:
    from broker.app import Broker
    from broker.settings import Settings

FIRST_PERSON = "admin@localhost"
"""Who is added while nobody exists, so that a fresh start can be used."""


def serve(config: Config = None, as_json: AsJson = False) -> None:
    """Run the broker until it is stopped (Ctrl-C or SIGTERM)."""
    import uvloop  # noqa: PLC0415 - slow to import

    uvloop.run(_serve(config, as_json=as_json))
    gc.freeze()  # all is closed: looking through a hundred thousand objects once more would take most of a second


async def _serve(config: Path | None, *, as_json: bool) -> None:
    async with AsyncExitStack() as stack:
        with lasting():
            from broker.app import running  # noqa: PLC0415 - everything is imported there

            _log()
            stop_points.arm()
            settings = store.settings(config)
            broker = await stack.enter_async_context(running(settings))
        stopped = asyncio.create_task(broker.until_stopped())  # hears signals before anybody is told that it runs
        link = await _first_link(broker)
        if as_json:
            output.say_json(_started(broker, settings, link))
        else:
            _tell(broker, settings, link)
        await stopped
        if not as_json:
            within = settings.server.stop_within.total_seconds()
            output.say(f"Stopping, within {within:g} s. Ctrl-C again stops at once.")


def _log() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("broker.upstream").setLevel(logging.INFO)  # what servers write to their stderr
    logging.getLogger("broker.approvals.policies").setLevel(logging.INFO)  # a policy that changed is told
    logging.getLogger("apscheduler").setLevel(logging.ERROR)  # ticks tell of their trouble themselves


async def _first_link(broker: Broker) -> str | None:
    """A sign-in link for a first administrator, while no person exists."""
    from broker.store import people  # noqa: PLC0415

    def work(tx: Any) -> str | None:
        if people.everyone(tx.session):
            return None
        person = people.save(tx, store.actor(), FIRST_PERSON, frozenset({Role.ADMIN}), frozenset())
        kind = people.CredentialKind.LINK
        return people.issue(tx, store.actor(), kind, person.email, lifetime=LINK_LIFETIME).secret

    secret = await broker.store.write(work, durable=True)
    return f"{broker.url}/sign-in?token={secret}" if secret else None


def _started(broker: Broker, settings: Settings, link: str | None) -> dict[str, Any]:
    return {
        "url": broker.url,
        "upstreams": {name: _policy(settings, name) for name in settings.upstreams},
        "store": _store(broker),
        "sign_in": link,
    }


def _tell(broker: Broker, settings: Settings, link: str | None) -> None:
    output.say(f"The broker is at {broker.url}")
    for name in settings.upstreams:
        policy = _policy(settings, name)
        judged = f"policy {policy}" if policy else "WARNING: no policy, so every call is held for a person"
        output.say(f"  {broker.url}/mcp/{name}  {judged}")
    if not settings.upstreams:
        output.say("  no upstream yet: add an [upstreams.NAME] table to broker.toml and start again")
    output.say(f"The record is in {_store(broker)}")
    if link is not None:
        output.say(f"Nobody was here yet, so {FIRST_PERSON} was added. Sign in once, within 15 minutes:")
        output.say(f"  {link}")
    output.say("Ctrl-C stops it.")


def _policy(settings: Settings, name: str) -> str | None:
    path = settings.policy_path(name)
    return str(path) if path is not None else None


def _store(broker: Broker) -> str:
    return broker.store.engine.url.render_as_string(hide_password=True)
